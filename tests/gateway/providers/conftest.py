"""How providers stand, as the projector leaves it, and staff who act on them."""

from datetime import timedelta
from typing import Any

import pytest_asyncio

from schemas.cloudevents import json_value
from schemas.providers import ProviderBalance, ProviderChanged, ProviderState
from schemas.topics import FULFILLMENT_PROVIDERS
from services.at_ishare_contract import NAME
from services.gateway import keys
from services.gateway.access import Role
from services.projector.view import View as Written
from services.projector.writer import Writer
from services.settings import Settings
from tests.gateway.conftest import Answer, Client, Log, Stand, View
from tests.projector.events import NOON, Record

PROVIDERS = "/api/admin/providers"
REASON = "ticket 4711"


class Fulfiller:
    """Says how providers stand, and has the view say so."""

    def __init__(self, connection: Any, settings: Settings) -> None:
        self._view = Written(connection, max_attempts=3)
        self._writer = Writer(self._view, {}, settings.topic_prefix)
        self._topic = settings.topic_prefix + FULFILLMENT_PROVIDERS

    async def place(self) -> None:
        self._writer.positions = await self._view.positions([(self._topic, 0)])

    async def says(self, after_s: float = 0, mb: int | None = None, **said: Any) -> ProviderChanged:
        at = NOON + timedelta(seconds=after_s)
        balance = None if mb is None else ProviderBalance(available_mb=mb, reserved_mb=0, at=at)
        defaults = {"provider": NAME, "state": ProviderState.UP, "since": at, "at": at, "balance": balance}
        changed = ProviderChanged(**(defaults | said))
        offset = self._writer.positions[self._topic, 0]
        await self._writer.apply([Record(self._topic, 0, offset, NAME.encode(), json_value(changed))])
        return changed


class Staff:
    """One of them, over HTTP."""

    def __init__(self, client: Client, token: str) -> None:
        self._client = client
        self._headers = {"Authorization": f"Bearer {token}"}

    async def get(self, path: str = "", **params: str) -> Answer:
        return await self._client.request("GET", PROVIDERS + path, params=params, headers=self._headers)

    async def provider(self) -> dict[str, Any]:
        answer = await self.get()
        assert answer.status == 200, answer.content
        (provider,) = [one for one in answer.json["providers"] if one["name"] == NAME]
        return dict(provider)

    async def act(self, act: str, name: str = NAME, body: object = None, prefer: str = "wait=0", **said: Any) -> Answer:
        headers = self._headers | {"Prefer": prefer}
        body = {"reason": REASON, **said} if body is None else body
        return await self._client.request("POST", f"{PROVIDERS}/{name}/{act}", json=body, headers=headers)


async def commands(log: Log) -> list[dict[str, Any]]:
    """About the provider, as sent."""
    return [command for command in await log.commands(NAME) if command.get("provider") == NAME]


@pytest_asyncio.fixture(loop_scope="session")
async def fulfiller(stand: Stand, view: View) -> Fulfiller:
    """Of providers of whom nothing was said."""
    await view.connection.execute("TRUNCATE providers, provider_balances, positions, orders CASCADE")
    await view.connection.reset_type_codec("jsonb", schema="pg_catalog")
    fulfiller = Fulfiller(view.connection, stand.settings)
    await fulfiller.place()
    return fulfiller


@pytest_asyncio.fixture(loop_scope="session")
async def operator(client: Client, view: View) -> Staff:
    return Staff(client, await keys.create(view.connection, Role.OPERATOR, "acme"))


@pytest_asyncio.fixture(loop_scope="session")
async def viewer(client: Client, view: View) -> Staff:
    return Staff(client, await keys.create(view.connection, Role.VIEWER, "acme"))
