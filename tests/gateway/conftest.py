import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import aiohttp
import asyncpg
import orjson
import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, TopicPartition

from schemas.ids import log_id
from schemas.topics import FULFILLMENT_COMMANDS, ORDERS_EVENTS
from services.gateway.database import DatabaseAwayError
from services.gateway.server import Gateway, serving
from services.settings import Settings
from services.setup.patience import Patience
from services.setup.setup import set_up_kafka
from tests.conftest import copied, new_prefix, quick_settings
from tests.waiting import until

PURCHASE = "/api/orders/purchase"
FULFILLMENT = "/api/orders/fulfillment"
BUNDLE: dict[str, Any] = {"network": "AT-iShare", "size": "1GB", "phoneNumber": "+233123456789"}


class Log:
    """What a test finds in its own topics."""

    def __init__(self, settings: Settings, consumer: Any) -> None:
        self._settings = settings
        self._consumer = consumer

    @classmethod
    @asynccontextmanager
    async def reading(cls, settings: Settings) -> AsyncIterator["Log"]:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=settings.kafka_bootstrap_servers,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=20,
        )
        await consumer.start()
        try:
            yield cls(settings, consumer)
        finally:
            await consumer.stop()

    def _partitions(self, topic: str) -> list[TopicPartition]:
        return [TopicPartition(self._settings.topic_prefix + topic, p) for p in range(self._settings.partitions)]

    async def ends(self) -> int:
        """How many records there are in all."""
        partitions = [*self._partitions(ORDERS_EVENTS), *self._partitions(FULFILLMENT_COMMANDS)]
        return sum((await self._consumer.end_offsets(partitions)).values())

    async def records(self, topic: str, order_id: str) -> list[Any]:
        """Those of one order, in the order of their offsets."""
        partitions = self._partitions(topic)
        self._consumer.assign(partitions)
        await self._consumer.seek_to_beginning(*partitions)
        left = sum((await self._consumer.end_offsets(partitions)).values())
        found: list[Any] = []
        while left > 0:
            for records in (await self._consumer.getmany(timeout_ms=1000)).values():
                left -= len(records)
                found += [record for record in records if record.key == order_id.encode()]
        return found

    async def orders(self, order_id: str) -> list[Any]:
        return await self.records(ORDERS_EVENTS, order_id)

    async def commands(self, order_id: str) -> list[dict[str, Any]]:
        return [orjson.loads(record.value) for record in await self.records(FULFILLMENT_COMMANDS, order_id)]


