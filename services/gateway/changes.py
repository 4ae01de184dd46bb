"""Who waits for which order to change."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class Watch:
    """One waiter's view of one order: set by every change since it was last looked at."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()
        self._over = False

    def notify(self) -> None:
        self._changed.set()

    def end(self) -> None:
        self._over = True
        self._changed.set()

    async def change(self, until_s: float) -> bool:
        """True after a change; False when the loop's clock has reached `until_s` first, or the gateway stops."""
        try:
            async with asyncio.timeout_at(until_s):
                await self._changed.wait()
        except TimeoutError:
            return False
        self._changed.clear()
        return not self._over


class Changes:
    """Begin to watch before you look: what happens in between is then seen."""

    def __init__(self) -> None:
        self._watches: defaultdict[str, set[Watch]] = defaultdict(set)
        self._over = False

    @contextmanager
    def watch(self, order_id: str) -> Iterator[Watch]:
        watch = Watch()
        if self._over:
            watch.end()
        self._watches[order_id].add(watch)
        try:
            yield watch
        finally:
            self._watches[order_id].discard(watch)
            if not self._watches[order_id]:
                del self._watches[order_id]

    def is_watched(self, order_id: str) -> bool:
        return order_id in self._watches

    def notify(self, order_ids: str) -> None:
        """The projector's payload: order ids, comma-separated."""
        for order_id in order_ids.split(","):
            for watch in self._watches.get(order_id, ()):
                watch.notify()

    def notify_all(self) -> None:
        """Changes may have been missed: everybody looks again."""
        for watches in self._watches.values():
            for watch in watches:
                watch.notify()

    def close(self) -> None:
        """The gateway stops: nobody waits any longer."""
        self._over = True
        for watches in self._watches.values():
            for watch in watches:
                watch.end()
