"""Scenarios that mostly wait (for sessions to end, for delays to pass) run side by side, each on a stand of its own."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any

from tests.stand import Stand
from tests.survival.conftest import Stands

Scenario = Callable[[Stand], Awaitable[None]]


class Ran:
    """What became of each; a test asks for one of them by its name."""

    def __init__(self, raised: Mapping[str, BaseException | None]) -> None:
        self._raised = raised

    def held(self, name: str) -> None:
        """Raise what the scenario raised, if it did."""
        raised = self._raised[name]
        if raised is not None:
            raise raised


def side_by_side(
    stands: Stands, scenarios: Mapping[str, Scenario], changes: Mapping[str, Mapping[str, Any]] | None = None
) -> Ran:
    """Run them all; `changes` are settings, by scenario."""
    being_made = asyncio.Semaphore(2)

    async def one(name: str, scenario: Scenario) -> None:
        async with AsyncExitStack() as stack:
            async with being_made:
                stand = await stack.enter_async_context(
                    stands(re.sub(r"\W+", "_", name), **(changes or {}).get(name, {}))
                )
            await scenario(stand)

    async def every() -> list[BaseException | None]:
        return await asyncio.gather(*(one(*named) for named in scenarios.items()), return_exceptions=True)

    return Ran(dict(zip(scenarios, asyncio.run(every()), strict=True)))
