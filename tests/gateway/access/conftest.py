import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

import aiohttp
import asyncpg
import pytest_asyncio

from services.gateway import passwords, sessions, users
from services.gateway.access import Role
from services.gateway.audit import COMMAND_LINE
from tests.gateway.conftest import Answer, Client, Stand

PASSWORD: Final = "correct horse battery staple"  # noqa: S105 - of people who live for a test
HASH: Final = passwords.hashed(PASSWORD)
COOKIE: Final = "fulfillment-session"


@dataclass(frozen=True, slots=True)
class Session:
    name: str
    token: str
    csrf_token: str
    origin: str

    @property
    def headers(self) -> dict[str, str]:
        """As a page of the gateway sends them."""
        host = self.origin.removeprefix("http://")
        return {
            "Cookie": f"{COOKIE}={self.token}",
            "X-CSRF-Token": self.csrf_token,
            "Origin": self.origin,
            "Host": host,
        }

    def but(self, **headers: str | None) -> dict[str, str]:
        changed = self.headers | {name.replace("_", "-"): value for name, value in headers.items()}
        return {name: value for name, value in changed.items() if value is not None}


class People:
    """Users, and their sessions."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.connection = connection

    async def add(self, role: Role) -> str:
        """Their name."""
        name = f"p{uuid.uuid4().hex[:12]}"
        assert await users.create(self.connection, COMMAND_LINE, name, role, HASH)
        return name

    async def logged_in(self, role: Role) -> Session:
        """Beside the login, whose hash takes a tenth of a second."""
        name = await self.add(role)
        token = uuid.uuid4().hex + "A" * 11
        caller = sessions.caller_of(name, role, token)
        assert caller.session is not None
        await self.connection.execute(
            "INSERT INTO access.sessions (token_hash, user_name) VALUES ($1, $2)", caller.session.token_hash, name
        )
        return Session(name, token, caller.session.csrf_token, "http://shop.example.com")

    async def age(self, session: Session, *, created_s: float, seen_s: float) -> None:
        await self.connection.execute(
            "UPDATE access.sessions SET created_at = now() - make_interval(secs => $2),"
            " seen_at = now() - make_interval(secs => $3) WHERE user_name = $1",
            session.name,
            created_s,
            seen_s,
        )

    async def disable(self, session: Session) -> None:
        """Without ending the session: that the user may not is enough."""
        await self.connection.execute("UPDATE access.users SET disabled_at = now() WHERE name = $1", session.name)

    async def audited(self, **wanted: str) -> list[asyncpg.Record]:
        """What is noted, oldest first."""
        rows = await self.connection.fetch("SELECT * FROM access.audit ORDER BY id")
        return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


async def login(client: Client, name: str, password: str = PASSWORD, **headers: str) -> Answer:
    # No jar: what a cookie is worth is said by each test itself.
    async with (
        aiohttp.ClientSession(f"http://127.0.0.1:{client.port}", cookie_jar=aiohttp.DummyCookieJar()) as session,
        session.post("/login", json={"username": name, "password": password}, headers=headers) as response,
    ):
        return Answer(response.status, response.headers.copy(), await response.read())


@pytest_asyncio.fixture(loop_scope="session")
async def people(stand: Stand) -> AsyncIterator[People]:
    connection = await asyncpg.connect(stand.settings.database_url.get_secret_value())
    try:
        # Nobody waits for what an earlier test got wrong.
        await connection.execute("DELETE FROM access.login_failures")
        yield People(connection)
    finally:
        await connection.close()
