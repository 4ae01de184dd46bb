"""A broker that keeps Kafka's promises and no others.

Partitions with offsets that count transactions' markers; a transaction that reaches its partitions one by one, and
becomes visible in them one by one; identities that fence their former holders; a coordinator that aborts what is not
ended in time; readers that see what is committed and lies before the first open transaction; compaction.

And one that Kafka 4 breaks (docs/guarantees.md): a commit's markers may be forgotten, though it is said to be complete.
What is hidden then has its end from whatever the identity ends in that partition next.
"""

import asyncio
import hashlib
import marshal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Final, NamedTuple

from services.fulfiller.log import Bounds, FencedError, LogError, Outgoing, Source
from tests.simulation.loop import BEGIN_S, Event, SimLoop, let_go

TRANSACTION_TIMEOUT_S: Final = 10.0
BACK_OFF_S: Final = 0.02
Headers = tuple[tuple[str, bytes | None], ...]


class SimRecord(NamedTuple):
    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()

    @property
    def place(self) -> str:
        return f"{self.topic} {self.partition}@{self.offset}"


@dataclass(slots=True, eq=False)
class _Span:
    """What an identity wrote in a partition between two markers there."""

    begin: int
    aborted: bool = False


class _Kept(NamedTuple):
    record: SimRecord | None
    """None: a marker."""
    span: _Span | None


class _Partition:
    __slots__ = ("begin", "end", "entries", "followers", "open")

    def __init__(self) -> None:
        self.entries: dict[int, _Kept] = {}
        """By offset, in order; compaction leaves gaps."""
        self.begin = 0
        self.end = 0
        self.open: dict[str, _Span] = {}
        """By identity: a partition knows of producers, not of transactions."""
        self.followers: dict[Callable[[Source], None], None] = {}

    @property
    def stable_end(self) -> int:
        return min(span.begin for span in self.open.values()) if self.open else self.end

    def visible(self, at: int) -> Iterator[SimRecord]:
        entries = self.entries
        for offset in range(max(at, self.begin), self.stable_end):
            kept = entries.get(offset)
            if kept is None or kept.record is None:
                continue
            if kept.span is None or not kept.span.aborted:
                yield kept.record


class _State(Enum):
    EMPTY = auto()
    ONGOING = auto()
    ENDING = auto()
    """Decided; the markers are being written."""


@dataclass(slots=True)
class _Identity:
    """A transactional id, as its coordinator knows it."""

    name: str
    epoch: int = 0
    state: _State = _State.EMPTY
    committed: bool = True
    """Whether the last transaction is, of this epoch; one that goes on is not."""
    sources: dict[Source, None] = field(default_factory=dict)
    """Of the transaction."""
    timeout: Event | None = None
    waiting: list[Callable[[], None]] = field(default_factory=list)
    """What waits for the markers."""
    forgotten: list[asyncio.Future[None]] = field(default_factory=list)
    """Whoever waits for markers to be forgotten."""


class Fate(Enum):
    """Of one step of a transaction."""

    REFUSED = auto()
    """Nothing is done, and the client is told."""
    UNHEARD = auto()
    """It is done, and the answer never comes."""
    LATE = auto()
    """It is done seconds later, and the answer never comes."""
    NEVER = auto()
    """It never arrives."""


