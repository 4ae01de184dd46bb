"""Dead letters as the projector leaves them, and staff who look at them."""

import uuid
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio

from schemas.cloudevents import binary_headers, json_value
from schemas.commands import RetryFulfillment
from schemas.orders import OrderCreated
from schemas.poison import Headers, PoisonError, PoisonKind, dead_letter_headers
from schemas.topics import FULFILLMENT_DEAD_LETTER, ORDERS_EVENTS
from services.gateway import keys
from services.gateway.access import Role
from services.projector.view import View as Written
from services.projector.writer import Writer
from services.settings import Settings
from tests.gateway.conftest import Answer, Client, Stand, View
from tests.projector.events import Record

LETTERS = "/api/admin/dead-letters"
REASON = "the fulfiller is mended, ticket 4711"


class Desk:
    """Writes dead letters into the view, as the projector does; each a second after the one before."""

    def __init__(self, connection: Any, settings: Settings) -> None:
        self._view = Written(connection, max_attempts=3)
        self._writer = Writer(self._view, {}, settings.topic_prefix)
        self._topic = settings.topic_prefix + FULFILLMENT_DEAD_LETTER
        self._written = 0

    async def place(self) -> None:
        self._writer.positions = await self._view.positions([(self._topic, 0)])

    async def letter(
        self,
        value: bytes | None,
        kind: PoisonKind = PoisonKind.INTERNAL,
        *,
        key: bytes | None = None,
        headers: Headers = (),
        topic: str = ORDERS_EVENTS,
        message: str = "why",
        partition: int = 1,
    ) -> str:
        """Its id."""
        offset = self._writer.positions[self._topic, 0]
        said = dead_letter_headers(
            headers, PoisonError(kind, message), topic=topic, partition=partition, offset=7, timestamp_ms=1000
        )
        record = Record(self._topic, 0, offset, key, value, headers=said)
        self._written += 1
        await self._writer.apply([replace(record, timestamp=record.timestamp + 1000 * self._written)])
        return f"0-{offset}"

    async def letters(self, values: Iterable[bytes]) -> list[str]:
        return [await self.letter(value) for value in values]


class Staff:
    """One of them, over HTTP."""

    def __init__(self, client: Client, token: str) -> None:
        self._client = client
        self._headers = {"Authorization": f"Bearer {token}"}

    async def get(self, path: str = "", **params: str) -> Answer:
        params = {name.rstrip("_"): said for name, said in params.items()}
        return await self._client.request("GET", LETTERS + path, params=params, headers=self._headers)

    async def replay(self, **said: Any) -> Answer:
        return await self._client.request(
            "POST", f"{LETTERS}/replay", json={"reason": REASON, **said}, headers=self._headers
        )


def order(**said: Any) -> OrderCreated:
    return OrderCreated.model_validate(
        {
            "order_id": str(uuid.uuid4()),
            "phone_number": "0244123456",
            "network": "MTN",
            "size_mb": 1000,
            "created_at": datetime.now(UTC),
            **said,
        }
    )


def retry(order_id: str) -> RetryFulfillment:
    return RetryFulfillment(
        command_id=str(uuid.uuid4()), order_id=order_id, actor="user:ama", reason="", at=datetime.now(UTC)
    )


def binary(event: OrderCreated | RetryFulfillment) -> tuple[bytes, Headers]:
    """Value and headers."""
    return json_value(event), tuple(binary_headers(event.type, str(uuid.uuid4()), b"/tests", datetime.now(UTC)))


@pytest_asyncio.fixture(loop_scope="session")
async def desk(stand: Stand, view: View) -> Desk:
    """Of a view without letters."""
    await view.connection.execute("TRUNCATE dead_letters, positions, access.replays")
    # The projector's rows have their JSON as text already.
    await view.connection.reset_type_codec("jsonb", schema="pg_catalog")
    desk = Desk(view.connection, stand.settings)
    await desk.place()
    return desk


@pytest_asyncio.fixture(loop_scope="session")
async def operator(client: Client, view: View) -> Staff:
    return Staff(client, await keys.create(view.connection, Role.OPERATOR, "acme"))


@pytest_asyncio.fixture(loop_scope="session")
async def viewer(client: Client, view: View) -> Staff:
    return Staff(client, await keys.create(view.connection, Role.VIEWER, "acme"))


@pytest.fixture
def ids(operator: Staff) -> Any:
    async def ids(**params: str) -> list[str]:
        answer = await operator.get(**params)
        assert answer.status == 200, answer.content
        return [letter["id"] for letter in answer.json["letters"]]

    return ids
