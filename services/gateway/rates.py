"""How much one caller may ask of this gateway: a bucket of tokens each, which fills steadily."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

CALLERS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Quota:
    """What is left of it, as draft-ietf-httpapi-ratelimit-headers says it."""

    allowed: bool
    headers: dict[str, str]


class Rates:
    """`per_s` requests a second on average, `burst` at once; per_s 0 is no limit."""

    def __init__(self, per_s: float, burst: int, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._per_s = per_s
        self._burst = burst
        self._clock_s = clock_s
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._policy = f'"caller";q={burst};w={max(1, math.ceil(burst / per_s))}' if per_s else ""

    def __len__(self) -> int:
        """Callers that are remembered."""
        return len(self._left)

    def take(self, actor: str) -> Quota | None:
        """One request's worth; None where nothing is limited."""
        if not self._per_s:
            return None
        now_s = self._clock_s()
        left, at_s = self._left.get(actor, (float(self._burst), now_s))
        left = min(self._burst, left + (now_s - at_s) * self._per_s)
        allowed = left >= 1
        left -= allowed
        self._left[actor] = (left, now_s)
        self._left.move_to_end(actor)
        if len(self._left) > CALLERS:
            self._left.popitem(last=False)
        return self._quota(left, allowed=allowed)

    def give_back(self, actor: str) -> None:
        """What was taken a moment ago."""
        if actor in self._left:
            left, at_s = self._left[actor]
            self._left[actor] = (min(self._burst, left + 1), at_s)

    def _quota(self, left: float, *, allowed: bool) -> Quota:
        full_in_s = math.ceil((self._burst - left) / self._per_s)
        headers = {"RateLimit-Policy": self._policy, "RateLimit": f'"caller";r={int(left)};t={full_in_s}'}
        if not allowed:
            headers["Retry-After"] = str(max(1, math.ceil((1 - left) / self._per_s)))
        return Quota(allowed, headers)
