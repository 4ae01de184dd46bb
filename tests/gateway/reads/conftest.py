"""A gateway with a view of its own, which a projector's hand writes."""

import uuid
from collections.abc import AsyncIterator, Iterable
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import orjson
import pytest
import pytest_asyncio

from schemas.orders import OrderCreated
from schemas.poison import PoisonError, PoisonKind, dead_letter_headers
from schemas.topics import FULFILLMENT_DEAD_LETTER, FULFILLMENT_EVENTS, ORDERS_EVENTS
from services.gateway import keys
from services.gateway.access import Role
from services.projector.view import View as Written
from services.projector.writer import Writer
from services.settings import Settings
from services.setup.patience import Patience
from services.setup.setup import set_up_kafka
from tests.conftest import copied, new_prefix, quick_settings
from tests.gateway.conftest import Answer, Client, Stand, standing
from tests.projector.events import NOON, Record, Story, created, value

ADMIN = "/api/admin/fulfillment"
_PARTITION = 1
LOGS, EXPORT, STATS, STREAM = (f"{ADMIN}/{name}" for name in ("logs", "export.csv", "stats", "stream"))


class Hand:
    """Writes records into the view as a projector does, without a log to read them from."""

    def __init__(self, connection: Any, settings: Settings) -> None:
        self.connection = connection
        self._prefix = settings.topic_prefix
        self._view = Written(connection, max_attempts=3)
        self._writer = Writer(self._view, {}, self._prefix)
        self._partitions = settings.partitions

    async def place(self) -> None:
        topics = (ORDERS_EVENTS, FULFILLMENT_EVENTS, FULFILLMENT_DEAD_LETTER)
        everywhere = [(self._prefix + topic, p) for topic in topics for p in range(self._partitions)]
        self._writer.positions = await self._view.positions(everywhere)

    async def tell(self, *stories: Story, **said: Any) -> list[Record]:
        """The stories' events, changed as said; FulfillmentRequested takes what only it knows."""
        at = self._next(FULFILLMENT_EVENTS)
        records = []
        for story in stories:
            for event in story.events:
                known = {name: told for name, told in said.items() if name in type(event).model_fields}
                changed = event.model_copy(update=known)
                records.append(self._record(FULFILLMENT_EVENTS, at + len(records), story.order_id, value(changed)))
        await self._writer.apply(records)
        return records

    async def delivered(self, *, made: datetime = NOON, latency_s: float = 2, attempts: int = 1, **said: Any) -> str:
        """An order that was made at a time, and delivered so much later."""
        story = Story(str(uuid.uuid4())).requested(**{name: said.pop(name) for name in ("account",) if name in said})
        for _ in range(attempts - 1):
            story.attempted().failed()
        story.attempted().succeeded(transaction_id=said.pop("transaction_id", "tx-1"))
        await self._tell_at(story, made, made + timedelta(seconds=latency_s), **said)
        return story.order_id

    async def failed(
        self, *, made: datetime = NOON, code: str = "BUSY", message: str = "It is busy", **said: Any
    ) -> str:
        story = Story(str(uuid.uuid4())).requested().attempted().failed(None, error_code=code, error_message=message)
        await self._tell_at(story, made, made + timedelta(seconds=1), **said)
        return story.order_id

    async def open(self, *, made: datetime = NOON, **said: Any) -> Story:
        story = Story(str(uuid.uuid4())).requested().attempted()
        await self._tell_at(story, made, made, **said)
        return story

    async def received(self, **said: Any) -> str:
        order = created(str(uuid.uuid4()), **said)
        await self._write(ORDERS_EVENTS, order)
        return order.order_id

    async def refused(self) -> str:
        """An order whose OrderCreated is a dead letter."""
        order = created(str(uuid.uuid4()))
        await self._write(ORDERS_EVENTS, order)
        headers = dead_letter_headers(
            (), PoisonError(PoisonKind.STALE, "too old"), topic=ORDERS_EVENTS, partition=1, offset=0, timestamp_ms=0
        )
        await self._write(FULFILLMENT_DEAD_LETTER, order, headers)
        return order.order_id

    async def empty(self) -> None:
        await self.connection.execute(
            "TRUNCATE orders, fulfillment_logs, events, tallies, positions, quarantine, dead_letters"
        )
        await self.place()

    async def _tell_at(self, story: Story, made: datetime, ended: datetime, **said: Any) -> None:
        *earlier, last = story.events
        story.events = [event.model_copy(update={"at": made}) for event in earlier] + [
            last.model_copy(update={"at": ended})
        ]
        await self.tell(story, order_created_at=made, **said)

    async def _write(self, topic: str, order: OrderCreated, headers: Iterable[tuple[str, bytes | None]] = ()) -> None:
        record = self._record(topic, self._next(topic), order.order_id, value(order), headers)
        await self._writer.apply([record])

    def _next(self, topic: str) -> int:
        return self._writer.positions[self._prefix + topic, _PARTITION]

    def _record(
        self,
        topic: str,
        offset: int,
        key: str,
        said: bytes,
        headers: Iterable[tuple[str, bytes | None]] = (),
    ) -> Record:
        return Record(self._prefix + topic, _PARTITION, offset, key.encode(), said, headers=tuple(headers))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stand(kafka: str, postgres: str, migrated: str) -> AsyncIterator[Stand]:
    """Of these tests alone: what is counted here, nobody else has written."""
    async with copied(postgres, migrated) as database_url:
        # Neither projector nor monitor is there, and after a minute pages would say that they are silent.
        settings = quick_settings(kafka, database_url, new_prefix()).model_copy(update={"alert_silent": 86_400.0})
        await set_up_kafka(settings, Patience())
        async with standing(settings) as stand:
            yield stand


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def connection(stand: Stand) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(stand.settings.database_url.get_secret_value())
    yield connection
    await connection.close()


@pytest_asyncio.fixture(loop_scope="session")
async def hand(stand: Stand, connection: Any) -> Hand:
    """Of an empty view."""
    hand = Hand(connection, stand.settings)
    await hand.empty()
    return hand


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def tokens(connection: Any) -> dict[Role, str]:
    return {role: await keys.create(connection, role, "acme") for role in Role}


class Reader:
    """Asks with a viewer's key."""

    def __init__(self, client: Client, token: str) -> None:
        self._client = client
        self.headers = {"Authorization": f"Bearer {token}"}

    async def get(self, path: str, headers: dict[str, str] | None = None, **params: str) -> Answer:
        return await self._client.request("GET", path, params=params, headers=self.headers | (headers or {}))

    async def logs(self, **params: str) -> dict[str, Any]:
        """With `from_` for `from`."""
        answer = await self.get(LOGS, **{name.rstrip("_"): said for name, said in params.items()})
        assert answer.status == 200, answer.content
        return answer.json

    async def ids(self, **params: str) -> set[str]:
        return {row["order_id"] for row in (await self.logs(**params))["logs"]}

    def opened(self, path: str, headers: dict[str, str] | None = None) -> Any:
        return self._client.session.get(path, headers=self.headers | (headers or {}))


@pytest.fixture
def viewer(client: Client, tokens: dict[Role, str]) -> Reader:
    return Reader(client, tokens[Role.VIEWER])


def parsed(line: str) -> Any:
    return orjson.loads(line.removeprefix("data: "))
