"""Where tests and calls wait for each other: calls that are held until released, and counts to wait for."""

import asyncio
from collections.abc import Callable

from services.sandbox.ledger import Ledger


class Gates:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._held: dict[asyncio.Future[None], str] = {}
        self._waiting: dict[asyncio.Future[None], Callable[[], bool]] = {}

    def counts(self) -> dict[str, int]:
        """Since the ledger began; `held` are the calls held now."""
        ledger = self._ledger
        return {
            "sends": ledger.sends,
            "queries": ledger.queries,
            "deliveries": ledger.delivered,
            "held": len(self._held),
        }

    def counts_of(self, reference: str) -> dict[str, int]:
        record = self._ledger.records.get(reference)
        return {
            "sends": record.sends if record else 0,
            "queries": record.queries if record else 0,
            "deliveries": record.deliveries if record else 0,
            "held": sum(held == reference for held in self._held.values()),
        }

    def changed(self) -> None:
        """A count has grown."""
        if self._waiting:
            for future, reached in self._waiting.items():
                if not future.done() and reached():
                    future.set_result(None)

    async def reach(self, reached: Callable[[], bool], timeout_s: float) -> bool:
        """Waits until `reached`; false when that took longer than `timeout_s`."""
        if reached():
            return True
        future = asyncio.get_running_loop().create_future()
        self._waiting[future] = reached
        try:
            async with asyncio.timeout(timeout_s):
                await future
        except TimeoutError:
            return False
        finally:
            del self._waiting[future]
        return True

    async def hold(self, reference: str) -> None:
        """Until `release`."""
        future = asyncio.get_running_loop().create_future()
        self._held[future] = reference
        self.changed()
        try:
            await future
        finally:
            del self._held[future]

    def release(self, reference: str | None = None) -> int:
        """Lets the held calls of one reference, or all, go on; returns how many."""
        released = 0
        for future, held in self._held.items():
            if reference in (None, held) and not future.done():
                future.set_result(None)
                released += 1
        return released
