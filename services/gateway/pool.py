"""Connections of one kind of work, opened when it is first done, so that it holds up no other kind."""

from __future__ import annotations  # asyncpg's classes take parameters in its stubs alone

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import asyncpg

from services import postgres
from services.settings import Settings

ACQUIRE_TIMEOUT_S: Final = 5.0
_CONNECTIONS: Final = 4


class LatePool:
    """`session` are PostgreSQL's settings of its connections; nothing that is done on them may change their session."""

    def __init__(self, settings: Settings, session: Mapping[str, str], *, command_timeout_s: float = 30.0) -> None:
        self._settings = settings
        self._session = session
        self._command_timeout_s = command_timeout_s
        self._pool: asyncpg.Pool[Any] | None = None
        self._opening = asyncio.Lock()

    async def opened(self) -> asyncpg.Pool[Any]:
        async with self._opening:
            if self._pool is None:
                self._pool = await postgres.pool(
                    self._settings,
                    min_size=1,
                    max_size=_CONNECTIONS,
                    reset=_nothing_to_reset,
                    server_settings=self._session,
                    command_timeout_s=self._command_timeout_s,
                )
            return self._pool

    def close(self) -> None:
        if self._pool is not None:
            self._pool.terminate()


async def _nothing_to_reset(_connection: object) -> None:
    """Spares a round trip each time."""
