"""How late the sandbox's own event loop is. A call that came in time is noted late where the loop got no processor."""

import asyncio
import time
from collections import deque
from typing import Final

TICK_S: Final = 0.02
AROUND_S: Final = 1.0
NOTED_S: Final = 0.01
"""Less is no lag."""


class Lag:
    def __init__(self) -> None:
        self._ticks: deque[tuple[float, float]] = deque()
        """The late ones of the last second: when, on the monotonic clock, and how late."""
        self._due_s: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def watch(self) -> None:
        """From now on, until `close`."""
        self._due_s = time.monotonic() + TICK_S
        self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due_s = None

    def around_s(self) -> float:
        """Seconds: the longest that the loop did not come round when it should have, now or within the last second."""
        if self._due_s is None:
            return 0.0
        now_s = time.monotonic()
        self._forget(now_s)
        longest_s = max((late_s for _, late_s in self._ticks), default=0.0)
        return max(longest_s, now_s - self._due_s, 0.0)

    def _tick(self) -> None:
        now_s = time.monotonic()
        if self._due_s is not None and now_s - self._due_s > NOTED_S:
            self._ticks.append((now_s, now_s - self._due_s))
            self._forget(now_s)
        self.watch()

    def _forget(self, now_s: float) -> None:
        while self._ticks and self._ticks[0][0] < now_s - AROUND_S:
            self._ticks.popleft()
