"""Workers that share partitions, lose them, wake as zombies, and wait for what is refused."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from schemas.topics import FULFILLMENT_STATE
from services.fulfiller.recover import recover
from services.fulfiller.worker import Worker
from services.health import Readiness
from services.run import Refusal
from tests.fulfiller.stage import Stage, virtual
from tests.memory_log import Fate


@pytest.fixture(autouse=True)
def _prompt_shards(_patient_shards: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shard that is stopped ends with its poll."""
    monkeypatch.setattr("services.fulfiller.shard.POLL_S", 0.2)


@dataclass
class Running:
    worker: Worker
    readiness: Readiness
    stop: asyncio.Event
    task: asyncio.Task[None]

    async def ends(self) -> None:
        self.stop.set()
        await self.task

    def why(self, dependency: str) -> str:
        return dict(self.readiness).get(dependency, "")


@asynccontextmanager
async def workers(stage: Stage) -> AsyncIterator[list[Running]]:
    """Those that `start` began; all are ended on leaving."""
    running: list[Running] = []
    yield running
    await asyncio.gather(*(one.ends() for one in running if not one.task.done()))


def start(stage: Stage, running: list[Running]) -> Running:
    stop, readiness = asyncio.Event(), Readiness("kafka", "group")
    worker = Worker(stage.log, stage.shared, readiness, "memory")
    one = Running(worker, readiness, stop, asyncio.create_task(worker.run(stop)))
    running.append(one)
    return one


def owners(running: list[Running]) -> list[list[int]]:
    return [sorted(one.worker.shards) for one in running]


@virtual
async def test_partitions_are_shared_and_handed_over() -> None:
    async with Stage(partitions=4, max_in_flight=50) as stage, workers(stage) as running:
        stage.provider.latency_s = 1.0
        first = start(stage, running)
        await stage.until(lambda: owners(running) == [[0, 1, 2, 3]])
        order_ids = [stage.buy() for _ in range(60)]
        await stage.goes_on(0.5)
        start(stage, running)
        await stage.until(lambda: owners(running) == [[0, 2], [1, 3]])
        order_ids += [stage.buy() for _ in range(60)]
        await stage.goes_on(0.5)
        await first.ends()
        await stage.until(lambda: owners(running) == [[], [0, 1, 2, 3]])
        await stage.until(stage.ended(*order_ids))
        assert len(stage.provider.sent) == len(order_ids), "a drained hand-over leaves nothing in doubt"


@virtual
async def test_a_worker_that_the_group_believes_dead_harms_nobody() -> None:
    async with Stage(partitions=2, max_in_flight=50) as stage, workers(stage) as running:
        stage.provider.latency_s = 3.0
        zombie = start(stage, running)
        await stage.until(lambda: owners(running) == [[0, 1]])
        start(stage, running)
        await stage.until(lambda: owners(running) == [[0], [1]])
        order_ids = [stage.buy() for _ in range(20)]
        await stage.goes_on(1)
        await stage.log.group.expel(zombie.worker._membership)  # type: ignore[arg-type] # noqa: SLF001 - as the broker does
        order_ids += [stage.buy() for _ in range(20)]
        await stage.until(stage.ended(*order_ids))
        await stage.until(lambda: all(owners(running)) and sorted(itertools.chain(*owners(running))) == [0, 1])
        await stage.until(lambda: bool(zombie.readiness))


@virtual
async def test_a_zombie_and_the_owner_do_not_fence_each_other_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hears_nothing() -> None:
        return

    async with Stage(partitions=2) as stage, workers(stage) as running:
        zombie = start(stage, running)
        await stage.until(lambda: owners(running) == [[0, 1]])
        start(stage, running)
        await stage.until(lambda: owners(running) == [[0], [1]])
        membership = stage.log.group.members[0]
        with monkeypatch.context() as patched:
            patched.setattr(membership, "poll", hears_nothing)
            await stage.log.group.expel(membership)
            await stage.until(lambda: owners(running)[1] == [0, 1])
            opened = stage.log.opened.total()
            for _ in range(30):
                order_id = stage.buy()
                await stage.until(stage.ended(order_id))
                await stage.goes_on(1)
            assert stage.log.opened.total() == opened
        await stage.until(lambda: all(owners(running)) and sorted(itertools.chain(*owners(running))) == [0, 1])
        await stage.until(lambda: bool(zombie.readiness))


@virtual
async def test_a_shard_that_is_thrown_away_is_taken_over_again() -> None:
    async with Stage() as stage, workers(stage) as running:
        one = start(stage, running)
        await stage.until(lambda: bool(one.readiness))
        stage.log.fates += [Fate.WRITTEN, Fate.ABORTED, Fate.WRITTEN, Fate.UNKNOWN, Fate.HANGING]
        order_ids = [stage.buy() for _ in range(5)]
        await stage.until(stage.ended(*order_ids))
        await stage.until(lambda: bool(one.readiness))


@virtual
async def test_a_partition_that_is_refused_waits_for_its_recovery() -> None:
    async with Stage() as stage, workers(stage) as running:
        shard = await stage.shard()
        order_id = stage.buy()
        await stage.until(stage.ended(order_id))
        await stage.end(shard)
        stage.log.create(FULFILLMENT_STATE)
        one = start(stage, running)
        await stage.until(lambda: "recover" in one.why("partition 0"))
        later = stage.buy()
        await stage.goes_on(60)
        assert not stage.events(later)
        await recover(stage.log, partitions=1, cluster_id="memory")
        await stage.until(stage.ended(order_id, later))
        assert bool(one.readiness)


@virtual
async def test_a_state_that_cannot_be_read_ends_the_worker() -> None:
    async with Stage() as stage, workers(stage) as running:
        stage.log.append(FULFILLMENT_STATE, 0, b"11111111-1111-4111-8111-111111111111", b"{}")
        one = start(stage, running)
        with pytest.raises(Refusal, match="not readable"):
            await one.task
        assert stage.log.group.members == []
        stage.log.create(FULFILLMENT_STATE)


@virtual
async def test_a_worker_that_is_asked_to_stop_answers_what_is_under_way_first() -> None:
    async with Stage() as stage, workers(stage) as running:
        stage.provider.latency_s = 2.0
        one = start(stage, running)
        order_ids = [stage.buy() for _ in range(4)]
        await stage.until(lambda: len(stage.provider.sent) == 4)
        began_s = stage.clock.monotonic_s()
        await one.ends()
        assert stage.ended(*order_ids)()
        assert stage.clock.monotonic_s() - began_s < 3


@virtual
@pytest.mark.parametrize("assigned", [frozenset[int](), frozenset({0, 1})], ids=["takes them away", "gives them back"])
async def test_a_worker_is_stopped_while_the_group_moves_its_partitions(assigned: frozenset[int]) -> None:
    async with Stage(partitions=2) as stage, workers(stage) as running:
        for steps in range(20):
            one = start(stage, running)
            await stage.until(lambda: owners(running[-1:]) == [[0, 1]])
            membership = stage.log.group.members[0]
            one.stop.set()
            for _ in range(steps):
                await asyncio.sleep(0)
            await asyncio.gather(one.task, membership.on_assigned(assigned))
            assert owners([one]) == [[]], "nothing is begun by a worker that ends"
        start(stage, running)
        await stage.until(stage.ended(stage.buy(), stage.buy()))
