"""Answers that last: few of one caller at once, and each ends when its caller's key or session does."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from services.gateway.access import Caller
from services.gateway.problem import TOO_MANY, Problem


class Lasting:
    def __init__(self, what: str) -> None:
        self._what = what
        self._ends: defaultdict[str, list[Callable[[], None]]] = defaultdict(list)
        """What ends each of a caller's answers."""

    def __bool__(self) -> bool:
        """Whether any is under way."""
        return bool(self._ends)

    def end(self, actor: str) -> None:
        """A key was revoked, or what a user may do has changed: whoever comes again is asked again who it is."""
        for end in self._ends.get(actor, ()):
            end()

    @contextmanager
    def one_of(self, caller: Caller, end: Callable[[], None], *, at_most: int, again_s: int) -> Iterator[None]:
        """Problem 429 for who has too many already."""
        ends = self._ends[caller.actor]
        if len(ends) >= at_most:
            wait = {"Retry-After": str(again_s)}
            raise Problem(TOO_MANY, f"at most {at_most} {self._what} of one caller at once", headers=wait)
        ends.append(end)
        timer = None
        if caller.ends_at_s != float("inf"):
            timer = asyncio.get_running_loop().call_later(max(0.0, caller.ends_at_s - time.time()), end)
        try:
            yield
        finally:
            if timer is not None:
                timer.cancel()
            ends.remove(end)
            if not ends:
                del self._ends[caller.actor]
