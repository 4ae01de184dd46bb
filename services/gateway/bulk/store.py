"""PostgreSQL as bulk retries need it: connections of their own, so that none of them holds up a purchase."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, Literal

from services import queries
from services.gateway.database import AWAY, Database, DatabaseAwayError
from services.gateway.pool import ACQUIRE_TIMEOUT_S, LatePool
from services.settings import Settings

QUERIES: Final = queries.load(__file__)

_STATEMENT_TIMEOUT_S: Final = 15.0
_SESSION: Final = {
    "statement_timeout": f"{_STATEMENT_TIMEOUT_S:.0f}s",
    # A gateway that is frozen in mid-turn must not hold its job for ever.
    "idle_in_transaction_session_timeout": "10s",
    "jit": "off",
}


class Store:
    def __init__(self, settings: Settings, database: Database) -> None:
        self._database = database
        self._pool = LatePool(settings, _SESSION, command_timeout_s=_STATEMENT_TIMEOUT_S + 5)

    @asynccontextmanager
    async def transaction(self, isolation: Literal["repeatable_read"] | None = None) -> AsyncIterator[Any]:
        """A connection. DatabaseAwayError where PostgreSQL is away, asyncpg.QueryCanceledError after 15 s."""
        if not self._database.up:
            raise DatabaseAwayError("PostgreSQL is away")
        try:
            pool = await self._pool.opened()
            async with (
                pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as connection,
                connection.transaction(isolation=isolation),
            ):
                yield connection
        except AWAY as error:
            raise DatabaseAwayError(str(error) or type(error).__name__) from error

    async def close(self) -> None:
        self._pool.close()
