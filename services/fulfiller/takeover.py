"""Taking over a partition: fence the last owner, then believe nothing but the log."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import structlog
from pydantic import ValidationError

from schemas.fulfillment import read_event
from schemas.topics import (
    FULFILLMENT_COMMANDS,
    FULFILLMENT_EVENTS,
    FULFILLMENT_STATE,
    ORDERS_EVENTS,
    is_retry_topic,
)
from services.crashpoints import crashpoint
from services.fulfiller.book import Book
from services.fulfiller.clock import Clock
from services.fulfiller.log import Bounds, Log, Reader, Record, Source, Writer
from services.fulfiller.order import load_order
from services.fulfiller.positions import GENESIS_KEY, POSITIONS_KEY, Genesis, LastRead, Positions

POLL_S: Final = 0.2
TAIL_RECORDS: Final = 50
TURN_S: Final = 2.0
"""How long one partition's loading waits for another's."""

log = structlog.get_logger()


class RefusedError(Exception):
    """The partition's state is not to be trusted: it stays idle until somebody mends it."""


class UnreadableStateError(Exception):
    """The state was written by a version that knows more than this one."""


@dataclass(slots=True)
class Takeover:
    """What the new owner of a partition starts from."""

    writer: Writer
    reader: Reader
    book: Book
    positions: Positions
    inputs: frozenset[Source]
    fenced_at_s: float
    """On our monotonic clock: every intent that was ever committed by somebody else is older."""


@asynccontextmanager
async def _one_by_one(loading: asyncio.Lock) -> AsyncIterator[None]:
    """Loading is work for the processor: one after another, the first is soon done. Nobody waits for one that hangs."""
    try:
        async with asyncio.timeout(TURN_S):
            await loading.acquire()
    except TimeoutError:
        yield
        return
    try:
        yield
    finally:
        loading.release()


async def take_over(
    partition: int, log_: Log, clock: Clock, *, partitions: int, cluster_id: str, loading: asyncio.Lock
) -> Takeover:
    """Become the owner. LogError: try again; RefusedError: do not run; UnreadableStateError: leave it to others."""
    writer = await log_.open_writer(partition)
    fenced_at_s = clock.monotonic_s()
    reader: Reader | None = None
    try:
        reader = await log_.open_reader()
        crashpoint("fulfiller.takeover")
        try:
            loaded, starts = await _read(
                partition, log_, reader, partitions=partitions, cluster_id=cluster_id, loading=loading
            )
        except RefusedError:
            # Whoever was fenced meanwhile may have read half of what another has written since: that proves nothing.
            await writer.prove()
            raise
        reader.assign(starts)
    except BaseException:
        await writer.close()
        if reader is not None:
            await reader.close()
        raise
    return Takeover(writer, reader, loaded.book, loaded.positions, frozenset(starts), fenced_at_s)


async def look(partition: int, log_: Log, *, partitions: int, cluster_id: str, loading: asyncio.Lock) -> None:
    """Raise what `take_over` would, and fence nobody: a recovery, say, that is under way."""
    reader = await log_.open_reader()
    try:
        await _read(partition, log_, reader, partitions=partitions, cluster_id=cluster_id, loading=loading)
    finally:
        await reader.close()


async def _read(
    partition: int, log_: Log, reader: Reader, *, partitions: int, cluster_id: str, loading: asyncio.Lock
) -> tuple["_Loaded", dict[Source, int]]:
    """The state, and where to go on reading each input."""
    state, events = Source(FULFILLMENT_STATE, partition), Source(FULFILLMENT_EVENTS, partition)
    topics = {ORDERS_EVENTS, FULFILLMENT_COMMANDS} | {name for name in await log_.topics() if is_retry_topic(name)}
    inputs = frozenset(Source(name, partition) for name in topics)
    bounds = await reader.bounds({state, events, *inputs})
    async with _one_by_one(loading):
        loaded = await _load(reader, state, bounds[state])
    _check_genesis(loaded.genesis, partitions, cluster_id)
    await _check_tail(reader, events, bounds[events], loaded)
    return loaded, await _starts(reader, inputs, bounds, loaded.positions)


@dataclass(slots=True)
class _Loaded:
    book: Book
    positions: Positions
    genesis: Genesis | None


async def read_through(reader: Reader, source: Source, begin: int, end: int) -> list[Record]:
    """Every committed record from `begin` up to the offset `end`."""
    records: list[Record] = []
    reader.assign({source: begin})
    while await reader.position(source) < end:
        records += (await reader.poll(POLL_S)).get(source, ())
    return records


