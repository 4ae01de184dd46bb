"""Until when calls whose answer nobody has may be under way, and what an answer of the provider can prove before."""

from collections import Counter
from collections.abc import Mapping
from typing import Final, NamedTuple

from services.fulfiller.book import Book
from services.fulfiller.clock import Clock
from services.fulfiller.lane import Lane
from services.fulfiller.order import State

MAX_LEFT_S: Final = 600.0
"""No call is given longer; what says so was dated by another clock."""


class Counts(NamedTuple):
    """What a provider's answer about an attempt can prove, given when it was asked for."""

    failed: bool
    not_found: bool


class Doubts:
    """Of one shard. Times are monotonic."""

    def __init__(self, book: Book, lanes: Mapping[str, Lane], clock: Clock, fenced_at_s: float) -> None:
        self._clock = clock
        self._found = {
            order.order_id: order.provider for order in book.open_orders() if order.state is State.ATTEMPTING
        }
        """Attempts that the last owner left, and their providers."""
        self._deadlines_s: dict[str, float] = {}
        """Of the attempts whose intent we wrote ourselves."""
        self.end_s = _last_call_ends_s(book, lanes, clock, fenced_at_s)
        """No call of an earlier owner is under way after this: every intent of theirs is older than the fence."""

    def __len__(self) -> int:
        """Attempts that an earlier owner left in doubt."""
        return len(self._found)

    def by_provider(self) -> Counter[str | None]:
        return Counter(self._found.values())

    def wait_s(self) -> float | None:
        """Until those of earlier owners are over; None where there are none."""
        return self.end_s - self._clock.monotonic_s() if self._found else None

    def expired(self) -> list[str]:
        """Orders of earlier owners' attempts, once no call of theirs can be under way; each is told once."""
        if not self._found or self._clock.monotonic_s() < self.end_s:
            return []
        found = [order_id for order_id in self._found if order_id not in self._deadlines_s]
        self._found.clear()
        return found

    def begin(self, order_id: str, deadline_s: float) -> None:
        """An attempt of ours."""
        self._deadlines_s[order_id] = deadline_s

    def forget(self, order_id: str) -> None:
        """The order has ended."""
        self._deadlines_s.pop(order_id, None)

    def counts(self, order_id: str, asked_at_s: float, final_s: float) -> Counts:
        """`final_s`: so long after a call's deadline "not found" is proof."""
        deadline_s = self._deadlines_s.get(order_id)
        late_enough = asked_at_s >= (self.end_s if deadline_s is None else deadline_s) + final_s
        return Counts(failed=late_enough or deadline_s is not None, not_found=late_enough)


def _last_call_ends_s(book: Book, lanes: Mapping[str, Lane], clock: Clock, fenced_at_s: float) -> float:
    """By our settings, or by those of the last owner, where the intents that it left give its calls longer."""
    timeouts_s = (lane.provider.profile.call_timeout_s for lane in lanes.values())
    now = clock.now()
    left_s = (
        min((order.next_at - now).total_seconds(), MAX_LEFT_S)
        for order in book.open_orders()
        if order.state is State.ATTEMPTING and order.next_at is not None
    )
    return max(fenced_at_s + max(timeouts_s, default=0.0), clock.monotonic_s() + max(left_s, default=0.0))
