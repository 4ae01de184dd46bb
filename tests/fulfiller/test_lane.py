"""The way to a provider: slots, shares, pace, suspension, and the ramp after it."""

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from schemas.providers import By, ProviderChanged, ProviderState
from services.fulfiller.lane import MAX_PAUSE_S, Lane
from services.fulfiller.outage import FAULTS_TO_SUSPEND
from services.fulfiller.pacing import spacing_s
from services.fulfiller.providers.memory import MemoryProvider
from services.fulfiller.providers.port import Outcome, OutcomeClass
from tests.fulfiller.stage import virtual
from tests.virtual_time import BEGIN, VirtualClock

FAULT = Outcome(OutcomeClass.NOT_SENT)
NO_BALANCE = Outcome(OutcomeClass.SUSPENDED, code="INSUFFICIENT_BALANCE")
GOOD = Outcome(OutcomeClass.DELIVERED, code="OK")


class Shard:
    """One that wants `wanted` slots and takes them whenever it is woken, as soon as the loop gets to it."""

    def __init__(self, lane: Lane, wanted: int, partition: int = 0, doubtful: int = 0) -> None:
        self.lane = lane
        self.wanted = wanted
        self.taken = 0
        self.most = 0
        self.wake: Callable[[], None] = self._wake
        lane.open(self.wake, partition, fenced_at_s=0.0, doubtful=doubtful, doubts_end_s=30.0)

    def _wake(self) -> None:
        asyncio.get_running_loop().call_soon(self.begin)

    def begin(self) -> None:
        while self.wanted and self.lane.take(self.wake):
            self.wanted -= 1
            self.taken += 1
            self.most = max(self.most, self.taken)
        if not self.wanted:
            self.lane.leave(self.wake)

    def end(self, calls: int) -> None:
        for _ in range(min(calls, self.taken)):
            self.taken -= 1
            self.lane.release(self.wake)


def lane(**changes: Any) -> tuple[Lane, MemoryProvider, VirtualClock]:
    clock = VirtualClock()
    provider = MemoryProvider(monotonic_s=clock.monotonic_s, wall_s=clock.wall_s)
    return Lane(provider, clock, **{"max_in_flight": 12} | changes), provider, clock


@virtual
async def test_no_more_calls_than_there_are_slots() -> None:
    way, _, _ = lane()
    shard = Shard(way, 100)
    shard.begin()
    assert (way.in_flight, shard.taken) == (12, 12)
    shard.end(5)
    await asyncio.sleep(0)
    assert way.in_flight == 12


@pytest.mark.parametrize("shards", [2, 3, 5, 12, 20])
@virtual
async def test_everybody_who_waits_gets_a_part(shards: int) -> None:
    way, _, _ = lane()
    hungry = Shard(way, 10_000)
    hungry.begin()
    others = [Shard(way, 50) for _ in range(shards - 1)]
    for other in others:
        other.begin()
    rounds = 0
    while any(other.wanted or other.taken for other in others):
        rounds += 1
        for shard in (hungry, *others):
            shard.end(1)
        for _ in range(3):
            await asyncio.sleep(0)
        assert way.in_flight <= way.capacity
    # Each of them asks for 50 of what 12 slots give to all of them.
    assert rounds <= 50 * shards
    assert hungry.wanted > 0
    hungry.end(12)
    await asyncio.sleep(0)
    assert hungry.taken == 12, "and who is left has it all"


@virtual
async def test_no_slot_is_idle_while_somebody_waits() -> None:
    way, _, _ = lane()
    first, second = Shard(way, 1000), Shard(way, 3)
    first.begin()
    second.begin()
    for _ in range(50):
        first.end(2)
        second.end(2)
        for _ in range(3):
            await asyncio.sleep(0)
    assert second.wanted == 0
    assert way.in_flight == 12


@pytest.mark.parametrize("limit", [4, 5, 6, 7, 8, 50])
@virtual
async def test_the_provider_s_own_limit_is_that_of_all_partitions_together(limit: int) -> None:
    workers = [lane(provider_max_in_flight=limit, partitions=4, max_in_flight=256)[0] for _ in range(3)]
    shards = [Shard(workers[partition % 3], 100, partition) for partition in range(4)]
    for shard in shards:
        shard.begin()
    assert sum(way.in_flight for way in workers) == limit
    assert max(shard.taken for shard in shards) - min(shard.taken for shard in shards) <= 1
    shards[0].end(1)
    await asyncio.sleep(0)
    assert sum(way.in_flight for way in workers) == limit, "and one that is given back is taken again"


@virtual
async def test_a_partition_gained_has_no_more_calls_than_its_last_owner_has_left_over() -> None:
    way, _, _ = lane(provider_max_in_flight=16, partitions=4, max_in_flight=256)
    shard = Shard(way, 100, partition=1, doubtful=3)
    shard.begin()
    assert shard.taken == 1, "three of its four may be under way yet"
    await asyncio.sleep(29.9)
    assert shard.taken == 1
    await asyncio.sleep(0.2)
    assert shard.taken == 4, "until no call of the last owner can be"


