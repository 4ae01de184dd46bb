"""The clients' side of the simulated broker: what services/fulfiller/log.py asks for, as aiokafka would give it."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from schemas.topics import is_retry_topic
from services.fulfiller.kafka_log import FORWARDED, OWNED, SWEEP_S
from services.fulfiller.log import Bounds, FencedError, LogError, OnPartitions, Outgoing, Source
from services.fulfiller.transactions import MARKERS_S
from services.gateway.writer import NotWrittenError
from services.partition import home_partition
from tests.simulation.broker import Broker, Fate, SimRecord
from tests.simulation.group import Group, Member
from tests.simulation.loop import Process, drawn_latency, let_go
from tests.simulation.network import Lost, Network, give_up_in

WATCHDOG_S: Final = 12.0
LATE_S: Final = 6.0
MAX_POLL_RECORDS: Final = 1000
REQUEST_TIMEOUT_S: Final = 10.0
LOOK_S: Final = 0.05
"""Between two looks at what is open."""
IDLE_S: Final = 3600.0
"""A poll that brings nothing is not repeated five times a second: it lasts until there is something."""


class SimLog:
    """One process's way to the broker."""

    def __init__(self, process: Process, broker: Broker, network: Network, group: Group) -> None:
        self.process = process
        self.broker = broker
        self.network = network
        self.group = group

    async def ask(self, act: Any, timeout_s: float = REQUEST_TIMEOUT_S) -> Any:
        try:
            return await self.network.ask(self.process, "broker", act, timeout_s)
        except Lost as error:
            raise LogError(str(error)) from error

    async def cluster_id(self) -> str:
        return self.broker.cluster_id

    async def topics(self) -> frozenset[str]:
        topics: frozenset[str] = await self.ask(lambda: self.broker.topics)
        return topics

    async def open_writer(self, partition: int) -> "SimWriter":
        name = f"fulfiller-{partition}"
        own, shared = self._written_by(partition)
        committed = await self.ask(lambda: self.broker.is_committed(name))
        epoch = await self.ask(lambda: self.broker.init(name), WATCHDOG_S)
        writer = SimWriter(self, name, epoch, dict.fromkeys(own, committed), shared)
        await writer.take(own)
        return writer

    def _written_by(self, partition: int) -> tuple[list[Source], list[Source]]:
        """As KafkaLog's: where a partition's owner writes alone, and where others do too."""
        own, shared = [], []
        for topic in sorted(self.broker.topics):
            if topic in OWNED or is_retry_topic(topic):
                own.append(Source(topic, partition))
            elif topic in FORWARDED:
                shared += [Source(topic, number) for number in range(self.broker.partitions)]
        return own, shared

    async def open_reader(self) -> "SimReader":
        return SimReader(self)

    def membership(self) -> "SimMembership":
        return SimMembership(self)


