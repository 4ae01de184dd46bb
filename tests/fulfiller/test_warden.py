"""A provider's state goes through the log: every worker follows it, the owner of partition 0 ends it."""

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final

import pytest

from schemas.commands import ResumeProvider, SuspendProvider
from schemas.fulfillment import FulfillmentAttempted
from schemas.providers import By, ProviderState
from schemas.topics import FULFILLMENT_PROVIDERS
from services.fulfiller.log import LogError, Source
from services.fulfiller.outage import PROBE_INTERVAL_S
from services.fulfiller.providers.port import OutcomeClass
from services.partition import home_partition
from tests.fulfiller.stage import PHONE, Stage, virtual
from tests.memory_log import Fate, MemoryReader, MemoryRecord

OTHER: Final = "+233244999999"


def at_home(stage: Stage, partition: int, phone: str = PHONE) -> str:
    """An order of that partition."""
    while home_partition(order_id := str(uuid.uuid4()), stage.partitions) != partition:
        continue
    return stage.buy(order_id, phone)


@virtual
async def test_what_one_worker_meets_stops_all_and_is_over_for_all() -> None:
    async with Stage(partitions=2) as stage:
        other = stage.other_worker()
        await stage.shard(0)
        await stage.shard(1, other)
        stage.provider.truth.available_mb = 0
        stage.provider.will(OutcomeClass.SUSPENDED)
        met = at_home(stage, 1)
        await stage.until(lambda: stage.lane.suspended_because)
        assert other.lanes["memory"].suspended_because
        calls = len(stage.provider.sent)
        waiting = [at_home(stage, partition, OTHER) for partition in (0, 1) for _ in range(20)]
        await stage.goes_on(600)
        assert len(stage.provider.sent) == calls == 1
        assert stage.types(met) == ["Requested", "Attempted", "AttemptVoided"]
        stage.provider.truth.available_mb = 10**6
        await stage.until(stage.ended(met, *waiting), within_s=30)
        for order_id in (met, *waiting):
            attempts = [event for event in stage.events(order_id) if isinstance(event, FulfillmentAttempted)]
            assert {event.attempt for event in attempts} == {1}, "none is spent"
        assert [said.state for said in stage.standings()][-1] is ProviderState.UP


@virtual
async def test_probes_are_one_an_interval_whoever_owns_partition_0() -> None:
    async with Stage() as stage:
        shard = await stage.shard()
        stage.provider.truth.available_mb = 0
        stage.provider.will(OutcomeClass.SUSPENDED)
        order_id = stage.buy()
        await stage.until(lambda: stage.lane.suspended_because)
        asked = stage.provider.balance_asked
        before = len(asked)
        for _ in range(4):
            await stage.goes_on(PROBE_INTERVAL_S * 2.3)
            await stage.crash(shard)
            shard = await stage.shard()
        probes = asked[before:]
        assert len(probes) == 8
        assert min(b - a for a, b in pairwise(probes)) >= PROBE_INTERVAL_S - 0.01
        stage.provider.truth.available_mb = 10**6
        await stage.until(stage.ended(order_id), within_s=PROBE_INTERVAL_S + 1)


@virtual
async def test_of_several_partitions_one_probes() -> None:
    async with Stage(partitions=2) as stage:
        other = stage.other_worker()
        await stage.shard(0)
        await stage.shard(1, other)
        stage.provider.truth.available_mb = 0
        stage.provider.will(OutcomeClass.SUSPENDED)
        at_home(stage, 1)
        await stage.until(lambda: stage.lane.suspended_because)
        before = len(stage.provider.balance_asked)
        await stage.goes_on(PROBE_INTERVAL_S * 4.5)
        assert len(stage.provider.balance_asked) - before == 4


@pytest.mark.parametrize("fate", [Fate.ABORTED, Fate.UNKNOWN])
@virtual
async def test_what_could_not_be_written_is_written_by_the_next(fate: Fate) -> None:
    async with Stage() as stage:
        stage.provider.truth.available_mb = 0
        shard = await stage.shard()
        await stage.until(stage.standings)
        stage.provider.will(OutcomeClass.SUSPENDED)
        order_id = stage.buy()
        await stage.until(lambda: "Attempted" in stage.types(order_id))
        stage.log.fates.append(fate)
        await stage.again(shard)
        await stage.until(lambda: any(said.state is ProviderState.SUSPENDED for said in stage.standings()), within_s=60)
        stage.provider.truth.available_mb = 10**6
        await stage.until(stage.ended(order_id), within_s=3600)


