"""A time limit for what one task does."""

import asyncio
from types import TracebackType
from typing import Self


class TimeLimit:
    """`asyncio.timeout`, for each call to a provider and at a quarter of its cost: a timer, and no coroutines.

    `with TimeLimit(after_s):` raises TimeoutError in place of the cancellation with which it ends what it holds; a
    cancellation from elsewhere goes through.
    """

    __slots__ = ("_cancelling", "_is_over", "_task", "_timer")

    def __init__(self, after_s: float) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a time limit is for a task")
        self._task = task
        self._cancelling = task.cancelling()
        self._is_over = False
        self._timer = asyncio.get_running_loop().call_later(after_s, self._end)

    def _end(self) -> None:
        self._is_over = True
        self._task.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        # Cancelled by somebody else too, it stays so.
        if self._is_over and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error