class SimWriter:
    """Does what services/fulfiller/transactions.py does, in its order."""

    def __init__(self, log: SimLog, name: str, epoch: int, own: dict[Source, bool], shared: Sequence[Source]) -> None:
        self._log = log
        self._name = name
        self._epoch = epoch
        self._usable = True
        self._shared = frozenset(shared)
        self._unended = own | dict.fromkeys(shared, True)
        """Where a transaction of this identity may still lack its end, and whether that end is a commit."""
        self._one_at_a_time = asyncio.Lock()

    async def take(self, own: Sequence[Source]) -> None:
        async with self:
            await self._have_ended(own, self._log.broker.loop.now_s + WATCHDOG_S)
            hidden = [source for source in own if self._log.broker.writers(source)]
            if hidden:
                raise LogError(f"somebody's transaction is open in {hidden[0]}")

    async def commit(self, records: Sequence[Outgoing]) -> None:
        if not self._usable:
            raise LogError("the writer failed before")
        async with self, self._one_at_a_time:
            await self._commit(records)

    async def __aenter__(self) -> None:
        """For one act: any doubt about it ends the writer."""

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is not None:
            self._usable = False
        if isinstance(error, Lost):
            raise LogError(f"the transaction failed: {error!r}") from error

    async def _commit(self, records: Sequence[Outgoing]) -> None:
        broker = self._log.broker
        until_s = broker.loop.now_s + WATCHDOG_S
        written = dict.fromkeys((Source(record.topic, record.partition) for record in records), True)
        due = [source for source in self._unended if source in written or source not in self._shared]
        await self._have_ended(due, until_s)
        for answer in self._sends(records, until_s):
            await answer
        self._unended |= written
        fate = broker.end_fates.pop() if broker.end_fates else None
        await self._step(fate, lambda: broker.end(self._name, self._epoch, commit=True), until_s)
        self._log.process.committed()

    async def _have_ended(self, sources: Iterable[Source], until_s: float) -> None:
        """Return when nothing of this identity is open there; what the broker forgot to end is ended again.

        Nobody else opens anything in its name: so where the broker has nothing open, it is not asked whether it has.
        """
        broker = self._log.broker
        patience_until_s = broker.loop.now_s + MARKERS_S
        while left := self._still_open(sources):
            if broker.loop.now_s >= patience_until_s:
                for commit in (True, False):
                    if chosen := [source for source in left if self._unended[source] is commit]:
                        again = partial(broker.end_again, self._name, self._epoch, chosen, commit=commit)
                        await self._step(None, again, until_s)
            await self._step(None, lambda: None, until_s)
            await asyncio.sleep(LOOK_S)

    def _still_open(self, sources: Iterable[Source]) -> list[Source]:
        left = [source for source in sources if self._name in self._log.broker.writers(source)]
        for source in sources:
            if source not in left:
                self._unended.pop(source, None)
        return left

    def _sends(self, records: Sequence[Outgoing], until_s: float) -> list[asyncio.Future[Any]]:
        """One request, as for one broker; a batch that meets a fate of its own goes by itself."""
        broker = self._log.broker
        sends: list[asyncio.Future[Any]] = []
        while broker.produce_fates and records:
            fate, apart = broker.produce_fates.pop(), records[0][:2]
            batch = [record for record in records if record[:2] == apart]
            records = [record for record in records if record[:2] != apart]
            sends.append(self._step(fate, self._producing(batch), until_s))
        if records:
            sends.insert(0, self._step(None, self._producing(records), until_s))
        return sends

    def _producing(self, records: Sequence[Outgoing]) -> Any:
        return lambda: self._log.broker.produce(self._name, self._epoch, records)

    def _step(self, fate: Fate | None, act: Any, until_s: float) -> asyncio.Future[Any]:
        """Its answer, which may never come."""
        network, process, loop = self._log.network, self._log.process, self._log.broker.loop
        match fate:
            case None:
                return network.call(process, "broker", act, until_s)
            case Fate.REFUSED:
                return network.call(process, "broker", _refuse, until_s)
            case Fate.UNHEARD:
                network.call(process, "broker", act)
            case Fate.LATE:
                loop.in_world(LATE_S, _quietly, act)
        never: asyncio.Future[Any] = loop.create_future()
        give_up_in(loop, until_s - loop.now_s, never)
        return never

    async def keep(self) -> None:
        broker = self._log.broker
        while True:
            forgotten = broker.forgotten(self._name)
            if not any(self._name in broker.writers(source) for source in self._unended):
                await forgotten
            await asyncio.sleep(SWEEP_S)
            async with self, self._one_at_a_time:
                await self._have_ended(list(self._unended), broker.loop.now_s + WATCHDOG_S)

    async def prove(self) -> None:
        await self._log.ask(lambda: self._log.broker.prove(self._name, self._epoch), WATCHDOG_S)

    async def close(self) -> None:
        self._usable = False


def _refuse() -> None:
    raise LogError("the broker refused it")


def _quietly(act: Any) -> None:
    """A request whose sender is long gone."""
    try:
        result = act()
    except LogError:
        return
    if isinstance(result, asyncio.Future):
        result.add_done_callback(lambda done: done.exception())


