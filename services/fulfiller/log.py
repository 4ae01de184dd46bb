"""What the fulfiller needs of the log: atomic writes under a fence, committed reads, membership.

Topics are named without the deployment's prefix here.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol


class LogError(Exception):
    """The log did not do what was asked, or nobody knows whether it did. Throw away what depended on it."""


class FencedError(LogError):
    """Somebody else writes under this identity now."""


class Source(NamedTuple):
    topic: str
    partition: int


class Record(Protocol):
    """As read."""

    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int:
        """LogAppendTime, unix milliseconds."""
        ...

    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]: ...


class Outgoing(NamedTuple):
    """To be written."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()


class Writer(Protocol):
    async def commit(self, records: Sequence[Outgoing]) -> None:
        """Write all of them, or none, and return when that is decided; readers see them a moment later.

        FencedError or LogError: it is not known whether they were written, and this writer is of no more use.
        """
        ...

    async def keep(self) -> None:
        """See to it, until cancelled, that readers see what was committed, whatever the log forgot. As `commit`."""
        ...

    async def prove(self) -> None:
        """FencedError where somebody else has taken the partition since. LogError."""
        ...

    async def close(self) -> None: ...


class Bounds(NamedTuple):
    begin: int
    end: int
    """Behind the last committed record; an open transaction may hide more."""


class Reader(Protocol):
    """Reads what is committed, from where it is told. Belongs to no group."""

    async def bounds(self, sources: Iterable[Source]) -> Mapping[Source, Bounds]: ...

    def assign(self, offsets: Mapping[Source, int]) -> None:
        """Read these sources, each from the offset given, and no others."""
        ...

    async def poll(self, timeout_s: float) -> Mapping[Source, Sequence[Record]]: ...

    async def position(self, source: Source) -> int:
        """The offset that is read next; control records are stepped over."""
        ...

    def end(self, source: Source) -> int | None:
        """The source's end as the last fetch saw it; None before the first."""
        ...

    def hidden(self, source: Source) -> int:
        """Offsets that the last fetch saw behind `end`: an open transaction hides them."""
        ...

    def pause(self, source: Source) -> None: ...

    def resume(self, source: Source) -> None: ...

    async def close(self) -> None: ...


OnPartitions = Callable[[frozenset[int]], Awaitable[None]]


class Membership(Protocol):
    """One worker's place in the group that shares out the partitions."""

    async def join(self, on_revoked: OnPartitions, on_assigned: OnPartitions) -> None: ...

    async def poll(self) -> None:
        """To be called every second or so, or the group believes that the worker hangs."""
        ...

    async def commit(self, offsets: Mapping[int, int]) -> None:
        """Note positions on orders.events for the group's lag. LogError where this worker is no member now."""
        ...

    async def leave(self) -> None: ...


class Log(Protocol):
    async def cluster_id(self) -> str: ...

    async def topics(self) -> frozenset[str]: ...

    async def open_writer(self, partition: int) -> Writer:
        """Take the partition's identity; whoever had it is fenced from the moment that this returns.

        All that they committed in state, events, dead letters and delayed topics of this partition can be read then.
        """
        ...

    async def open_reader(self) -> Reader: ...

    def membership(self) -> Membership: ...
