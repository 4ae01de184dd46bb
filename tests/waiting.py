"""Waiting for a condition, with a bound. Nothing in the tests waits for time alone."""

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

POLL_S = 0.05


async def until(condition: Callable[[], Any], what: str, within_s: float = 60.0) -> Any:
    """What the condition gives (or, where that is a coroutine, comes to), once that is true.

    AssertionError, saying what was waited for, when it is late.
    """
    loop = asyncio.get_running_loop()
    give_up_s = loop.time() + within_s
    while True:
        reached = condition()
        if inspect.isawaitable(reached):
            reached = await reached
        if reached:
            return reached
        assert loop.time() < give_up_s, f"waited {within_s:.0f} s in vain for {what}"
        await asyncio.sleep(POLL_S)
