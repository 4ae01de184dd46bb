"""PostgreSQL as the gateway needs it: it may be away, which must be noticed at once and cost callers nothing."""

from __future__ import annotations  # asyncpg's classes take parameters in its stubs alone

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg
import structlog

from services import postgres, queries
from services.health import Readiness
from services.settings import Settings

DEPENDENCY: Final = "postgres"
FULFILLMENT_CHANGED: Final = "fulfillment_changed"
ACCESS_CHANGED: Final = "access_changed"
PROVIDERS_CHANGED: Final = "providers_changed"

_CONNECTIONS: Final = 8
_ACQUIRE_TIMEOUT_S: Final = 0.5
_PROBE_EVERY_S: Final = 1.0
_PROBE_TIMEOUT_S: Final = 2.0
# An answer of PostgreSQL that the gateway can do nothing with: as good as away, and named on /readyz.
_UNUSABLE = (
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedColumnError,
    asyncpg.InvalidSchemaNameError,
    asyncpg.InsufficientPrivilegeError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.ObjectNotInPrerequisiteStateError,  # a database that takes no connections for now
)
AWAY = (*postgres.UNREACHABLE, *_UNUSABLE)

QUERIES: Final = {**queries.load(__file__), **queries.load(__file__, "access.sql")}

log = structlog.get_logger()


class DatabaseAwayError(Exception):
    """PostgreSQL cannot be asked now."""


class Database:
    """A pool, and one connection that listens.

    The listening connection is also the sentinel: while it stands and answers, PostgreSQL is up; else every call is
    refused at once instead of waiting for a timeout of its own.
    """

    def __init__(self, settings: Settings, readiness: Readiness) -> None:
        self._settings = settings
        self._readiness = readiness
        self._pool: asyncpg.Pool[Any] | None = None
        self._up = False
        self._doubt = asyncio.Event()
        self.first_tried = asyncio.Event()
        self.on_change: Callable[[str], None] = _nobody
        """Takes the payload of FULFILLMENT_CHANGED: order ids, comma-separated."""
        self.on_access_change: Callable[[str], None] = _nobody
        """Takes the id of a key that was revoked, or `user:NAME` whose access changed."""
        self.on_provider_change: Callable[[str], None] = _nobody
        """Takes a provider's name."""
        self.on_return: Callable[[], None] = lambda: None
        """PostgreSQL can be asked again; notifications may have been missed."""

    @property
    def up(self) -> bool:
        return self._up

    async def fetchrow(self, name: str, *args: Any, timeout_s: float) -> asyncpg.Record | None:
        """One row of a named query. DatabaseAwayError within about `timeout_s`."""
        async with self.connection() as connection:
            return await connection.fetchrow(QUERIES[name], *args, timeout=timeout_s)

    async def fetch(self, name: str, *args: Any, timeout_s: float) -> list[asyncpg.Record]:
        """As `fetchrow`, all rows."""
        async with self.connection() as connection:
            return await connection.fetch(QUERIES[name], *args, timeout=timeout_s)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.pool.PoolConnectionProxy[Any]]:
        """One of the pool's, for more than a query. DatabaseAwayError where PostgreSQL goes away meanwhile."""
        if not self._up or self._pool is None:
            raise DatabaseAwayError(dict(self._readiness)[DEPENDENCY])
        try:
            async with self._pool.acquire(timeout=_ACQUIRE_TIMEOUT_S) as connection:
                yield connection
        except AWAY as error:
            self._down(error)
            raise DatabaseAwayError(_said(error)) from error

    async def run(self) -> None:
        """Keep the sentinel standing, for ever. services.run.Refusal where the set-up is wrong from the start."""
        while True:
            try:
                if self._pool is None:
                    self._pool = await postgres.pool(
                        self._settings, min_size=1, max_size=_CONNECTIONS, reset=_nothing_to_reset
                    )
                await self._watch()
            except AWAY as error:
                self._down(error)
            finally:
                self.first_tried.set()
            await self._pause()

    async def close(self) -> None:
        if self._pool is not None:
            self._pool.terminate()

    async def _watch(self) -> None:
        # A connection of its own: a pool takes none back that still listens, and a dead one cannot be asked to stop.
        url = self._settings.database_url.get_secret_value()
        connection: asyncpg.Connection[Any] = await asyncpg.connect(url, timeout=_PROBE_TIMEOUT_S)
        connection.add_termination_listener(self._terminated)
        try:
            await connection.add_listener(FULFILLMENT_CHANGED, self._changed)
            await connection.add_listener(ACCESS_CHANGED, self._access_changed)
            await connection.add_listener(PROVIDERS_CHANGED, self._provider_changed)
            while True:
                await connection.execute(QUERIES["probe"], timeout=_PROBE_TIMEOUT_S)
                self._back()
                await self._pause()
        finally:
            connection.remove_termination_listener(self._terminated)
            connection.terminate()

    async def _pause(self) -> None:
        """Until it is time to look again, or there is doubt."""
        self._doubt.clear()
        try:
            async with asyncio.timeout(_PROBE_EVERY_S):
                await self._doubt.wait()
        except TimeoutError:
            return

    def _down(self, error: BaseException) -> None:
        if self._up or not self.first_tried.is_set():
            log.warning("postgres_away", error=_said(error))
        self._up = False
        self._readiness.down(DEPENDENCY, _said(error))
        self._doubt.set()

    def _back(self) -> None:
        returned, self._up = not self._up, True
        self._readiness.up(DEPENDENCY)
        self.first_tried.set()
        if returned:
            log.info("postgres_up")
            self.on_return()

    def _terminated(self, _connection: object) -> None:
        self._down(ConnectionError("PostgreSQL closed the connection"))

    def _changed(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        self.on_change(str(payload))

    def _access_changed(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        self.on_access_change(str(payload))

    def _provider_changed(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        self.on_provider_change(str(payload))


async def _nothing_to_reset(_connection: object) -> None:
    """No call leaves its session changed, and the round trip would double what a claim costs."""


def _nobody(_payload: str) -> None:
    return


def _said(error: BaseException) -> str:
    if isinstance(error, asyncpg.UndefinedTableError | asyncpg.InvalidSchemaNameError | asyncpg.UndefinedColumnError):
        return f"{error}: run `python -m services.setup`"
    return str(error) or type(error).__name__
