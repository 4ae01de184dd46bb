"""How the services reach PostgreSQL."""

from __future__ import annotations  # asyncpg's classes take parameters in its stubs alone

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import asyncpg
import orjson
import structlog

from services.run import Refusal
from services.settings import Settings

log = structlog.get_logger()

# What waiting cannot mend: it is said in one line, and the service ends.
_WRONG_SETUP = (
    asyncpg.InvalidPasswordError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)
# What may come back by itself.
UNREACHABLE = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.CannotConnectNowError,
    TimeoutError,
    asyncpg.TooManyConnectionsError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    # A server that dies says so in the middle of anything, and asyncpg loses its thread over it.
    asyncpg.InternalClientError,
)


async def _prepare(connection: asyncpg.Connection[Any]) -> None:
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        format="text",
        encoder=lambda value: orjson.dumps(value).decode(),
        decoder=orjson.loads,
    )


async def pool(
    settings: Settings,
    *,
    min_size: int = 1,
    max_size: int = 4,
    command_timeout_s: float | None = 30,
    reset: Callable[[asyncpg.Connection[Any]], Awaitable[None]] | None = None,
    server_settings: Mapping[str, str] | None = None,
) -> asyncpg.Pool[Any]:
    """Open a pool; `reset` in place of the round trip with which asyncpg cleans a returned connection's session.

    Refusal where the set-up is wrong; one of UNREACHABLE where PostgreSQL may come back.
    """
    try:
        return await asyncpg.create_pool(
            settings.database_url.get_secret_value(),
            min_size=min_size,
            max_size=max_size,
            init=_prepare,
            reset=reset,
            timeout=5,
            command_timeout=command_timeout_s,
            server_settings=dict(server_settings or {}),
        )
    except _WRONG_SETUP as error:
        raise Refusal(f"setting DATABASE_URL: {error}") from None
    except ValueError as error:
        raise Refusal(f"setting DATABASE_URL: {error}") from None


async def wait_for_pool(settings: Settings, stop: asyncio.Event, *, retry_s: float = 1.0) -> asyncpg.Pool[Any] | None:
    """As `pool`, but waits until PostgreSQL can be reached; None when asked to stop meanwhile."""
    while not stop.is_set():
        try:
            return await pool(settings)
        except UNREACHABLE as error:
            log.warning("postgres_unreachable", error=str(error))
        try:
            await asyncio.wait_for(stop.wait(), retry_s)
        except TimeoutError:
            continue
    return None
