"""Tells the monitor what was applied and how the open orders stand, once a second; nothing waits for it.

What a killed projector had committed and not told, its heir reads from the log again: a record says up to where each
partition has been told of. It may be told twice; the monitor drops what it has counted, by its place, and whole
stretches alone: so none is told that lies on both sides of what was told before.
"""

from __future__ import annotations  # asyncpg's classes take parameters in its stubs alone

import asyncio
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

import asyncpg
import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from schemas.cloudevents import binary_headers
from schemas.statistics import (
    Part,
    ProviderStanding,
    Standing,
    Stands,
    Statistics,
    read_statistics,
)
from schemas.topics import FULFILLMENT_EVENTS, FULFILLMENT_STATISTICS
from services import kafka, postgres
from services.projector import metrics
from services.projector.batch import sort
from services.projector.untold import Told
from services.projector.view import QUERIES, Partition
from services.settings import Settings

log = structlog.get_logger()

_EVERY_S: Final = 1.0
_STANDS_EVERY_S: Final = 5.0
_STANDS_SHARE: Final = 0.02
"""Of a database connection's time: the more orders are open, the less often they are looked at."""
_SILENT_S: Final = 60.0
_STOP_S: Final = 2.0
_TAIL_RECORDS: Final = 200
_TOLD_AGAIN_RECORDS: Final = 100_000

_UNREACHABLE = (KafkaError, OSError, TimeoutError)