@virtual
async def test_a_partition_lost_gives_nothing_to_the_others_of_its_worker() -> None:
    way, _, _ = lane(provider_max_in_flight=8, partitions=2, max_in_flight=256)
    first, second = Shard(way, 100, 0), Shard(way, 0, 1)
    first.begin()
    way.close(second.wake)
    first.begin()
    assert first.taken == 4


@pytest.mark.parametrize(("rate_per_s", "calls"), [(20.0, 200), (50.0, 500), (3.0, 30), (7.5, 60)])
@virtual
async def test_the_provider_s_pace_is_kept(rate_per_s: float, calls: int) -> None:
    sent: list[float] = []
    clock = VirtualClock()
    ways = [lane(rate_per_s=rate_per_s, partitions=4, max_in_flight=1000)[0] for _ in range(2)]
    shards = [Shard(ways[partition % 2], calls // 4, partition) for partition in range(4)]

    async def send(shard: Shard) -> None:
        await shard.lane.pace(shard.wake)
        sent.append(clock.monotonic_s())

    tasks: list[asyncio.Task[None]] = []
    known = Counter[Shard]()
    for shard in shards:
        shard.begin()
    while len(sent) < calls // 4 * 4:
        for shard in shards:
            tasks += [asyncio.create_task(send(shard)) for _ in range(shard.taken - known[shard])]
            known[shard] = shard.taken
        await asyncio.sleep(0.013)
    sent.sort()
    window_s = max(1.0, 4 / rate_per_s)
    assert max(sum(begin <= at < begin + window_s for at in sent) for begin in sent) <= rate_per_s * window_s
    assert sent[-1] <= calls // 4 * spacing_s(rate_per_s, 3, 4) + 0.5
    await asyncio.gather(*tasks)


@virtual
async def test_turned_away_is_a_pause_for_all_and_a_bounded_one() -> None:
    way, _, _ = lane()
    shard = Shard(way, 1)
    way.observe(Outcome(OutcomeClass.TURNED_AWAY, retry_after_s=3600.0), 0)
    shard.begin()
    await asyncio.sleep(MAX_PAUSE_S - 0.01)
    assert shard.taken == 0
    await asyncio.sleep(0.02)
    assert shard.taken == 1


def said(state: ProviderState, at_s: float, by: By = By.PROVIDER) -> ProviderChanged:
    at = BEGIN + timedelta(seconds=at_s)
    return ProviderChanged(provider="memory", state=state, by=by, why=None if state == "up" else "E", since=at, at=at)


@virtual
async def test_an_empty_balance_suspends_at_once_and_the_ramp_after_it_doubles() -> None:
    way, _, clock = lane()
    shards = [Shard(way, 100, 0), Shard(way, 100, 1)]
    way.observe(NO_BALANCE, 0, 1000)
    for shard in shards:
        shard.begin()
    assert (way.suspended_because, way.in_flight) == ("INSUFFICIENT_BALANCE", 0)
    written = way.say(clock.now())
    assert written is not None
    assert (written.why, written.needs_mb, way.say(clock.now())) == ("INSUFFICIENT_BALANCE", 1000, None)
    way.unsaid()
    assert way.say(clock.now()) is not None, "where it could not be written it is said again"
    way.hear(written)
    await asyncio.sleep(3600)
    assert (way.suspended_because, way.in_flight, way.say(clock.now())) == ("INSUFFICIENT_BALANCE", 0, None)
    way.hear(said(ProviderState.UP, 3600))
    await asyncio.sleep(0)
    assert way.in_flight == 2, "one a partition at first"
    for expected in (4, 8, 12, 12):
        answered = way.in_flight
        for _ in range(answered):
            way.observe(GOOD, 1)
        await asyncio.sleep(0)
        for shard in shards:
            shard.end(answered // 2)
        for _ in range(3):
            await asyncio.sleep(0)
        assert way.in_flight == expected


@virtual
async def test_faults_of_transport_suspend_but_refusals_do_not() -> None:
    way, _, _ = lane()
    for _ in range(FAULTS_TO_SUSPEND * 3):
        way.observe(Outcome(OutcomeClass.DECLINED_PERMANENT, code="BARRED"), 0)
        way.observe(Outcome(OutcomeClass.UNKNOWN, code="E4711"), 0)
    for _ in range(FAULTS_TO_SUSPEND - 1):
        way.observe(FAULT, 0)
    way.observe(GOOD, 0)
    for _ in range(FAULTS_TO_SUSPEND - 1):
        way.observe(FAULT, 0)
    assert way.suspended_because is None
    way.observe(FAULT, 0)
    assert way.suspended_because == "unreachable"


@virtual
async def test_who_leaves_gives_its_turn_away() -> None:
    way, _, _ = lane(max_in_flight=1)
    first, second, third = Shard(way, 1), Shard(way, 1), Shard(way, 1)
    for shard in (first, second, third):
        shard.begin()
    assert (first.taken, second.taken, third.taken) == (1, 0, 0)
    second.wanted = 0
    way.leave(second.wake)
    first.end(1)
    await asyncio.sleep(0)
    assert third.taken == 1
