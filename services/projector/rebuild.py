"""The view anew from the log, beside the live one, and then in its place."""

from __future__ import annotations  # asyncpg's classes take parameters in its stubs alone

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import asyncpg
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from schemas.topics import FULFILLMENT_DEAD_LETTER, FULFILLMENT_EVENTS, FULFILLMENT_PROVIDERS, ORDERS_EVENTS
from services import kafka, postgres
from services.crashpoints import crashpoint
from services.projector.shadow import LIVE, Difference, Shadow, differences, hashes, live_positions
from services.projector.shadow import SCHEMA as SHADOW
from services.projector.view import Partition, View
from services.projector.writer import Writer
from services.run import Refusal
from services.settings import Settings

_BATCH_RECORDS = 10_000
_POLL_MS = 200
_SWAP_ATTEMPTS = 10
_RETRY_S = 1.0

# Answers first: then an OrderCreated that was answered needs no reading. Letters before them all, to be found by them.
_ORDER = (FULFILLMENT_DEAD_LETTER, FULFILLMENT_EVENTS, ORDERS_EVENTS, FULFILLMENT_PROVIDERS)


class Rebuilt(NamedTuple):
    orders: int
    compared: bool
    """False where the live view is behind the log, so that there was nothing to compare with."""
    differences: list[Difference]

    def lines(self) -> list[str]:
        """For the person who ran it."""
        lines = [f"rebuilt: {self.orders} orders"]
        if not self.compared:
            return [*lines, "not compared: the live view was behind the log"]
        if not self.differences:
            return [*lines, "the live view was the same, row for row"]
        return lines + [
            f"differed: {table}, {live} rows were {shadow}; among them {', '.join(keys)}"
            for table, live, shadow, keys in self.differences
        ]


async def rebuild(settings: Settings, console: Console) -> Rebuilt:
    """Read the log into a second view, compare it with the live one, and swap them.

    Killed at any point it leaves the live view as it was. Refusal where that cannot be done here.
    """
    try:
        partitions = await _partitions(settings)
        async with _connections(settings) as (live, connection), _reader(settings) as consumer:
            work = _Rebuild(settings, live=live, connection=connection, consumer=consumer)
            return await work.run(partitions, console)
    except asyncpg.UndefinedTableError as error:
        raise Refusal(
            f"the database's schema is not this version's ({error}): run `python -m services.setup`"
        ) from None
    except postgres.UNREACHABLE as error:
        raise Refusal(f"PostgreSQL went away, and the live view is as it was: {error}") from error
    except KafkaError as error:
        raise Refusal(f"Kafka went away, and the live view is as it was: {error}") from error


@asynccontextmanager
async def _connections(settings: Settings) -> AsyncIterator[tuple[Any, Any]]:
    pool = await postgres.pool(settings, min_size=2, max_size=2, command_timeout_s=None)
    try:
        live, shadow = await pool.acquire(), await pool.acquire()
        await shadow.execute("SET synchronous_commit = off")
        # COPY speaks binary, of which the codec for JSON knows nothing; the rows' JSON is text already.
        await shadow.reset_type_codec("jsonb", schema="pg_catalog")
        yield live, shadow
    finally:
        pool.terminate()


@asynccontextmanager
async def _reader(settings: Settings) -> AsyncIterator[Any]:
    consumer = AIOKafkaConsumer(**kafka.consumer_arguments(settings))
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


