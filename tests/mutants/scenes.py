"""What a fulfiller does in a few situations, played on the log and the provider in memory: `python -m
tests.mutants.scenes FILE SCENE…` writes the evidence of each, unjudged. Whoever judges it may be of another version.
"""

import asyncio
import io
import pickle
import sys
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import orjson
import structlog

from schemas.commands import (
    CancelFulfillment,
    OverrideFulfillment,
    ResolveFulfillment,
    RetryFulfillment,
)
from schemas.topics import ORDERS_EVENTS
from services.fulfiller import shard as shard_module
from services.fulfiller.log import LogError
from services.fulfiller.providers.memory import MemoryProvider
from services.fulfiller.providers.port import Deadline, Outcome, OutcomeClass
from services.fulfiller.shard import Shard
from services.partition import home_partition
from services.projector import projection
from services.projector.batch import sort
from tests.evidence import TOPICS, Accepted, Clients, Evidence, Known, Logged, Poison
from tests.fulfiller.stage import Stage, WatchedProvider
from tests.memory_log import Fate
from tests.virtual_time import run

DELIVERED: Final = OutcomeClass.DELIVERED
UNKNOWN: Final = OutcomeClass.UNKNOWN
DECLINED: Final = OutcomeClass.DECLINED_TRANSIENT
MAX_ATTEMPTS: Final = 3
HOUR_S: Final = 3600.0
SAID_S: Final = 1.0
"""By then the new owner of partition 0 has said what balance there is."""
SECRET: Final = "a-secret-of-the-provider"  # noqa: S105 - made up


@dataclass(slots=True)
class _Sends:
    bundle: tuple[str, int, str]
    under_way: int = 0
    most_under_way: int = 0
    at_s: list[float] = field(default_factory=list)


class Forgetful(MemoryProvider):
    """Delivers a reference as often as it is sent, as some providers do; its answers tell of the last time."""

    async def deliver(self, reference: str, phone: str, size_mb: int, network: str, deadline: Deadline) -> Outcome:
        self._entries.pop(reference, None)
        return await MemoryProvider.deliver(self, reference, phone, size_mb, network, deadline)


@dataclass
class Provider(WatchedProvider):
    """Keeps a ledger, as the sandbox does: of what it was sent, not of what the fulfiller believes."""

    sends: dict[str, _Sends] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.truth = Forgetful(self.profile, monotonic_s=self.clock.monotonic_s, wall_s=self.clock.wall_s)

    async def deliver(self, reference: str, phone: str, size_mb: int, network: str, deadline: Deadline) -> Outcome:
        if self.clock.monotonic_s() >= deadline.monotonic_s or self.clock.wall_s() >= deadline.wall_s:
            return Outcome(OutcomeClass.NOT_SENT)
        known = self.sends.setdefault(reference, _Sends((phone, size_mb, network)))
        known.at_s.append(self.clock.wall_s())
        known.under_way += 1
        known.most_under_way = max(known.most_under_way, known.under_way)
        try:
            return await super().deliver(reference, phone, size_mb, network, deadline)
        finally:
            known.under_way -= 1

    def known(self) -> dict[str, Known]:
        return {
            reference: Known(
                bundle=known.bundle,
                deliveries=self.truth.deliveries[reference],
                sends=len(known.at_s),
                max_in_flight=known.most_under_way,
                sent_at=known.at_s,
            )
            for reference, known in self.sends.items()
        }