class Publisher:
    """Publishes what `told` holds.

    `partitions` are those that are this projector's now, with where they stand; `lag` is how many records of one are
    not in the view, None where that is not known.
    """

    def __init__(
        self,
        settings: Settings,
        partitions: Callable[[], Mapping[Partition, int]],
        lag: Callable[[Partition], int | None],
    ) -> None:
        self.told = Told(settings.topic_prefix)
        self._settings = settings
        self._prefix = settings.topic_prefix
        self._topic = settings.topic_prefix + FULFILLMENT_STATISTICS
        self._partitions = partitions
        self._lag = lag
        self._placed: dict[Partition, int] = {}
        self._unsent: Statistics | None = None
        self._untold_since: float | None = None
        self._stands_at = 0.0
        self._pool: asyncpg.Pool[Any] | None = None

    def placed(self, positions: Mapping[Partition, int]) -> None:
        """From here on what is applied is noted; what an earlier projector left untold before it is to be read."""
        self._placed.update(positions)

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                try:
                    await self._publish()
                except Exception as error:  # noqa: BLE001 - the view must not stop for it, whatever it is
                    expected = isinstance(error, _UNREACHABLE)
                    log.log(20 if expected else 40, "statistics_not_published", error=repr(error))
                    await asyncio.sleep(_EVERY_S)
        finally:
            if self._pool is not None:
                self._pool.terminate()

    async def _publish(self) -> None:
        producer = AIOKafkaProducer(**kafka.connection(self._settings), acks="all")
        try:
            await producer.start()
            while True:
                await self._say_when_silent()
                if self._placed:
                    await self._tell_again()
                if self._unsent is None:
                    self._unsent = await self._record()
                if self._unsent is not None:
                    # The same stretches until they are acknowledged: others would overlap what may be there.
                    value = self._unsent.model_dump_json(exclude_unset=True, exclude_none=True).encode()
                    headers = binary_headers("Statistics", str(uuid.uuid4()), b"/projector", self._unsent.at)
                    await producer.send_and_wait(self._topic, value, partition=0, headers=headers)
                    self._unsent = None
                    self._untold_since = None
                    metrics.STATISTICS_SILENT.set(0)
                await asyncio.sleep(_EVERY_S)
        finally:
            with suppress(TimeoutError):
                await asyncio.wait_for(producer.stop(), _STOP_S)

    async def _record(self) -> Statistics | None:
        held = self._partitions()
        now = time.time()
        stands = None
        beat = bool(held) and time.monotonic() >= self._stands_at
        if beat:
            self._stands_at = time.monotonic() + _STANDS_EVERY_S
            stands = await self._stands() if (self._prefix + FULFILLMENT_EVENTS, 0) in held else None
        await self._know_providers()
        if self._placed:  # meanwhile: what was left untold before that comes first
            return None
        idle = not self.told.networks()
        parts = self.told.take()
        if beat:
            parts += tuple(self._place(partition, position) for partition, position in held.items())
        if not parts and stands is None:
            return None
        # With nothing more to tell, all that happened until now has been told.
        at_s = now if stands is not None and idle else (self.told.at_s or now)
        return Statistics(
            type="Statistics", version=1, at=datetime.fromtimestamp(at_s, UTC), parts=parts, stands=stands
        )

    def _place(self, partition: Partition, position: int) -> Part:
        """Where a partition stands, with nothing in it to count."""
        topic, number = partition
        lag = self._lag(partition)
        said: dict[str, Any] = {} if lag is None else {"lag_records": lag}
        return Part(topic=topic.removeprefix(self._prefix), partition=number, start=position, end=position, **said)

    async def _say_when_silent(self) -> None:
        """The monitor cannot know what it is not told."""
        if self._unsent is None:
            return
        now = time.monotonic()
        self._untold_since = self._untold_since or now
        metrics.STATISTICS_SILENT.set(now - self._untold_since)
        if now - self._untold_since > _SILENT_S:
            log.error("statistics_silent", since_s=round(now - self._untold_since))

    # --- the database, on a connection of its own ---------------------------------------------------------------

    async def _stands(self) -> Stands | None:
        began = time.monotonic()
        rows = await self._fetch(QUERIES["stands"])
        providers = await self._fetch(QUERIES["provider_stands"])
        quarantined = await self._fetch(QUERIES["quarantined_count"])
        if rows is None or providers is None or quarantined is None:
            return None
        took_s = time.monotonic() - began
        self._stands_at = time.monotonic() + max(_STANDS_EVERY_S, took_s / _STANDS_SHARE)
        return Stands(
            networks=tuple(_standing(row) for row in rows),
            providers=tuple(ProviderStanding(**row) for row in providers),
            quarantined=quarantined[0][0],
        )

    async def _know_providers(self) -> None:
        for network in self.told.networks() - self.told.providers.keys():
            rows = await self._fetch(QUERIES["provider"], network)
            if rows is not None:
                self.told.providers[network] = rows[0][0] if rows else None

    async def _fetch(self, query: str, *arguments: Any) -> Sequence[Any] | None:
        """None while the database cannot be had."""
        try:
            if self._pool is None:
                self._pool = await postgres.pool(self._settings, min_size=1, max_size=1)
            rows: Sequence[Any] = await self._pool.fetch(query, *arguments)
        except (*postgres.UNREACHABLE, asyncpg.PostgresError) as error:
            log.info("stands_unknown", error=str(error) or type(error).__name__)
            return None
        return rows

    # --- what a projector before this one left untold ------------------------------------------------------------

    async def _tell_again(self) -> None:
        placed, self._placed = self._placed, {}
        consumer = AIOKafkaConsumer(**kafka.consumer_arguments(self._settings))
        try:
            await consumer.start()
            ends = await self._ends(consumer)
            for partition, position in placed.items():
                end = ends.get(partition)
                if end is None:
                    continue
                self.told.seam(partition, end)
                placed[partition] = upto = self.told.end(partition) or position
                if 0 < upto - end <= _TOLD_AGAIN_RECORDS:
                    self.told.drop(partition)
                    await self._note_again(consumer, partition, end, upto)
        except BaseException:
            self._placed = placed | self._placed
            raise
        finally:
            await consumer.stop()

    async def _ends(self, consumer: Any) -> dict[Partition, int]:
        """Up to where each partition was told of, by the last records of statistics and the one on its way."""
        tp = TopicPartition(self._topic, 0)
        consumer.assign([tp])
        end = (await consumer.end_offsets([tp]))[tp]
        start = (await consumer.beginning_offsets([tp]))[tp]
        consumer.seek(tp, max(start, end - _TAIL_RECORDS))
        parts = list(self._unsent.parts) if self._unsent is not None else []
        async for record in _up_to(consumer, tp, end):
            with suppress(ValueError):
                parts += read_statistics(record.value or b"").parts
        told: dict[Partition, int] = {}
        for part in parts:
            partition = (self._prefix + part.topic, part.partition)
            told[partition] = max(part.end, told.get(partition, 0))
        return told

    async def _note_again(self, consumer: Any, partition: Partition, start: int, end: int) -> None:
        tp = TopicPartition(*partition)
        consumer.assign([tp])
        consumer.seek(tp, start)
        records = [record async for record in _up_to(consumer, tp, end) if record.offset < end]
        log.info("told_again", topic=partition[0], partition=partition[1], records=len(records))
        again = Told(self._prefix)
        again.note(records, sort(records, self._prefix), {partition: (start, end)})
        self.told.join(again)


async def _up_to(consumer: Any, tp: TopicPartition, end: int) -> Any:
    while await consumer.position(tp) < end:
        for record in (await consumer.getmany(tp, timeout_ms=200)).get(tp, ()):
            yield record


def _standing(row: Any) -> Standing:
    named = dict(row)
    figures = ("waiting_s", "overdue_s", "in_doubt_s", "reviews", "suspended", "without_balance")
    orders = {name: tuple(map(str, named.pop(f"{name}_orders") or ())) for name in figures[:4]}
    # An order may be dated ahead by its producer's clock: it has no age yet.
    named |= {name: max(named[name] or 0.0, 0.0) for name in figures[:3]}
    return Standing(
        **{name: value for name, value in named.items() if value is not None},
        orders={name: ids for name, ids in orders.items() if ids},
    )
