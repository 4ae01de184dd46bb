"""Shards of a fulfiller on a log in memory, a provider in memory and virtual time, and what must hold about them."""

import asyncio
import functools
import uuid
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Final, ParamSpec, Self

import orjson

from schemas.admission import Admission
from schemas.cloudevents import json_value
from schemas.commands import Command, ProviderCommand
from schemas.fulfillment import FulfillmentAttempted, FulfillmentEvent, FulfillmentSucceeded, read_event
from schemas.poison import REASON_HEADER
from schemas.providers import ProviderChanged, read_provider
from schemas.topics import (
    FULFILLMENT_COMMANDS,
    FULFILLMENT_DEAD_LETTER,
    FULFILLMENT_EVENTS,
    FULFILLMENT_PROVIDERS,
    FULFILLMENT_STATE,
    ORDERS_EVENTS,
    retry_topic,
)
from services.fulfiller.bulletin import Bulletin
from services.fulfiller.evolution import evolve
from services.fulfiller.lane import Lane
from services.fulfiller.log import LogError
from services.fulfiller.order import Order, State, load_order
from services.fulfiller.positions import GENESIS_KEY, POSITIONS_KEY, Genesis
from services.fulfiller.providers.memory import MEMORY_PROFILE, MemoryProvider, Step
from services.fulfiller.providers.port import Balance, Deadline, Outcome, OutcomeClass
from services.fulfiller.retry import Rules
from services.fulfiller.shard import Shard, Shared
from services.fulfiller.takeover import take_over
from services.partition import home_partition
from tests.memory_log import MemoryLog, MemoryRecord
from tests.virtual_time import VirtualClock, run

RETRY_S: Final = (300.0, 900.0, 3600.0)
VERIFY_S: Final = (15.0, 300.0, 900.0, 3600.0)
PHONE: Final = "+233244123456"
LOOK_S: Final = 0.5
"""How often a stage looks whether something holds that is in no log."""
Arguments = ParamSpec("Arguments")


