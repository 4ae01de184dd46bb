"""How long setup waits for what may come back."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from services.run import Refusal

_RETRY_S = 0.5
Answer = TypeVar("Answer")
log = structlog.get_logger()


class Patience:
    """One allowance of waiting for all that is waited for."""

    def __init__(self, total_s: float = 30.0) -> None:
        self._total_s = total_s
        self._deadline = asyncio.get_running_loop().time() + total_s

    async def attempt(
        self, act: Callable[[], Awaitable[Answer]], passing: tuple[type[BaseException], ...], what: str
    ) -> Answer:
        """Do `act` until it raises none of `passing`; Refusal that names `what` when that takes too long."""
        loop = asyncio.get_running_loop()
        warned = False
        while True:
            try:
                return await act()
            except passing as error:
                if loop.time() + _RETRY_S > self._deadline:
                    raise Refusal(f"{what} cannot be reached after {self._total_s:.0f} s: {error}") from None
                if not warned:
                    log.warning("waiting", what=what, error=str(error))
                    warned = True
            await asyncio.sleep(_RETRY_S)
