"""Orders as the projector leaves them, and staff who retry many of them."""

from typing import Any

import pytest_asyncio

from services.gateway import keys
from services.gateway.access import Role
from tests.gateway.conftest import Answer, Client, View

RETRY = "/api/admin/fulfillment/retry"
REASON = "the provider is back, ticket 4711"


class Staff:
    """One of them, over HTTP."""

    def __init__(self, client: Client, token: str) -> None:
        self._client = client
        self._headers = {"Authorization": f"Bearer {token}"}
        self.actor = token.split(".", maxsplit=1)[0]

    async def get(self, path: str = "", **params: str) -> Answer:
        return await self._client.request("GET", RETRY + path, params=params, headers=self._headers)

    async def post(self, path: str = "", **said: Any) -> Answer:
        return await self._client.request("POST", RETRY + path, json=said, headers=self._headers)

    async def preview(self, **said: Any) -> dict[str, Any]:
        answer = await self.post(dryRun=True, **said)
        assert answer.status == 200, answer.content
        return dict(answer.json["preview"])

    async def start(self, **said: Any) -> dict[str, Any]:
        answer = await self.post(**{"reason": REASON} | said)
        assert answer.status == 202, answer.content
        assert answer.headers["Location"] == f"{RETRY}/{answer.json['job']['id']}"
        return dict(answer.json["job"])

    async def job(self, job_id: str) -> dict[str, Any]:
        return dict((await self.get(f"/{job_id}")).json["job"])

    async def rows(self, job_id: str, **params: str) -> list[dict[str, Any]]:
        return list((await self.get(f"/{job_id}/rows", **params)).json["rows"])


@pytest_asyncio.fixture(loop_scope="session")
async def operator(client: Client, view: View) -> Staff:
    return Staff(client, await keys.create(view.connection, Role.OPERATOR, "acme"))


@pytest_asyncio.fixture(loop_scope="session")
async def another(client: Client, view: View) -> Staff:
    return Staff(client, await keys.create(view.connection, Role.ADMIN, "acme"))