class Scene(Stage):
    """A stage that judges nothing: it hands over what there is to judge."""

    def __init__(self, partitions: int = 1, **rules: Any) -> None:
        super().__init__(partitions, **rules)
        self.ledger = Provider(self.clock)
        self.provider = self.ledger
        self.provider.truth.script = defaultdict(deque)
        self.lane.provider = self.provider
        self.clients = Clients()
        self.said = io.StringIO()
        self._phones = 0
        structlog.configure(logger_factory=structlog.PrintLoggerFactory(self.said))

    def check(self) -> None:
        """Leave it to others."""

    def bought(self, *heard: OutcomeClass, delivers: bool = False, phone: str | None = None, **said: Any) -> str:
        """Buy one, as a client that is told of it; its sends hear this, then what is true."""
        self._phones += 1
        phone = phone or f"+2332400{self._phones:05}"
        self.provider.will(*heard[:-1], phone=phone)
        self.provider.will(*heard[-1:], phone=phone, delivers=delivers)
        order_id = self.buy(phone=phone, **said)
        self.clients.accepted.append(Accepted(order_id, (phone, 1000, "AT-iShare")))
        return order_id

    def phone(self, order_id: str) -> str:
        return next(accepted.bundle[0] for accepted in self.clients.accepted if accepted.order_id == order_id)

    def poison(self, value: bytes, key: bytes | None = None, partition: int = 0) -> None:
        self.clients.poison.append(Poison(key, value))
        self.log.append(ORDERS_EVENTS, partition, key, value)

    async def take(self, partition: int = 0) -> Shard:
        return await self.shard(partition)

    async def goes_on(self, seconds: float) -> None:
        """Let time pass; whoever loses its partition by the log takes it over again, as a worker does."""
        end_s = self.clock.monotonic_s() + seconds
        while (left_s := end_s - self.clock.monotonic_s()) > 0:
            if not self.running:
                await asyncio.sleep(left_s)
                continue
            await asyncio.wait(self.running.values(), timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            for shard in [one for one, task in self.running.items() if task.done()]:
                error = await self.dies(shard)
                if not isinstance(error, LogError):
                    raise AssertionError("a shard ended of itself") from error
                await self.take(shard.partition)

    def evidence(self) -> Evidence:
        topics = {name: self._logged(name) for name in TOPICS}
        rows = _projected(topics)
        return Evidence(
            partitions=self.partitions,
            max_attempts=MAX_ATTEMPTS,
            clients=self.clients,
            topics=topics,
            rows=rows,
            orders={
                order_id: (row.network, row.size_mb, row.phone_number, row.status) for order_id, row in rows.items()
            },
            quarantined=[],
            ledger=self.ledger.known(),
            logs={"fulfiller": self.said.getvalue()},
            secrets=[SECRET],
        )

    def _logged(self, topic: str) -> list[Logged]:
        return [
            Logged(
                topic=topic,
                partition=partition,
                offset=record.offset,
                timestamp=record.timestamp,
                key=record.key,
                value=record.value,
                headers=tuple(record.headers),
            )
            for partition in range(self.partitions)
            for record in self.log.records(topic, partition)
        ]


BATCH: Final = 3
"""Records that the projection takes at a time: an order's events come in several."""


def _projected(topics: dict[str, list[Logged]]) -> dict[str, projection.Row]:
    """As the projector has it when it has read everything, by its own fold."""
    records: list[Any] = [record for topic in topics.values() for record in topic]
    rows: dict[str, projection.Row] = {}
    for at in range(0, len(records), BATCH):
        rows |= projection.fold(rows, sort(records[at : at + BATCH], prefix="").events).rows
    whole = sort(records, prefix="")
    rejected = {
        letter.order_id
        for letter in whole.dead_letters
        if letter.original_topic == ORDERS_EVENTS and projection.ends_orders(letter.reason)
    }
    for order_id, created in whole.created.items():
        if order_id not in rows:
            row = projection.received(created, MAX_ATTEMPTS)
            rows[order_id] = projection.rejected(row, "", None, row.created_at) if order_id in rejected else row
    return rows


# --- the scenes ------------------------------------------------------------------------------------------------------


async def busy_then_delivered(scene: Scene) -> None:
    """Two attempts are declined for now, the third delivers; meanwhile another order is delivered at once."""
    await scene.take()
    scene.bought(DECLINED, DECLINED)
    scene.bought()
    await scene.goes_on(3 * HOUR_S)


async def declined_for_ever(scene: Scene) -> None:
    await scene.take()
    scene.bought(*[DECLINED] * 9)
    await scene.goes_on(9 * HOUR_S)


async def the_last_attempt_was_delivered(scene: Scene) -> None:
    """The provider says "busy" a third time, and delivers all the same."""
    await scene.take()
    scene.bought(DECLINED, DECLINED, DECLINED, delivers=True)
    await scene.goes_on(3 * HOUR_S)


async def a_lost_answer(scene: Scene) -> None:
    """Delivered, and the answer is lost on its way."""
    await scene.take()
    scene.bought(UNKNOWN, delivers=True)
    await scene.goes_on(3 * HOUR_S)


async def turned_away(scene: Scene) -> None:
    await scene.take()
    scene.bought(OutcomeClass.TURNED_AWAY, OutcomeClass.TURNED_AWAY)
    await scene.goes_on(HOUR_S)


async def a_doubtful_commit(scene: Scene) -> None:
    """The commit of an intent fails: the shard is thrown away and taken over again."""
    await scene.take()
    await scene.goes_on(SAID_S)
    scene.log.fates.append(Fate.ABORTED)
    scene.bought()
    scene.bought()
    await scene.goes_on(3 * HOUR_S)


async def the_second_commit_fails(scene: Scene) -> None:
    """Whatever is committed second is not; of all else nothing is lost."""
    await scene.take()
    await scene.goes_on(SAID_S)
    scene.log.fates.extend([Fate.WRITTEN, Fate.ABORTED])
    scene.bought()
    await scene.goes_on(HOUR_S)


async def poison_and_a_failed_commit(scene: Scene) -> None:
    await scene.take()
    await scene.goes_on(SAID_S)
    scene.log.fates.extend([Fate.WRITTEN, Fate.ABORTED])
    scene.poison(b"not JSON")
    await scene.goes_on(60)
    scene.bought()
    await scene.goes_on(HOUR_S)


async def a_slow_commit(scene: Scene) -> None:
    """The intent's commit takes longer than the call may."""
    await scene.take()
    scene.log.commit_s = 2 * scene.provider.profile.call_timeout_s
    scene.bought()
    await scene.goes_on(scene.log.commit_s / 2)
    scene.log.commit_s = 0.001
    await scene.goes_on(3 * HOUR_S)


async def a_call_that_arrives_after_its_caller_died(scene: Scene) -> None:
    first = await scene.take()
    order_id = scene.bought()
    other = scene.bought()
    scene.provider.arrives_late_s[scene.phone(order_id)] = 25.0
    await scene.until(lambda: scene.provider.truth.deliveries[other])
    await scene.crash(first)
    await scene.take()
    await scene.goes_on(3 * HOUR_S)


async def a_crash_before_the_call(scene: Scene) -> None:
    """Its successor finds an intent, and a slot for the order behind it."""
    first = await scene.take()
    scene.provider.hangs.add("+233240000001")
    for _ in range(20):
        scene.bought()
    await scene.until(lambda: len(scene.provider.sent) >= 1)
    await scene.crash(first)
    await scene.take()
    await scene.goes_on(3 * HOUR_S)


async def handed_over(scene: Scene) -> None:
    """One owner leaves in order; orders come while there is none; the next one goes on."""
    first = await scene.take()
    scene.bought()
    scene.poison(b"{")
    await scene.goes_on(60)
    await scene.end(first)
    scene.bought()
    await scene.take()
    await scene.goes_on(60)
    scene.bought()
    await scene.goes_on(HOUR_S)


async def zombies(scene: Scene) -> None:
    """Owner after owner takes over while the last one still believes to be it, and orders come all the while."""

    async def orders() -> None:
        for _ in range(120):
            scene.bought()
            await asyncio.sleep(0.0003)

    owner = await scene.take()
    coming = asyncio.create_task(orders())
    stale: list[tuple[Shard, asyncio.Task[None]]] = []
    for after_s in (0.0053, 0.0058, 0.0063, 0.0068):  # at any point of the last owner's commits
        await asyncio.sleep(after_s)
        stale.append((owner, scene.running.pop(owner)))
        owner = await scene.take()
    await coming
    await scene.goes_on(HOUR_S)
    for zombie, _ in stale:
        zombie.stop()
    scene.log.nudge()
    await asyncio.gather(*(task for _, task in stale), return_exceptions=True)


async def a_person_overtakes_the_schedule(scene: Scene) -> None:
    """Declined, retried by hand at once, declined again: the first plan is not the plan any more."""
    await scene.take()
    order_id = scene.bought(DECLINED, DECLINED)
    await scene.goes_on(10)
    scene.command(RetryFulfillment, order_id)
    await scene.goes_on(3 * HOUR_S)


async def an_impatient_person(scene: Scene) -> None:
    """Retries and cancels while a call is under way, and when all is over."""
    await scene.take()
    busy = scene.bought()
    scene.provider.hangs.add(scene.phone(busy))
    waiting = scene.bought(DECLINED)
    await scene.goes_on(10)
    scene.command(RetryFulfillment, busy)
    scene.command(CancelFulfillment, waiting)
    await scene.goes_on(2 * HOUR_S)
    scene.command(RetryFulfillment, busy)
    scene.command(CancelFulfillment, busy)
    await scene.goes_on(HOUR_S)


async def bought_again_and_again(scene: Scene) -> None:
    """The same OrderCreated soon, an hour and a day later, while orders are forgotten after a day and a half."""
    await scene.take()
    order_id = scene.bought()
    created_at = scene.clock.now().isoformat()
    for later_s in (60.0, 2 * HOUR_S, 22 * HOUR_S):
        await scene.goes_on(later_s)
        scene.bought()
        await scene.goes_on(60)
        scene.buy(order_id, phone=scene.phone(order_id), created_at=created_at)
    await scene.goes_on(HOUR_S)


async def an_old_order_comes_once_more(scene: Scene) -> None:
    """Delivered, forgotten after a day and a half, and replayed by a producer."""
    await scene.take()
    order_id = scene.bought()
    created_at = scene.clock.now().isoformat()
    await scene.goes_on(48 * HOUR_S)
    scene.bought()
    await scene.goes_on(60)
    scene.buy(order_id, phone=scene.phone(order_id), created_at=created_at)
    await scene.goes_on(HOUR_S)


async def another_bundle_under_the_same_id(scene: Scene) -> None:
    await scene.take()
    order_id = scene.bought()
    await scene.goes_on(60)
    value = {"order_id": order_id, "phone_number": "+233249999999", "size": "2GB", "network": "AT-iShare"}
    value["created_at"] = scene.clock.now().isoformat()
    scene.poison(orjson.dumps(value), order_id.encode())
    await scene.goes_on(60)


async def poison_among_orders(scene: Scene) -> None:
    await scene.take()
    for value in (b"", b"not JSON", b'{"order_id": 1}', b'{"a": 1, "a": 2}', b"\xff\xfe"):
        scene.poison(value)
        scene.bought()
    await scene.goes_on(60)


async def away_from_home(scene: Scene) -> None:
    """Each order stands in both partitions, once where it does not belong."""
    for partition in range(scene.partitions):
        await scene.take(partition)
    for _ in range(6):
        order_id = scene.bought()
        elsewhere = 1 - home_partition(order_id, scene.partitions)
        scene.buy(order_id, phone=scene.phone(order_id), partition=elsewhere)
        alone = scene.buy(phone="+233247777777", partition=0)
        scene.clients.accepted.append(Accepted(alone, ("+233247777777", 1000, "AT-iShare")))
    await scene.goes_on(60)


async def drained_and_given_back(scene: Scene) -> None:
    """An eager rebalance: everything is revoked, and comes back at once."""
    first = await scene.take()
    scene.bought()
    await scene.goes_on(60)
    await first.drain(5)
    scene.bought()
    await scene.goes_on(5)
    first.resume()
    await scene.goes_on(HOUR_S)


async def a_slot_for_one(scene: Scene) -> None:
    """Orders that wait for a slot when their owner dies."""
    first = await scene.take()
    scene.lane._max_in_flight = scene.lane._allowed = 1  # noqa: SLF001 - as the settings would have it
    hangs = scene.bought()
    scene.provider.hangs.add(scene.phone(hangs))
    scene.bought()
    scene.bought()
    await scene.goes_on(5)
    await scene.crash(first)
    await scene.take()
    await scene.goes_on(HOUR_S)


async def two_for_one_phone(scene: Scene) -> None:
    """One is delivered, the other's request is lost; no answer says which."""
    await scene.take()
    phone = "+233241111111"
    scene.bought(UNKNOWN, phone=phone, delivers=True)
    await scene.goes_on(60)
    scene.bought(UNKNOWN, phone=phone)
    await scene.goes_on(3 * HOUR_S)


async def delivered_after_all(scene: Scene) -> None:
    """Every attempt is declined and settled; later the provider delivers one of them, and a person overrides."""
    await scene.take()
    order_id = scene.bought(DECLINED, DECLINED, DECLINED)
    await scene.goes_on(3 * HOUR_S)
    entry = scene.provider.truth._entries[order_id]  # noqa: SLF001 - the provider's own change of mind
    entry.answer = Outcome(DELIVERED, "OK", transaction_id=entry.answer.transaction_id)
    scene.provider.truth.deliveries[order_id] += 1
    scene.command(OverrideFulfillment, order_id)
    await scene.goes_on(HOUR_S)


async def a_person_is_wrong(scene: Scene) -> None:
    """In review a person says "not delivered", and it was."""
    await scene.take()
    order_id = scene.bought(OutcomeClass.ACCEPTED)
    await scene.goes_on(4 * HOUR_S)
    scene.provider.truth.settle(order_id)
    scene.command(ResolveFulfillment, order_id, delivered=False)
    await scene.goes_on(3 * HOUR_S)


@dataclass(frozen=True)
class Setting:
    play: Callable[[Scene], Awaitable[None]]
    partitions: int = 1
    rules: dict[str, Any] = field(default_factory=dict)


_MEMORY: Final = {"dedupe_window": timedelta(hours=36)}
SCENES: Final[dict[str, Setting]] = {
    play.__name__: Setting(play)
    for play in (
        busy_then_delivered,
        declined_for_ever,
        the_last_attempt_was_delivered,
        a_lost_answer,
        turned_away,
        a_doubtful_commit,
        the_second_commit_fails,
        poison_and_a_failed_commit,
        a_slow_commit,
        a_call_that_arrives_after_its_caller_died,
        a_crash_before_the_call,
        handed_over,
        zombies,
        a_person_overtakes_the_schedule,
        an_impatient_person,
        another_bundle_under_the_same_id,
        poison_among_orders,
        drained_and_given_back,
        a_slot_for_one,
        two_for_one_phone,
        delivered_after_all,
        a_person_is_wrong,
    )
} | {
    "bought_again_and_again": Setting(bought_again_and_again, rules=_MEMORY),
    "an_old_order_comes_once_more": Setting(an_old_order_comes_once_more, rules=_MEMORY),
    "away_from_home": Setting(away_from_home, partitions=2),
}


async def play(name: str) -> Evidence:
    setting = SCENES[name]
    async with Scene(setting.partitions, **setting.rules) as scene:
        await setting.play(scene)
    return scene.evidence()


def main() -> None:
    # On virtual time a shard that looks again every moment, to no purpose, is what a scene would take time for.
    shard_module.POLL_S = shard_module.SWEEP_S = 60.0  # type: ignore[misc] # as the tests' own conftest does
    to, *names = sys.argv[1:]
    Path(to).write_bytes(pickle.dumps({name: run(play(name)) for name in names}))


if __name__ == "__main__":
    main()