def virtual(test: Callable[Arguments, Coroutine[Any, Any, None]]) -> Callable[Arguments, None]:
    """Run a test on virtual time."""

    @functools.wraps(test)
    def on_virtual_time(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        run(test(*args, **kwargs))

    return on_virtual_time


@dataclass
class WatchedProvider:
    """The provider in memory, whose calls take time; it notes two under way for one order."""

    clock: VirtualClock
    latency_s: float = 0.05
    profile: Any = MEMORY_PROFILE
    hangs: set[str] = field(default_factory=set)
    """Phones whose sends arrive when they are made, and are never answered."""
    arrives_late_s: dict[str, float] = field(default_factory=dict)
    """Phones whose sends are on their way for so long."""
    answers: list[Outcome] = field(default_factory=list)
    """To the coming questions, in place of the truth."""
    sent: list[tuple[datetime, str]] = field(default_factory=list)
    asked: list[tuple[datetime, str]] = field(default_factory=list)
    balance_asked: list[float] = field(default_factory=list)
    under_way: Counter[str] = field(default_factory=Counter)
    most_under_way: int = 0
    faults: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.truth = MemoryProvider(self.profile, monotonic_s=self.clock.monotonic_s, wall_s=self.clock.wall_s)

    async def deliver(self, reference: str, phone: str, size_mb: int, network: str, deadline: Deadline) -> Outcome:
        order_id = reference[:36]
        if self.under_way[order_id]:
            self.faults.append(f"two calls under way for {order_id}")
        if any(known.startswith(order_id) for known in self.truth.deliveries):
            self.faults.append(f"{order_id} is sent again, though it was delivered")
        self.sent.append((self.clock.now(), reference))
        self.under_way[order_id] += 1
        self.most_under_way = max(self.most_under_way, self.under_way.total())
        try:
            if phone in self.arrives_late_s:
                # Cancelled or not: what is on its way arrives.
                await asyncio.shield(self._late(reference, phone, size_mb, network, deadline))
                return Outcome(OutcomeClass.UNKNOWN)
            await asyncio.sleep(self.latency_s)
            outcome = await self.truth.deliver(reference, phone, size_mb, network, deadline)
            if phone in self.hangs:
                await asyncio.sleep(deadline.monotonic_s - self.clock.monotonic_s())
                return Outcome(OutcomeClass.UNKNOWN, message="timeout")
            return outcome
        finally:
            self.under_way[order_id] -= 1

    async def _late(self, reference: str, phone: str, size_mb: int, network: str, deadline: Deadline) -> None:
        await asyncio.sleep(self.arrives_late_s[phone])
        in_time = replace(deadline, monotonic_s=float("inf"), wall_s=float("inf"))
        await self.truth.deliver(reference, phone, size_mb, network, in_time)

    async def verify(self, reference: str) -> Outcome:
        self.asked.append((self.clock.now(), reference))
        await asyncio.sleep(self.latency_s)
        return self.answers.pop(0) if self.answers else await self.truth.verify(reference)

    async def balance(self) -> Balance | None:
        self.balance_asked.append(self.clock.monotonic_s())
        return await self.truth.balance()

    async def close(self) -> None:
        """Nothing is held."""

    def will(self, *heard: OutcomeClass, phone: str = PHONE, delivers: bool = False) -> None:
        """What the coming sends for a phone will hear; `delivers`: the bundle arrives all the same."""
        self.truth.script[phone].extend(Step(kind, delivers or kind is OutcomeClass.DELIVERED) for kind in heard)


class Stage:
    """`async with`: on leaving, everything ends and what must hold is checked."""

    def __init__(self, partitions: int = 1, *, max_in_flight: int = 8, **rules: Any) -> None:
        self.clock = VirtualClock()
        self.provider = WatchedProvider(self.clock)
        self.provider.truth.script = defaultdict(deque)
        self.partitions = partitions
        self.rules = Rules(
            retry_delays_s=rules.get("retry_s", RETRY_S),
            max_attempts=rules.get("max_attempts", 3),
            verify_delays_s=rules.get("verify_s", VERIFY_S),
            providers={self.provider.profile.name: self.provider.profile},
        )
        delays_s = {*self.rules.retry_delays_s, *self.rules.verify_delays_s}
        self.delay_topics = frozenset(retry_topic(delay_s) for delay_s in delays_s)
        self.log = MemoryLog(
            partitions,
            [
                ORDERS_EVENTS,
                FULFILLMENT_COMMANDS,
                FULFILLMENT_EVENTS,
                FULFILLMENT_STATE,
                FULFILLMENT_DEAD_LETTER,
                FULFILLMENT_PROVIDERS,
                *self.delay_topics,
            ],
            self.clock.wall_s,
        )
        self.lane = Lane(self.provider, self.clock, max_in_flight=max_in_flight)
        self.shared = Shared(
            partitions=partitions,
            clock=self.clock,
            rules=self.rules,
            admission=Admission(rules.get("dedupe_window", timedelta(days=7)), 100_000),
            lanes={self.provider.profile.name: self.lane},
            delay_topics=self.delay_topics,
            balance_interval_s=86400.0,
        )
        self.running: dict[Shard, asyncio.Task[None]] = {}
        self._keepers: list[asyncio.Task[None]] = []

    # --- life ---------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self.make_genesis()
        self._keepers.append(asyncio.create_task(Bulletin(self.log, self.shared.lanes).keep()))
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        for keeper in self._keepers:
            keeper.cancel()
        for shard in list(self.running):
            await self.end(shard)
        if error is None:
            self.check()

    def make_genesis(self) -> None:
        genesis = Genesis(cluster_id="memory", partitions=self.partitions, at="now").model_dump_json().encode()
        for partition in range(self.partitions):
            self.log.append(FULFILLMENT_STATE, partition, GENESIS_KEY, genesis)

    def other_worker(self) -> Shared:
        """What the shards of another worker share; it hears what providers do, as ours does."""
        lane = Lane(self.provider, self.clock, max_in_flight=8, partitions=self.partitions)
        shared = replace(self.shared, lanes={self.provider.profile.name: lane})
        self._keepers.append(asyncio.create_task(Bulletin(self.log, shared.lanes).keep()))
        return shared

    async def shard(self, partition: int = 0, shared: Shared | None = None) -> Shard:
        """Take a partition over, and run it."""
        taken = await take_over(
            partition,
            self.log,
            self.clock,
            partitions=self.partitions,
            cluster_id="memory",
            loading=asyncio.Lock(),
        )
        shard = Shard(partition, taken, shared or self.shared)
        self.running[shard] = asyncio.create_task(shard.run())
        return shard

    async def end(self, shard: Shard) -> None:
        shard.stop()
        self.log.nudge()
        await self.dies(shard)

    async def dies(self, shard: Shard) -> BaseException | None:
        """Wait for a shard's end; why it ended."""
        (result,) = await asyncio.gather(self.running.pop(shard), return_exceptions=True)
        return result

    async def crash(self, shard: Shard) -> None:
        """Kill its process: nothing of it runs any more, and what it had sent is on its way."""
        task = self.running.pop(shard)
        shard.stop()
        self.log.nudge()
        await shard._calls.cancel()  # noqa: SLF001 - a process that dies asks nobody
        await asyncio.gather(task, return_exceptions=True)

    async def again(self, shard: Shard) -> Shard:
        """Retake a partition whose shard was thrown away."""
        assert isinstance(await self.dies(shard), LogError)
        return await self.shard(shard.partition)

    async def until(self, holds: Callable[[], object], within_s: float = 4 * 3600) -> None:
        """Let time pass until something holds."""
        async with asyncio.timeout(within_s):
            while not holds():
                self._raise_failures()
                self.log.changed.clear()
                try:
                    async with asyncio.timeout(LOOK_S):
                        await self.log.changed.wait()
                except TimeoutError:
                    continue

    async def goes_on(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._raise_failures()

    def _raise_failures(self) -> None:
        for task in self.running.values():
            if task.done():
                task.result()

    # --- what is said -------------------------------------------------------------------------------------------------

    def buy(
        self, order_id: str | None = None, phone: str = PHONE, *, partition: int | None = None, **said: object
    ) -> str:
        """OrderCreated, at home unless told otherwise; the order's id."""
        order_id = order_id or str(uuid.uuid4())
        value = {
            "order_id": order_id,
            "phone_number": phone,
            "size": "1GB",
            "network": "AT-iShare",
            "created_at": self.clock.now().isoformat(),
        } | said
        to = home_partition(order_id, self.partitions) if partition is None else partition
        self.log.append(ORDERS_EVENTS, to, order_id.encode(), orjson.dumps(value))
        return order_id

    def command(self, kind: type[Command], order_id: str, **said: Any) -> str:
        command = kind(
            command_id=str(uuid.uuid4()), order_id=order_id, actor="ama", reason="r", at=self.clock.now(), **said
        )
        home = home_partition(order_id, self.partitions)
        self.log.append(FULFILLMENT_COMMANDS, home, order_id.encode(), json_value(command))
        return command.command_id

    def provider_command(self, kind: type[ProviderCommand], provider: str = "memory", partition: int = 0) -> str:
        command = kind(
            command_id=str(uuid.uuid4()), provider=provider, actor="ama", reason="ticket 4711", at=self.clock.now()
        )
        self.log.append(FULFILLMENT_COMMANDS, partition, provider.encode(), json_value(command))
        return command.command_id

    # --- what came of it ----------------------------------------------------------------------------------------------

    def all_events(self) -> dict[str, list[FulfillmentEvent]]:
        events: defaultdict[str, list[FulfillmentEvent]] = defaultdict(list)
        for record in self.log.records(FULFILLMENT_EVENTS):
            event = read_event(record.value or b"")
            events[event.order_id].append(event)
        return events

    def events(self, order_id: str) -> list[FulfillmentEvent]:
        return self.all_events()[order_id]

    def types(self, order_id: str) -> list[str]:
        return [event.type.removeprefix("Fulfillment") for event in self.events(order_id)]

    def order(self, order_id: str) -> Order | None:
        """As fulfillment.state has it."""
        found = None
        for record in self.log.records(FULFILLMENT_STATE, home_partition(order_id, self.partitions)):
            if record.key == order_id.encode():
                found = None if record.value is None else load_order(record.value)
        return found

    def state(self, order_id: str) -> State | None:
        order = self.order(order_id)
        return None if order is None else order.state

    def ended(self, *order_ids: str) -> Callable[[], bool]:
        return lambda: all((order := self.order(one)) is not None and not order.is_open for one in order_ids)

    def standings(self) -> list[ProviderChanged]:
        """What was said of the provider."""
        return [read_provider(record.value or b"") for record in self.log.records(FULFILLMENT_PROVIDERS, 0)]

    def dead_letters(self) -> list[tuple[str, MemoryRecord]]:
        """Reason and record."""
        records = self.log.records(FULFILLMENT_DEAD_LETTER)
        return [((dict(record.headers)[REASON_HEADER] or b"").decode(), record) for record in records]

    # --- what holds ---------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """What must hold whatever was done, once nothing runs any more."""
        assert self.provider.faults == []
        assert self.lane.in_flight == 0, "no slot leaks"
        delivered = Counter(reference[:36] for reference in self.provider.truth.deliveries.elements())
        assert all(count == 1 for count in delivered.values()), "nothing is delivered twice"
        states = self._states()
        sent: defaultdict[str, list[str]] = defaultdict(list)
        for _, reference in self.provider.sent:
            sent[reference[:36]].append(reference)
        for order_id, events in self.all_events().items():
            assert [event.sequence for event in events] == list(range(1, len(events) + 1))
            folded = functools.reduce(evolve, events, None)
            if order_id in states:
                assert replace(states[order_id], pending=None, pending_cause=None) == folded
            attempts = [event.reference for event in events if isinstance(event, FulfillmentAttempted)]
            assert Counter(sent[order_id]) <= Counter(attempts), "no call without its intent"
            if any(isinstance(event, FulfillmentSucceeded) for event in events):
                assert delivered[order_id] == 1, "what is called delivered was"

    def _states(self) -> dict[str, Order]:
        return dict(self._each_state())

    def _each_state(self) -> Iterator[tuple[str, Order]]:
        for record in self.log.records(FULFILLMENT_STATE):
            if record.key not in {GENESIS_KEY, POSITIONS_KEY} and record.value is not None:
                order = load_order(record.value)
                yield order.order_id, order
