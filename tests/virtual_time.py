"""An event loop on which nobody waits: when nothing is ready, time goes on to the next thing that is due."""

import asyncio
import selectors
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

Result = TypeVar("Result")
BEGIN: Final = datetime(2026, 1, 31, 12, tzinfo=UTC)


class NothingLeftError(RuntimeError):
    """Everybody waits for somebody else: on a real loop this would hang."""


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.now_s = 0.0
        super().__init__(_Selector(self))

    def time(self) -> float:
        return self.now_s


class _Selector(selectors.SelectSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        if not events:
            if timeout is None:
                raise NothingLeftError
            self._loop.now_s += max(timeout, 0.0)
        return events


class VirtualClock:
    """The running loop's time. `set_back` moves the wall clock alone, as an administrator does."""

    def __init__(self) -> None:
        self._ahead = timedelta(0)

    def now(self) -> datetime:
        return BEGIN + timedelta(seconds=self.monotonic_s()) + self._ahead

    def monotonic_s(self) -> float:
        return asyncio.get_running_loop().time()

    def wall_s(self) -> float:
        return self.now().timestamp()

    def set_back(self, by: timedelta) -> None:
        self._ahead -= by


def run(main: Coroutine[Any, Any, Result]) -> Result:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
