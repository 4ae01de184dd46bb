"""PostgreSQL as people's questions need it: connections of their own, so that no question holds up a purchase."""

from __future__ import annotations  # asyncpg's classes take parameters in its stubs alone

from typing import Any, Final

import asyncpg

from services import queries
from services.gateway.database import AWAY, Database
from services.gateway.pool import ACQUIRE_TIMEOUT_S, LatePool
from services.gateway.problem import Problem, unavailable
from services.settings import Settings

QUERIES: Final = queries.load(__file__)

_TIMEOUT_S: Final = 10.0
_SESSION: Final = {
    "default_transaction_read_only": "on",
    "statement_timeout": f"{_TIMEOUT_S:.0f}s",
    # What is asked for decides how it is found; and to compile a plan takes longer than any of them runs.
    "plan_cache_mode": "force_custom_plan",
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
}


class Reading:
    """Problem 503 where PostgreSQL is away, or does not answer in time."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._database = database
        self._pool = LatePool(settings, _SESSION)

    async def fetch(self, sql: str, *values: Any) -> list[asyncpg.Record]:
        if not self._database.up:
            raise _away()
        try:
            pool = await self._pool.opened()
            async with pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as connection:
                return await connection.fetch(sql, *values, timeout=_TIMEOUT_S)
        except asyncpg.QueryCanceledError as error:
            raise _too_long() from error
        except TimeoutError as error:
            raise _too_long() from error
        except AWAY as error:
            raise _away() from error

    async def close(self) -> None:
        self._pool.close()


def _away() -> Problem:
    return unavailable("orders cannot be looked up now: the database is away", retry_after_s=2)


def _too_long() -> Problem:
    return unavailable("the answer takes too long now: ask for less, or later", retry_after_s=10)