class SimReader:
    """read_committed, by hand."""

    def __init__(self, log: SimLog) -> None:
        self._log = log
        self._broker = log.broker
        self._loop = log.broker.loop
        self._positions: dict[Source, int] = {}
        self._paused: set[Source] = set()
        self._seen: dict[Source, tuple[int, int]] = {}
        """End and hidden offsets, as of the last fetch."""
        self._woken: asyncio.Future[None] | None = None
        self._closed = False
        self._interrupted = False
        self._fresh: dict[Source, None] = {}
        """Where something may have come since it was looked at."""
        log.process.on_change.append(self._wake)

    async def bounds(self, sources: Iterable[Source]) -> Mapping[Source, Bounds]:
        wanted = list(sources)
        found: dict[Source, Bounds] = await self._log.ask(
            lambda: {source: self._broker.bounds(source) for source in wanted}
        )
        return found

    def assign(self, offsets: Mapping[Source, int]) -> None:
        self._broker.unfollow(self._positions, self._told)
        # In one order, whatever set they come from.
        self._positions = dict(sorted(offsets.items()))
        self._paused.clear()
        self._seen.clear()
        self._fresh = dict.fromkeys(self._positions)
        self._broker.follow(self._positions, self._told)

    def _told(self, source: Source) -> None:
        """By the broker: there may be something to fetch."""
        self._fresh[source] = None
        self._wake()

    def _wake(self) -> None:
        if self._woken is not None:
            waiting, self._woken = self._woken, None
            self._loop.in_world(drawn_latency(self._loop.random), let_go, waiting)

    async def poll(self, timeout_s: float) -> Mapping[Source, Sequence[SimRecord]]:
        timeout_s = max(timeout_s, IDLE_S)
        until_s = self._loop.now_s + timeout_s
        while True:
            reachable = "broker" not in self._log.process.cut_from
            fetched, moved = self._fetch() if reachable else ({}, False)
            if fetched or moved or self._closed or self._interrupted or self._loop.now_s >= until_s:
                self._interrupted = False
                return fetched
            self._woken = waiting = self._loop.create_future()
            timer = self._loop.in_world(until_s - self._loop.now_s, let_go, waiting)
            await waiting
            timer.cancel()

    def _fetch(self) -> tuple[dict[Source, list[SimRecord]], bool]:
        """The records, and whether any position moved, as it does over markers."""
        moved = False
        fetched: dict[Source, list[SimRecord]] = {}
        left = MAX_POLL_RECORDS if self._loop.random.random() < 0.8 else self._loop.random.randrange(1, 30)
        for source in list(self._fresh):
            if source in self._paused or source not in self._positions:
                continue
            del self._fresh[source]
            position = self._positions[source]
            begin, end = self._broker.bounds(source)
            self._seen[source] = (end, self._broker.hidden(source))
            if position >= end:
                if position > end + self._broker.hidden(source):
                    raise LogError(f"{source} has no offset {position}")
                continue
            if position < begin:
                raise LogError(f"{source} has no offset {position}")
            moved = True
            records: list[SimRecord] = []
            for record in self._broker.visible(source, position):
                if left <= 0:
                    self._fresh[source] = None
                    break
                records.append(record)
                left -= 1
                self._positions[source] = record.offset + 1
            else:
                # Behind the last record come markers, or what was compacted.
                self._positions[source] = end
            if records:
                fetched[source] = records
        return fetched, moved

    async def position(self, source: Source) -> int:
        return self._positions[source]

    def end(self, source: Source) -> int | None:
        seen = self._seen.get(source)
        return None if seen is None else seen[0]

    def hidden(self, source: Source) -> int:
        seen = self._seen.get(source)
        return 0 if seen is None else seen[1]

    def pause(self, source: Source) -> None:
        self._paused.add(source)

    def resume(self, source: Source) -> None:
        self._paused.discard(source)
        self._fresh[source] = None
        self._wake()

    def interrupt(self) -> None:
        """Let go of the poll under way, whose timeout is long here."""
        self._interrupted = True
        self._wake()

    def nudge(self) -> None:
        """Let go of this poll and all that follow."""
        self._closed = True
        self._wake()

    async def close(self) -> None:
        self._closed = True
        self._broker.unfollow(self._positions, self._told)
        if self._wake in self._log.process.on_change:
            self._log.process.on_change.remove(self._wake)
        self._wake()


class SimMembership:
    """A member of the fulfillers' group, as aiokafka is one: it coordinates in the background."""

    def __init__(self, log: SimLog) -> None:
        self._log = log
        self._member: Member | None = None

    async def join(self, on_revoked: OnPartitions, on_assigned: OnPartitions) -> None:
        self._member = Member(self._log.process, self._log.group, self._log.network, on_revoked, on_assigned)

    async def poll(self) -> None:
        await asyncio.sleep(0)

    async def commit(self, offsets: Mapping[int, int]) -> None:
        member = self._member
        if member is None:
            raise LogError("not a member yet")
        member_id, generation = member.member_id, member.generation
        await self._log.ask(lambda: self._log.group.commit(member_id, generation, offsets), WATCHDOG_S)

    async def leave(self) -> None:
        if self._member is not None:
            self._member.leave()


class SimGatewayWriter:
    """In place of services.gateway.writer.Writer: one producer, acks=all, five seconds."""

    def __init__(self, log: SimLog, *, acknowledge_timeout_s: float = 5.0) -> None:
        self._log = log
        self._acknowledge_timeout_s = acknowledge_timeout_s

    async def append(self, topic: str, order_id: str, value: bytes, headers: Sequence[tuple[str, bytes]]) -> None:
        broker, process = self._log.broker, self._log.process
        source = Source(topic, home_partition(order_id, broker.partitions))

        def write() -> int:
            return broker.append(source, order_id.encode(), value, tuple(headers))

        fate = broker.append_fates.pop() if broker.append_fates else None
        if fate is Fate.REFUSED:
            await asyncio.sleep(0.01)
            raise NotWrittenError(maybe_written=False)
        if fate is Fate.NEVER:
            await asyncio.sleep(self._acknowledge_timeout_s)
            raise NotWrittenError(maybe_written=True)
        if fate is Fate.LATE:
            broker.loop.in_world(self._acknowledge_timeout_s / 2, write)
            await asyncio.sleep(self._acknowledge_timeout_s)
            raise NotWrittenError(maybe_written=True)
        if fate is Fate.UNHEARD:
            self._log.network.call(process, "broker", write)
            await asyncio.sleep(self._acknowledge_timeout_s)
            raise NotWrittenError(maybe_written=True)
        try:
            await self._log.network.ask(process, "broker", write, self._acknowledge_timeout_s)
        except Lost as error:
            raise NotWrittenError(maybe_written=True) from error


__all__ = ["FencedError", "SimGatewayWriter", "SimLog", "SimMembership", "SimReader", "SimWriter"]