@virtual
async def test_an_operator_suspends_and_only_an_operator_resumes() -> None:
    async with Stage(partitions=2) as stage:
        other = stage.other_worker()
        await stage.shard(0)
        await stage.shard(1, other)
        command_id = stage.provider_command(SuspendProvider)
        await stage.until(lambda: stage.lane.suspended_because)
        order_id = at_home(stage, 1)
        await stage.goes_on(3600)
        assert (stage.types(order_id), stage.provider.sent) == (["Requested"], [])
        last = stage.standings()[-1]
        assert (last.by, last.actor, last.command_id, last.why) == (By.OPERATOR, "ama", command_id, "ticket 4711")
        stage.provider_command(ResumeProvider, partition=1)
        await stage.until(stage.ended(order_id), within_s=5)
        assert stage.standings()[-1].state is ProviderState.UP, "found away from home, it was sent there"


@virtual
async def test_what_a_worker_wrote_that_had_not_heard_of_the_operator_is_overruled() -> None:
    async with Stage() as stage:
        await stage.shard()
        stage.provider_command(SuspendProvider)
        await stage.until(lambda: stage.lane.suspended_because)
        operator_s = stage.standings()[-1]
        late = operator_s.model_copy(update={"by": By.PROVIDER, "why": "E", "since": stage.clock.now()})
        stage.log.append(FULFILLMENT_PROVIDERS, 0, b"memory", late.model_dump_json(exclude_none=True).encode())
        await stage.goes_on(1)
        last = stage.standings()[-1]
        assert (last.by, last.actor, last.why) == (By.OPERATOR, "ama", "ticket 4711")
        assert len(stage.standings()) == 4, "the balance, the operator's, the late one, and once what holds"


@virtual
async def test_a_command_about_a_provider_that_there_is_not_is_a_dead_letter() -> None:
    async with Stage(partitions=2) as stage:
        await stage.shard(0)
        await stage.shard(1)
        stage.provider_command(SuspendProvider, "mtn", partition=1)
        await stage.until(stage.dead_letters)
        assert [reason for reason, _ in stage.dead_letters()] == ["unknown_provider"]
        assert stage.lane.suspended_because is None


@virtual
async def test_a_worker_that_starts_knows_who_is_suspended_before_it_has_orders() -> None:
    async with Stage() as stage:
        shard = await stage.shard()
        stage.provider_command(SuspendProvider)
        await stage.until(lambda: stage.lane.suspended_because)
        await stage.end(shard)
        order_id = stage.buy()
        other = stage.other_worker()
        await asyncio.sleep(0.1)
        await stage.shard(0, other)
        await stage.goes_on(60)
        assert stage.types(order_id) == ["Requested"]
        stage.provider_command(ResumeProvider)
        await stage.until(stage.ended(order_id), within_s=5)


@virtual
async def test_who_loses_the_log_and_finds_it_again_is_not_told_of_the_past(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Stage() as stage:
        shard = await stage.shard()
        for kind in (SuspendProvider, ResumeProvider, SuspendProvider):
            stage.provider_command(kind)
            await stage.goes_on(1)
        await stage.until(lambda: stage.lane.suspended_because)
        heard: list[ProviderState] = []
        stage.lane.listen(lambda changed: heard.append(changed.state))
        poll = MemoryReader.poll

        async def broken(reader: MemoryReader, timeout_s: float) -> Mapping[Source, Sequence[MemoryRecord]]:
            monkeypatch.setattr(MemoryReader, "poll", poll)
            raise LogError("the broker is gone")

        await stage.end(shard)  # so that the bulletin alone reads
        monkeypatch.setattr(MemoryReader, "poll", broken)
        stage.log.append(FULFILLMENT_PROVIDERS, 0, b"memory", None)  # wakes it
        await stage.goes_on(5)
        assert MemoryReader.poll is poll, "it was broken once"
        assert (heard, bool(stage.lane.suspended_because)) == ([], True)