class _Rebuild:
    """One run of it."""

    def __init__(self, settings: Settings, *, live: Any, connection: Any, consumer: Any) -> None:
        self._prefix = settings.topic_prefix
        self._live = live
        self._connection = connection
        self._shadow = Shadow(connection)
        self._consumer = consumer
        self._view = View(connection, max_attempts=settings.max_attempts, fills=True)
        self._writer = Writer(self._view, {}, settings.topic_prefix, rereads=True)

    async def run(self, partitions: Mapping[str, list[TopicPartition]], console: Console) -> Rebuilt:
        """`partitions`: of each topic, by its name without the prefix."""
        everything = [tp for topic in _ORDER for tp in partitions[topic]]
        await self._shadow.make()
        starts = await self._consumer.beginning_offsets(everything)
        ends = await self._consumer.end_offsets(everything)
        await self._shadow.begin(starts, self._prefix + FULFILLMENT_DEAD_LETTER)
        self._writer.positions = await self._view.positions(everything)
        with _progress(console) as progress:
            task = progress.add_task("reading", total=sum(ends[tp] - starts[tp] for tp in everything))
            for topic in _ORDER:
                await self._read(partitions[topic], starts, ends, lambda count: progress.advance(task, count))
            progress.update(task, description="indexes", completed=progress.tasks[task].total)
            await self._shadow.complete()
            progress.update(task, description="comparing")
            compared, found = await self._compare()
            progress.update(task, description="swapping")
            await self._swap()
            progress.update(task, description="done")
        orders = await self._live.fetchval("SELECT count(*) FROM public.orders")
        return Rebuilt(orders, compared, found)

    async def _read(
        self,
        partitions: Collection[TopicPartition],
        starts: Mapping[TopicPartition, int],
        ends: Mapping[TopicPartition, int],
        advance: Any,
    ) -> None:
        """Apply what there is from the starts to the ends."""
        self._consumer.assign(partitions)
        for tp in partitions:
            self._consumer.seek(tp, starts[tp])
        reached = dict(starts)
        open_ones = {tp for tp in partitions if starts[tp] < ends[tp]}
        written = asyncio.create_task(self._apply([]))
        while open_ones:
            polled = await self._consumer.getmany(*open_ones, timeout_ms=_POLL_MS, max_records=_BATCH_RECORDS)
            # The next records are read while PostgreSQL writes the last.
            await written
            written = asyncio.create_task(self._apply([record for records in polled.values() for record in records]))
            for tp in list(open_ones):
                position = await self._consumer.position(tp)
                advance(min(position, ends[tp]) - min(reached[tp], ends[tp]))
                reached[tp] = position
                if position >= ends[tp]:
                    self._consumer.pause(tp)
                    open_ones.remove(tp)
            crashpoint("projector.rebuild")
        await written

    async def _apply(self, records: Sequence[Any]) -> None:
        if records:
            await self._writer.apply(records)

    async def _catch_up(self, wanted: Mapping[Partition, int]) -> None:
        """Go on exactly to where another view stands; records beyond are read again later."""
        behind = {TopicPartition(*at): end for at, end in wanted.items() if self._writer.positions.get(at, end) < end}
        if not behind:
            return
        self._consumer.assign(list(behind))
        for tp in behind:
            self._consumer.seek(tp, self._writer.positions[tp])
        while any(self._writer.positions[tp] < end for tp, end in behind.items()):
            polled = await self._consumer.getmany(timeout_ms=_POLL_MS, max_records=_BATCH_RECORDS)
            await self._apply([r for tp, records in polled.items() for r in records if r.offset < behind[tp]])

    async def _compare(self) -> tuple[bool, list[Difference]]:
        """Hold the live view, as it is at one moment, against this one at the same positions."""
        async with self._live.transaction(isolation="repeatable_read", readonly=True):
            positions = await live_positions(self._live)
            if any(positions.get(at, 0) < here for at, here in self._writer.positions.items()):
                return False, []
            await self._catch_up(positions)
            seen, made = await asyncio.gather(hashes(self._live, LIVE), hashes(self._connection, SHADOW))
            return True, await differences(self._live, self._connection, seen, made)

    async def _swap(self) -> None:
        """Take the live view's place where it stands just then; its projector goes on as if nothing had been."""
        for attempt in range(1, _SWAP_ATTEMPTS + 1):
            await self._catch_up(await live_positions(self._live))
            before = dict(self._writer.positions)
            try:
                async with self._connection.transaction():
                    await self._catch_up(await self._shadow.lock_live())
                    await self._shadow.swap()
                    return
            except asyncpg.LockNotAvailableError:
                self._writer.positions = before
                if attempt == _SWAP_ATTEMPTS:
                    raise Refusal(
                        "somebody reads from the view without end: it was not swapped; run it again"
                    ) from None
            await asyncio.sleep(_RETRY_S)


async def _partitions(settings: Settings) -> dict[str, list[TopicPartition]]:
    admin = AIOKafkaAdminClient(**kafka.connection(settings))
    await admin.start()
    try:
        described = await admin.describe_topics([settings.topic_prefix + topic for topic in _ORDER])
    finally:
        await admin.close()
    found = {}
    for topic in described:
        name = topic["topic"]
        if not topic["partitions"]:
            raise Refusal(f"topic {name} does not exist: run `python -m services.setup`")
        numbers = sorted(partition["partition"] for partition in topic["partitions"])
        found[name.removeprefix(settings.topic_prefix)] = [TopicPartition(name, number) for number in numbers]
    return found


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console)
