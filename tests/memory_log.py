"""A log in memory that keeps Kafka's promises, and breaks them on request: offsets that count transactions' markers,
readers that see what is committed alone, writers fenced by their successors.
"""

import asyncio
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from services.fulfiller.log import (
    Bounds,
    FencedError,
    LogError,
    OnPartitions,
    Outgoing,
    Source,
)

MAX_POLL_RECORDS = 1000
Headers = Sequence[tuple[str, bytes | None]]


class Fate(Enum):
    """Of a commit."""

    WRITTEN = auto()
    ABORTED = auto()
    """Nothing is written, and the writer hears of a fault."""
    UNKNOWN = auto()
    """Everything is written, and the writer hears of a fault all the same."""
    HANGING = auto()
    """Neither: it stays open until the writer is fenced, which aborts it."""


class _Txn(Enum):
    OPEN = auto()
    COMMITTED = auto()
    ABORTED = auto()


@dataclass(slots=True)
class _Transaction:
    state: _Txn = _Txn.OPEN


_PLAIN = _Transaction(_Txn.COMMITTED)


@dataclass(frozen=True, slots=True)
class MemoryRecord:
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


@dataclass(frozen=True, slots=True)
class _Entry:
    record: MemoryRecord | None
    """None: a marker."""
    transaction: _Transaction


@dataclass(slots=True)
class _Partition:
    entries: list[_Entry] = field(default_factory=list)
    begin: int = 0
    open_from: dict[int, int] = field(default_factory=dict)
    """The first offset of each writer's open transaction."""

    @property
    def stable_end(self) -> int:
        return min(self.open_from.values(), default=len(self.entries))


class MemoryLog:
    def __init__(self, partitions: int, topics: Iterable[str], now_s: Callable[[], float]) -> None:
        self.partitions = partitions
        self.changed = asyncio.Event()
        """Set by whatever becomes visible; for whoever looks on, who clears it."""
        self._now_s = now_s
        self._topics: dict[Source, _Partition] = {}
        for topic in topics:
            self.create(topic)
        self._epochs: defaultdict[int, int] = defaultdict(int)
        self._open: dict[int, tuple[_Transaction, set[Source]]] = {}
        self._readers: list[MemoryReader] = []
        self.group = Group(partitions)
        self.fates: deque[Fate] = deque()
        """Of the coming commits; those without one are written."""
        self.commits = 0
        self.opened: Counter[int] = Counter()
        """Writers, by partition: each fenced the one before."""
        self.commit_s = 0.001

    # --- topics -------------------------------------------------------------------------------------------------------

    def create(self, topic: str) -> None:
        """A topic of that name that holds nothing, whatever was there."""
        for partition in range(self.partitions):
            self._topics[Source(topic, partition)] = _Partition()

    def expire(self, source: Source, begin: int) -> None:
        """Retention: what comes before is gone."""
        self._topics[source].begin = begin

    def append(self, topic: str, partition: int, key: bytes | None, value: bytes | None, headers: Headers = ()) -> int:
        """As a producer without transactions does; the record's offset."""
        offset = self._write(Source(topic, partition), key, value, headers, _PLAIN)
        self._tell()
        return offset

    def records(self, topic: str, partition: int | None = None) -> list[MemoryRecord]:
        """What read_committed readers can see, of one partition or of all."""
        wanted = range(self.partitions) if partition is None else (partition,)
        return [record for p in wanted for _, record in self._visible(Source(topic, p), 0)]

    def _write(
        self, source: Source, key: bytes | None, value: bytes | None, headers: Headers, transaction: _Transaction
    ) -> int:
        entries = self._topics[source].entries
        record = MemoryRecord(len(entries), int(self._now_s() * 1000), key, value, tuple(headers))
        entries.append(_Entry(record, transaction))
        return record.offset

    def _visible(self, source: Source, at: int) -> Iterable[tuple[int, MemoryRecord]]:
        partition = self._topics[source]
        for offset in range(max(at, partition.begin), partition.stable_end):
            entry = partition.entries[offset]
            if entry.record is not None and entry.transaction.state is _Txn.COMMITTED:
                yield offset, entry.record

    def nudge(self) -> None:
        """Let go of whoever waits for records; they wait for long, on virtual time."""
        self._tell()

    def _tell(self) -> None:
        self.changed.set()
        for reader in self._readers:
            reader.told.set()

    # --- transactions -------------------------------------------------------------------------------------------------

    def _end(self, partition: int, state: _Txn) -> None:
        if partition in self._open:
            transaction, sources = self._open.pop(partition)
            transaction.state = state
            for source in sources:
                self._topics[source].entries.append(_Entry(None, _PLAIN))
                del self._topics[source].open_from[partition]
            self._tell()

    async def commit(self, partition: int, epoch: int, records: Sequence[Outgoing]) -> None:
        self.check(partition, epoch)
        self.commits += 1
        fate = self.fates.popleft() if self.fates else Fate.WRITTEN
        transaction = _Transaction()
        sources = {Source(record.topic, record.partition) for record in records}
        self._open[partition] = (transaction, sources)
        for source in sources:
            self._topics[source].open_from[partition] = len(self._topics[source].entries)
        for topic, to, key, value, headers in records:
            self._write(Source(topic, to), key, value, headers, transaction)
        await asyncio.sleep(self.commit_s)
        self.check(partition, epoch)
        if fate is not Fate.HANGING:
            self._end(partition, _Txn.ABORTED if fate is Fate.ABORTED else _Txn.COMMITTED)
        if fate is not Fate.WRITTEN:
            raise LogError(f"the transaction is said to have failed: {fate}")

    def check(self, partition: int, epoch: int) -> None:
        if epoch != self._epochs[partition]:
            raise FencedError(f"partition {partition} has another writer")

    # --- the Log protocol ---------------------------------------------------------------------------------------------

    async def cluster_id(self) -> str:
        return "memory"

    async def topics(self) -> frozenset[str]:
        return frozenset(source.topic for source in self._topics)

    async def open_writer(self, partition: int) -> "MemoryWriter":
        await asyncio.sleep(self.commit_s)
        self._end(partition, _Txn.ABORTED)
        self._epochs[partition] += 1
        self.opened[partition] += 1
        return MemoryWriter(self, partition, self._epochs[partition])

    async def open_reader(self) -> "MemoryReader":
        reader = MemoryReader(self, self._topics, self._visible)
        self._readers.append(reader)
        return reader

    def membership(self) -> "MemoryMembership":
        return MemoryMembership(self.group)

    def forget(self, reader: "MemoryReader") -> None:
        self._readers.remove(reader)


