"""When a shard's orders are due by the clock alone: what no delayed topic carries, and what one should have carried."""

import heapq
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from services.fulfiller.order import Order

OVERDUE: Final = timedelta(seconds=30)
"""How late a delayed record may be before the act is done without it."""


class Entry(NamedTuple):
    at_s: float
    """Unix time."""
    order_id: str
    schedule_id: int
    carried: bool
    """A delayed topic should have brought it."""


class Agenda:
    def __init__(self) -> None:
        self._entries: list[Entry] = []

    def at(self, when: datetime, order: Order) -> None:
        """No topic carries it."""
        heapq.heappush(self._entries, Entry(when.timestamp(), order.order_id, order.schedule_id, carried=False))

    def carried(self, when: datetime, order: Order) -> None:
        """A topic brings it; should it not, it is done here."""
        late = (when + OVERDUE).timestamp()
        heapq.heappush(self._entries, Entry(late, order.order_id, order.schedule_id, carried=True))

    def fill(self, orders: Iterable[Order]) -> None:
        """As `at` each order's own time, for many at once."""
        self._entries += [
            Entry(order.next_at.timestamp(), order.order_id, order.schedule_id, carried=False)
            for order in orders
            if order.next_at is not None
        ]
        heapq.heapify(self._entries)

    def due(self, now: datetime) -> list[Entry]:
        now_s = now.timestamp()
        taken: list[Entry] = []
        while self._entries and self._entries[0].at_s <= now_s:
            taken.append(heapq.heappop(self._entries))
        return taken

    def next_s(self) -> float | None:
        """Unix time of the earliest entry, or None."""
        return self._entries[0].at_s if self._entries else None
