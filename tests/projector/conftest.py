"""A projector at work on the test's own topics and database, and a log to write to."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2

from schemas.fulfillment import FulfillmentEvent
from schemas.orders import OrderCreated
from schemas.poison import PoisonError, PoisonKind, dead_letter_headers
from schemas.topics import FULFILLMENT_DEAD_LETTER, FULFILLMENT_EVENTS, ORDERS_EVENTS
from services.health import Readiness
from services.kafka import connection
from services.projector.projector import Projector
from services.settings import Settings
from tests.projector.events import value

TIMEOUT_S = 20


class Log:
    """Writes what the gateway and the fulfiller write."""

    def __init__(self, producer: Any, settings: Settings) -> None:
        self._producer = producer
        self._settings = settings

    def home(self, order_id: str) -> int:
        return int((murmur2(order_id.encode()) & 0x7FFFFFFF) % self._settings.partitions)

    async def raw(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None = None,
        partition: int = 0,
        headers: Iterable[tuple[str, bytes | None]] = (),
    ) -> Any:
        name = self._settings.topic_prefix + topic
        return await self._producer.send_and_wait(name, value, key=key, partition=partition, headers=list(headers))

    async def events(self, events: Iterable[FulfillmentEvent]) -> None:
        topic = self._settings.topic_prefix + FULFILLMENT_EVENTS
        sent = [
            await self._producer.send(
                topic, value(event), key=event.order_id.encode(), partition=self.home(event.order_id)
            )
            for event in events
        ]
        await asyncio.gather(*sent)

    async def created(self, order: OrderCreated, *, partition: int | None = None) -> Any:
        at = self.home(order.order_id) if partition is None else partition
        return await self.raw(ORDERS_EVENTS, value(order), key=order.order_id.encode(), partition=at)

    async def dead_letter(self, order: OrderCreated, kind: PoisonKind, message: str, *, offset: int) -> None:
        headers = dead_letter_headers(
            (),
            PoisonError(kind, message),
            topic=ORDERS_EVENTS,
            partition=self.home(order.order_id),
            offset=offset,
            timestamp_ms=0,
        )
        partition = self.home(order.order_id)
        key = order.order_id.encode()
        await self.raw(FULFILLMENT_DEAD_LETTER, value(order), key=key, partition=partition, headers=headers)


@asynccontextmanager
async def writing(settings: Settings) -> AsyncIterator[Log]:
    producer = AIOKafkaProducer(**connection(settings), acks="all", enable_idempotence=True)
    await producer.start()
    yield Log(producer, settings)
    await producer.stop()


@pytest.fixture
async def log(topics: Settings) -> AsyncIterator[Log]:
    async with writing(topics) as log:
        yield log


class Database:
    """The view, and waiting for it: every look follows a notice, never a pause."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._noticed = asyncio.Event()

    async def listen(self) -> None:
        await self.listen_to("fulfillment_changed")

    async def listen_to(self, channel: str) -> None:
        await self._connection.add_listener(channel, lambda *_: self._noticed.set())

    async def row(self, order_id: str) -> Any:
        return await self._connection.fetchrow("SELECT * FROM fulfillment_logs WHERE order_id = $1", order_id)

    async def fetch(self, sql: str, *arguments: object) -> list[Any]:
        rows: list[Any] = await self._connection.fetch(sql, *arguments)
        return rows

    async def quarantined(self, order_id: str) -> list[Any]:
        return await self.fetch("SELECT * FROM quarantine WHERE order_id = $1", order_id)

    async def execute(self, sql: str) -> None:
        await self._connection.execute(sql)

    async def until(self, look: Callable[[], Awaitable[Any]]) -> Any:
        """What `look` finds, once it finds something."""
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                self._noticed.clear()
                found = await look()
                if found:
                    return found
                await self._noticed.wait()

    async def until_dead_letter(self, order_id: str) -> Any:
        return await self.until(lambda: self.fetch("SELECT FROM dead_letters WHERE order_id = $1", order_id))

    async def until_sequence(self, order_id: str, sequence: int) -> Any:
        return await self.until_row(order_id, lambda row: row["sequence"] >= sequence)

    async def until_row(self, order_id: str, fits: Callable[[Any], bool]) -> Any:
        async def look() -> Any:
            row = await self.row(order_id)
            return row if row and fits(row) else None

        return await self.until(look)


@asynccontextmanager
async def looking(url: str) -> AsyncIterator[Database]:
    connection = await asyncpg.connect(url)
    database = Database(connection)
    await database.listen()
    yield database
    await connection.close()


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with looking(database_url) as database:
        yield database


@asynccontextmanager
async def projecting(settings: Settings) -> AsyncIterator[tuple[Projector, Readiness]]:
    """A projector that follows the log; it must end by itself when asked to."""
    stop = asyncio.Event()
    readiness = Readiness("kafka", "postgres")
    projector = Projector(settings, readiness)
    task = asyncio.create_task(projector.run(stop))
    ready = asyncio.create_task(projector.ready.wait())
    done, _ = await asyncio.wait([task, ready], return_when=asyncio.FIRST_COMPLETED, timeout=TIMEOUT_S)
    if task in done:
        ready.cancel()
        task.result()
    assert ready in done
    try:
        yield projector, readiness
    finally:
        stop.set()
        async with asyncio.timeout(TIMEOUT_S):
            await task