class MemoryWriter:
    def __init__(self, log: MemoryLog, partition: int, epoch: int) -> None:
        self._log = log
        self._partition = partition
        self._epoch = epoch
        self.closed = False

    async def commit(self, records: Sequence[Outgoing]) -> None:
        if self.closed:
            raise LogError("the writer is closed")
        await self._log.commit(self._partition, self._epoch, records)

    async def keep(self) -> None:
        await asyncio.Event().wait()  # nothing is ever forgotten here

    async def prove(self) -> None:
        self._log.check(self._partition, self._epoch)

    async def close(self) -> None:
        self.closed = True


class MemoryReader:
    def __init__(
        self,
        log: MemoryLog,
        topics: Mapping[Source, _Partition],
        visible: Callable[[Source, int], Iterable[tuple[int, MemoryRecord]]],
    ) -> None:
        self._log = log
        self._topics = topics
        self._visible = visible
        self._positions: dict[Source, int] = {}
        self._paused: set[Source] = set()
        self.told = asyncio.Event()

    async def bounds(self, sources: Iterable[Source]) -> Mapping[Source, Bounds]:
        return {source: Bounds(self._topics[source].begin, self._topics[source].stable_end) for source in sources}

    def assign(self, offsets: Mapping[Source, int]) -> None:
        self._positions = dict(offsets)
        self._paused.clear()

    async def poll(self, timeout_s: float) -> Mapping[Source, Sequence[MemoryRecord]]:
        await asyncio.sleep(0)
        self.told.clear()
        read = self._read()
        if not read:
            try:
                async with asyncio.timeout(timeout_s):
                    await self.told.wait()
            except TimeoutError:
                return {}
            read = self._read()
        return read

    def _read(self) -> dict[Source, list[MemoryRecord]]:
        read: dict[Source, list[MemoryRecord]] = {}
        for source in self._positions.keys() - self._paused:
            position = self._positions[source]
            if position < self._topics[source].begin or position > len(self._topics[source].entries):
                raise LogError(f"{source} has no offset {position}")
            for offset, record in self._visible(source, position):
                read.setdefault(source, []).append(record)
                self._positions[source] = offset + 1
                if len(read[source]) >= MAX_POLL_RECORDS:
                    break
            else:
                self._positions[source] = self._topics[source].stable_end
        return read

    async def position(self, source: Source) -> int:
        return self._positions[source]

    def end(self, source: Source) -> int | None:
        return self._topics[source].stable_end

    def hidden(self, source: Source) -> int:
        partition = self._topics[source]
        return len(partition.entries) - partition.stable_end

    def pause(self, source: Source) -> None:
        self._paused.add(source)

    def resume(self, source: Source) -> None:
        self._paused.discard(source)
        self.told.set()

    async def close(self) -> None:
        self._log.forget(self)


class Group:
    """Who has which partitions: in equal parts, in the order of joining."""

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        self._rebalancing = asyncio.Lock()
        self.members: list[MemoryMembership] = []

    async def rebalance(self) -> None:
        """One at a time, as a coordinator sees to it."""
        async with self._rebalancing:
            members = list(self.members)
            for member in members:
                await member.on_revoked(member.owned)
            for number, member in enumerate(members):
                member.owned = frozenset(range(number, self._partitions, len(members)))
                await member.on_assigned(member.owned)

    async def expel(self, member: "MemoryMembership") -> None:
        """As for one that was not heard of for a session: it does not know."""
        self.members.remove(member)
        await self.rebalance()


class MemoryMembership:
    def __init__(self, group: Group) -> None:
        self._group = group
        self.owned: frozenset[int] = frozenset()
        self.committed: dict[int, int] = {}

    async def join(self, on_revoked: OnPartitions, on_assigned: OnPartitions) -> None:
        self.on_revoked = on_revoked
        self.on_assigned = on_assigned
        self._group.members.append(self)
        await self._group.rebalance()

    async def poll(self) -> None:
        if self not in self._group.members:
            self._group.members.append(self)
            await self._group.rebalance()

    async def commit(self, offsets: Mapping[int, int]) -> None:
        if self not in self._group.members:
            raise LogError("not a member now")
        self.committed.update(offsets)

    async def leave(self) -> None:
        if self in self._group.members:
            self._group.members.remove(self)
            await self._group.rebalance()