class Broker:
    cluster_id = "simulated"

    def __init__(self, loop: SimLoop, partitions: int, topics: Iterable[str]) -> None:
        self.loop = loop
        self.partitions = partitions
        self.topics = frozenset(topics)
        self._kept = {Source(topic, number): _Partition() for topic in sorted(topics) for number in range(partitions)}
        self._identities: dict[str, _Identity] = {}
        self._appended: list[tuple[float, str, int, int, bytes | None]] = []
        """Everything that was ever written, where and when."""
        self.taken_s: dict[str, list[float]] = {}
        """When each identity was given to somebody, in order."""
        self.produce_fates: list[Fate] = []
        """Of coming batches: whoever is next meets the last."""
        self.end_fates: list[Fate] = []
        """Of coming EndTxn."""
        self.append_fates: list[Fate] = []
        """Of coming records outside transactions."""
        self.forgetting: list[Callable[[], None]] = []
        """What happens as coming commits lose markers: the next one meets the last."""

    # --- partitions ---------------------------------------------------------------------------------------------------

    def _of(self, source: Source) -> _Partition:
        try:
            return self._kept[source]
        except KeyError:
            raise LogError(f"there is no {source.topic} {source.partition}") from None

    def append(
        self,
        source: Source,
        key: bytes | None,
        value: bytes | None,
        headers: Headers,
        within: str | None = None,
    ) -> int:
        """Write one record, in the transaction of an identity perhaps; readers are told unless it is hidden."""
        partition = self._of(source)
        offset = partition.end
        span = None
        if within is not None:
            span = partition.open.get(within)
            if span is None:
                span = partition.open[within] = _Span(offset)
        timestamp_ms = int((BEGIN_S + self.loop.now_s) * 1000)
        partition.entries[offset] = _Kept(SimRecord(*source, offset, timestamp_ms, key, value, headers), span)
        partition.end += 1
        self._appended.append((self.loop.now_s, *source, offset, value))
        if span is None:
            self._tell(source, partition)
        return offset

    def trace(self) -> bytes:
        """Two histories with the same one are the same."""
        # As version 2 has it: later ones tell objects that are shared from equal ones.
        return hashlib.blake2b(marshal.dumps(self._appended, 2), digest_size=8).digest()

    def _mark(self, source: Source, name: str, *, commit: bool) -> None:
        partition = self._of(source)
        partition.entries[partition.end] = _Kept(None, None)
        partition.end += 1
        span = partition.open.pop(name, None)
        if span is not None:
            span.aborted = not commit
        self._tell(source, partition)

    def writers(self, source: Source) -> list[str]:
        """Whose transactions are open there (DescribeProducers)."""
        return list(self._of(source).open)

    @staticmethod
    def _tell(source: Source, partition: _Partition) -> None:
        for follower in list(partition.followers):
            follower(source)

    def follow(self, sources: Iterable[Source], told: Callable[[Source], None]) -> None:
        for source in sources:
            self._of(source).followers[told] = None

    def unfollow(self, sources: Iterable[Source], told: Callable[[Source], None]) -> None:
        for source in sources:
            self._of(source).followers.pop(told, None)

    def bounds(self, source: Source) -> Bounds:
        partition = self._of(source)
        return Bounds(partition.begin, partition.stable_end)

    def hidden(self, source: Source) -> int:
        partition = self._of(source)
        return partition.end - partition.stable_end

    def visible(self, source: Source, at: int = 0) -> Iterator[SimRecord]:
        return self._of(source).visible(at)

    def records(self, topic: str) -> list[SimRecord]:
        """What read_committed readers can see of all partitions."""
        return [record for number in range(self.partitions) for record in self.visible(Source(topic, number))]

    def compact(self, topic: str) -> None:
        """Keep the last committed value of each key, and of those gone, the tombstone; what is hidden stays."""
        for number in range(self.partitions):
            partition = self._of(Source(topic, number))
            last = {record.key: record.offset for record in partition.visible(0)}
            keep = set(last.values())
            for offset in [offset for offset in partition.entries if offset < partition.stable_end - 1]:
                if offset not in keep:
                    del partition.entries[offset]

    def expire(self, source: Source, begin: int) -> None:
        """Retention: what comes before is gone."""
        self._of(source).begin = begin

    # --- transactions -------------------------------------------------------------------------------------------------

    def _identity(self, name: str) -> _Identity:
        identity = self._identities.get(name)
        if identity is None:
            identity = self._identities[name] = _Identity(name)
        return identity

    def _held(self, name: str, epoch: int) -> _Identity:
        identity = self._identity(name)
        if identity.epoch != epoch:
            raise FencedError(f"{name} has epoch {identity.epoch}, not {epoch}")
        return identity

    def prove(self, name: str, epoch: int) -> None:
        """FencedError where the identity has another epoch by now (DescribeTransactions)."""
        self._held(name, epoch)

    def init(self, name: str) -> asyncio.Future[int]:
        """Fence whoever has the identity; its new epoch, once nothing of earlier ones is open."""
        answer: asyncio.Future[int] = self.loop.create_future()
        self._init(name, answer)
        return answer

    def _init(self, name: str, answer: asyncio.Future[int]) -> None:
        identity = self._identity(name)
        if identity.state is _State.ONGOING:
            identity.epoch += 1
            self._end(identity, commit=False)
        if identity.state is _State.ENDING:
            # CONCURRENT_TRANSACTIONS: the client asks again.
            identity.waiting.append(lambda: self._init(name, answer))
            return
        identity.epoch += 1
        identity.committed = True
        self.taken_s.setdefault(name, []).append(self.loop.now_s)
        if not answer.done():
            answer.set_result(identity.epoch)

    def is_committed(self, name: str) -> bool:
        """Whether the last transaction is, or there was none in this epoch (DescribeTransactions)."""
        return self._identity(name).committed

    def produce(self, name: str, epoch: int, records: Sequence[Outgoing]) -> asyncio.Future[None] | None:
        """A request of a transaction, which begins with the first; the future waits for the one before to end."""
        identity = self._held(name, epoch)
        if identity.state is _State.ENDING:
            answer: asyncio.Future[None] = self.loop.create_future()
            identity.waiting.append(lambda: self._later(lambda: self.produce(name, epoch, records), answer))
            return answer
        if identity.state is _State.EMPTY:
            identity.state, identity.committed, identity.sources = _State.ONGOING, False, {}
            identity.timeout = self.loop.in_world(TRANSACTION_TIMEOUT_S, self._time_out, identity, epoch)
        for topic, partition, key, value, headers in records:
            source = Source(topic, partition)
            self.append(source, key, value, tuple(headers), name)
            identity.sources[source] = None
        return None

    def _later(self, act: Callable[[], asyncio.Future[None] | None], answer: asyncio.Future[None]) -> None:
        try:
            still = act()
        except LogError as error:
            answer.set_exception(error)
            return
        if still is None:
            answer.set_result(None)
        else:
            still.add_done_callback(lambda done: _pass_on(done, answer), context=self.loop.world.context)

    def _time_out(self, identity: _Identity, epoch: int) -> None:
        if identity.state is _State.ONGOING and identity.epoch == epoch:
            identity.epoch += 1
            self._end(identity, commit=False)

    def end(self, name: str, epoch: int, *, commit: bool) -> None:
        """Decide; the answer does not wait for the markers, as Kafka's does not."""
        identity = self._held(name, epoch)
        if identity.state is not _State.ONGOING:
            raise LogError(f"{name} has no transaction to end: {identity.state.name}")
        self._end(identity, commit=commit)

    def _end(self, identity: _Identity, *, commit: bool) -> None:
        identity.state, identity.committed = _State.ENDING, commit
        if identity.timeout is not None:
            identity.timeout.cancel()
        sources = self._remembered(identity) if commit and self.forgetting else list(identity.sources)
        left = len(sources)
        if not left:
            self._ended(identity)
            return

        def mark(source: Source) -> None:
            nonlocal left
            self._mark(source, identity.name, commit=commit)
            left -= 1
            if not left:
                self._ended(identity)

        # Some partitions show the transaction before others.
        slow_s = 0.002 if self.loop.random.random() < 0.95 else 1.0
        for source in sources:
            self.loop.in_world(self.loop.random.random() * slow_s, mark, source)

    def _remembered(self, identity: _Identity) -> list[Source]:
        """All but those that have no leader just now: they are taken for deleted."""
        random, sources = self.loop.random, list(identity.sources)
        lost = set(random.sample(sources, random.choice((1, len(sources)))))
        self.forgetting.pop()()
        told, identity.forgotten = identity.forgotten, []
        for waiting in told:
            let_go(waiting)
        return [source for source in sources if source not in lost]

    def forgotten(self, name: str) -> asyncio.Future[None]:
        """Done once markers of this identity are forgotten. Nobody can be told so: it saves looking every second."""
        told: asyncio.Future[None] = self.loop.create_future()
        self._identity(name).forgotten.append(told)
        return told

    def end_again(
        self, name: str, epoch: int, sources: Sequence[Source], *, commit: bool
    ) -> asyncio.Future[None] | None:
        """An empty transaction, so that there are markers after all; the future waits for the one before to end.

        AddPartitionsToTxn and EndTxn in one: what dies between the two is not covered (docs/guarantees.md).
        """
        identity = self._held(name, epoch)
        if identity.state is _State.ENDING:
            answer: asyncio.Future[None] = self.loop.create_future()
            identity.waiting.append(
                lambda: self._later(lambda: self.end_again(name, epoch, sources, commit=commit), answer)
            )
            return answer
        identity.sources = dict.fromkeys(sources)
        self._end(identity, commit=commit)
        return None

    def _ended(self, identity: _Identity) -> None:
        identity.state = _State.EMPTY
        waiting, identity.waiting = identity.waiting, []
        for go_on in waiting:
            self.loop.in_world(self.loop.random.random() * BACK_OFF_S, go_on)

    def ends(self) -> Mapping[Source, int]:
        return {source: partition.stable_end for source, partition in self._kept.items()}

    def dump(self, topics: Iterable[str]) -> dict[str, Sequence[Any]]:
        return {topic: self.records(topic) for topic in topics}


def _pass_on(done: asyncio.Future[None], answer: asyncio.Future[None]) -> None:
    error = done.exception()
    if error is None:
        answer.set_result(None)
    else:
        answer.set_exception(error)