async def _load(reader: Reader, source: Source, bounds: Bounds) -> _Loaded:
    """Read the compacted state to its end."""
    reader.assign({source: bounds.begin})
    reserved: dict[bytes, bytes | None] = {}
    latest: dict[bytes, bytes] = {}
    while await reader.position(source) < bounds.end:
        for record in (await reader.poll(POLL_S)).get(source, ()):
            key, value = record.key, record.value
            if key is None:
                raise UnreadableStateError(f"a record of {source.topic} has no key")
            if key in {POSITIONS_KEY, GENESIS_KEY}:
                reserved[key] = value
            elif value is None:
                latest.pop(key, None)
            else:
                latest[key] = value
        # Loading is long work for the event loop: heartbeats and other shards go between.
        await asyncio.sleep(0)
    book = Book()
    try:
        while latest:
            _key, value = latest.popitem()
            book.put(load_order(value))
            if not len(latest) % 1000:
                await asyncio.sleep(0)
        positions = Positions.model_validate_json(reserved.get(POSITIONS_KEY) or b"{}")
        genesis_value = reserved.get(GENESIS_KEY)
        genesis = None if genesis_value is None else Genesis.model_validate_json(genesis_value)
    except ValidationError as error:
        raise UnreadableStateError(_fault(source, error)) from None
    book.sort_endings()
    return _Loaded(book, positions, genesis)


def _fault(source: Source, error: ValidationError) -> str:
    return f"{source.topic} {source.partition}: {error.errors(include_input=False)[:1]}"


def _check_genesis(genesis: Genesis | None, partitions: int, cluster_id: str) -> None:
    if genesis is None:
        raise RefusedError(
            "fulfillment.state has no genesis record: it is not new but lost. `python -m services.fulfiller recover` "
            "makes it anew from fulfillment.events; a new deployment needs `python -m services.setup`"
        )
    if genesis.partitions != partitions:
        raise RefusedError(f"setting PARTITIONS: {partitions}, but the topics were made with {genesis.partitions}")
    if genesis.cluster_id != cluster_id:
        raise RefusedError(f"fulfillment.state was made for cluster {genesis.cluster_id}, this is {cluster_id}")


async def _check_tail(reader: Reader, source: Source, bounds: Bounds, loaded: _Loaded) -> None:
    """Refuse where events are newer than the state: both were written in one transaction."""
    tail: list[Record] = []
    begin, back = bounds.end, TAIL_RECORDS
    while not tail and begin > bounds.begin:
        # The last offsets may all be transactions' markers or aborted records.
        begin = max(bounds.begin, bounds.end - back)
        tail = await read_through(reader, source, begin, bounds.end)
        back *= 8
    forgotten_before = loaded.positions.forgotten_before
    for record in tail:
        try:
            event = read_event(record.value or b"")
        except ValidationError as error:
            raise UnreadableStateError(_fault(source, error)) from None
        order = loaded.book.get(event.order_id)
        known = order.sequence if order else 0
        appended_at = datetime.fromtimestamp(record.timestamp / 1000, UTC)
        if known < event.sequence and (order or forgotten_before is None or appended_at >= forgotten_before):
            raise RefusedError(
                f"fulfillment.events has event {event.sequence} of order {event.order_id}, fulfillment.state knows "
                f"{known}: the state was lost. `python -m services.fulfiller recover` makes it anew"
            )


async def _starts(
    reader: Reader, inputs: frozenset[Source], bounds: Mapping[Source, Bounds], positions: Positions
) -> dict[Source, int]:
    """Where to go on reading each input, once it is certain that it is still the one that was read."""
    starts: dict[Source, int] = {}
    to_check: dict[Source, LastRead] = {}
    for source in inputs:
        last = positions.inputs.get(source.topic)
        begin, end = bounds[source]
        if last is None:
            starts[source] = begin
            continue
        if last.offset >= end:
            raise RefusedError(
                f"{source.topic} {source.partition} ends at {end}, but offset {last.offset} was read: "
                "the topic was made anew"
            )
        starts[source] = max(last.offset + 1, begin)
        if begin <= last.offset:
            to_check[source] = last
        elif begin > last.offset + 1:
            log.error(
                "input_expired_unread", topic=source.topic, partition=source.partition, missed=begin - last.offset - 1
            )
    await _check_last_read(reader, to_check, bounds)
    return starts


async def _check_last_read(
    reader: Reader, last_read: Mapping[Source, LastRead], bounds: Mapping[Source, Bounds]
) -> None:
    """Read the last consumed record of each input once more."""
    if not last_read:
        return
    reader.assign({source: last.offset for source, last in last_read.items()})
    unseen = dict(last_read)
    while unseen:
        for source, records in (await reader.poll(POLL_S)).items():
            last = unseen.pop(source, None)
            if last is not None and not last.is_record(records[0]):
                raise RefusedError(_made_anew(source, last))
        for source, last in list(unseen.items()):
            if await reader.position(source) >= bounds[source].end:
                raise RefusedError(_made_anew(source, last))


def _made_anew(source: Source, last: LastRead) -> str:
    return (
        f"{source.topic} {source.partition}: offset {last.offset} does not hold the record that was read there: "
        "the topic was made anew"
    )