class View:
    """Rows as the projector would leave them, and its notifications."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.connection = connection

    @classmethod
    @asynccontextmanager
    async def connected(cls, settings: Settings) -> AsyncIterator["View"]:
        connection = await asyncpg.connect(settings.database_url.get_secret_value())
        try:
            await connection.set_type_codec(
                "jsonb", schema="pg_catalog", encoder=lambda value: orjson.dumps(value).decode(), decoder=orjson.loads
            )
            yield cls(connection)
        finally:
            await connection.close()

    async def add(self, order_id: str | None = None, *, account: str = "local", **columns: Any) -> str:
        order_id = order_id or str(uuid.uuid4())
        now = datetime.now(UTC)
        status = columns.get("status", "pending")
        async with self.connection.transaction():
            await self.connection.execute(
                "INSERT INTO orders (id, network, size_mb, phone_number, account, fulfillment_status, created_at,"
                " updated_at) VALUES ($1, 'AT-iShare', 1000, '+233123456789', $2, $3, $4, $4)",
                order_id,
                account,
                status,
                now,
            )
            row = {
                "id": log_id(order_id),
                "order_id": order_id,
                "network": "AT-iShare",
                "phone_number": "+233123456789",
                "status": status,
                "state": "created",
                "attempt_number": 0,
                "max_attempts": 3,
                "size_mb": 1000,
                "account": account,
                "sequence": 1,
                "created_at": now,
                "updated_at": now,
                **columns,
            }
            names = ", ".join(row)
            places = ", ".join(f"${n}" for n in range(1, len(row) + 1))
            await self.connection.execute(
                f"INSERT INTO fulfillment_logs ({names}) VALUES ({places})",  # noqa: S608 - names of columns
                *row.values(),
            )
            await self.notify(order_id)
        return order_id

    async def change(self, order_id: str, **columns: Any) -> None:
        async with self.connection.transaction():
            changes = ", ".join(f"{name} = ${n}" for n, name in enumerate(columns, 2))
            await self.connection.execute(
                f"UPDATE fulfillment_logs SET {changes}, sequence = sequence + 1"  # noqa: S608 - names of columns
                " WHERE order_id = $1",
                order_id,
                *columns.values(),
            )
            await self.notify(order_id)

    async def notify(self, order_id: str) -> None:
        await self.connection.execute("SELECT pg_notify('fulfillment_changed', $1)", f"{uuid.uuid4()},{order_id}")


class Client:
    """Speaks to one gateway, as a caller on this machine, or with a key."""

    def __init__(self, session: aiohttp.ClientSession, port: int) -> None:
        self.session = session
        self.port = port

    async def request(self, method: str, path: str, **arguments: Any) -> "Answer":
        async with self.session.request(method, path, **arguments) as response:
            return Answer(response.status, response.headers.copy(), await response.read())

    async def purchase(self, bundle: object = None, key: str | None = None, **headers: str) -> "Answer":
        if key is not None:
            headers["Idempotency-Key"] = key
        return await self.request("POST", PURCHASE, json=BUNDLE if bundle is None else bundle, headers=headers)

    async def act(self, action: str, order_id: str, **headers: str) -> "Answer":
        return await self.request("POST", FULFILLMENT, json={"action": action, "orderId": order_id}, headers=headers)

    async def status(self, order_id: str, **headers: str) -> "Answer":
        return await self.request("GET", FULFILLMENT, params={"orderId": order_id}, headers=headers)


class Answer:
    def __init__(self, status: int, headers: Any, content: bytes) -> None:
        self.status = status
        self.headers = headers
        self.content = content

    @property
    def json(self) -> dict[str, Any]:
        return dict(orjson.loads(self.content))

    def is_problem(self, status: int) -> bool:
        """As RFC 9457 has it, with what the seed's clients read; its detail says something."""
        said = self.json
        assert self.headers["Content-Type"] == "application/problem+json"
        assert said["type"].startswith("urn:fulfillment:")
        assert said["title"]
        assert said["status"] == self.status
        assert said["success"] is False
        assert said["error"] == said["detail"]
        assert len(said["detail"]) > 5
        return self.status == status


class Stand:
    """One gateway with topics and a database of its own, and everything to try it with."""

    def __init__(self, settings: Settings, gateway: Gateway, client: Client) -> None:
        self.settings = settings
        self.gateway = gateway
        self.client = client


@asynccontextmanager
async def standing(settings: Settings) -> AsyncIterator[Stand]:
    async with AsyncExitStack() as stack:
        gateway, port, _ = await stack.enter_async_context(serving(settings))
        session = await stack.enter_async_context(aiohttp.ClientSession(f"http://127.0.0.1:{port}"))
        yield Stand(settings, gateway, Client(session, port))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stand(kafka: str, postgres: str, migrated: str) -> AsyncIterator[Stand]:
    """For all tests that leave it as they found it."""
    async with copied(postgres, migrated) as database_url:
        settings = quick_settings(kafka, database_url, new_prefix())
        await set_up_kafka(settings, Patience())
        async with standing(settings) as stand:
            yield stand


@pytest.fixture
def gateway(stand: Stand) -> Gateway:
    return stand.gateway


@pytest_asyncio.fixture(loop_scope="session")
async def client(stand: Stand) -> Client:
    """Once what an earlier test took away is back. Asked, for the gateway's loop may have stood still since."""

    async def answers() -> bool:
        try:
            await stand.gateway.database.fetchrow("probe", timeout_s=5)
        except DatabaseAwayError:
            return False
        return bool(stand.gateway.kafka)

    await until(answers, "PostgreSQL and Kafka")
    return stand.client


@pytest_asyncio.fixture(loop_scope="session")
async def log(stand: Stand) -> AsyncIterator[Log]:
    async with Log.reading(stand.settings) as log:
        yield log


@pytest_asyncio.fixture(loop_scope="session")
async def view(stand: Stand) -> AsyncIterator[View]:
    async with View.connected(stand.settings) as view:
        yield view


@pytest_asyncio.fixture(loop_scope="session")
async def silence(log: Log) -> AsyncIterator[None]:
    """Nothing is said in Kafka during the test."""
    before = await log.ends()
    yield
    assert await log.ends() == before


def new_key() -> str:
    return f"key-{uuid.uuid4()}"
