"""What many orders came to: totals, success rate, attempts, percentiles of latency. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

_BINS_AN_OCTAVE: Final = 4
_QUANTILES: Final = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}


@dataclass
class Summary:
    orders: Counter[str] = field(default_factory=Counter)
    """By status."""
    attempts: int = 0
    latencies: Counter[int] = field(default_factory=Counter)
    """Delivered orders by bin: n holds 2^(n/4) to 2^((n+1)/4) seconds from the order to its delivery."""

    def add(self, status: str, orders: int, attempts: int, bins: Sequence[int], latencies: Sequence[int]) -> None:
        """`latencies`: the orders of each of `bins`, which say something of the delivered alone."""
        self.orders[status] += orders
        self.attempts += attempts
        if status == "success":
            for number, count in zip(bins, latencies, strict=True):
                self.latencies[number] += count

    def said(self) -> dict[str, Any]:
        """As JSON: `successRate` in percent of all orders, as the seed's query has it; latencies in seconds."""
        total = self.orders.total()
        counts = {status: self.orders[status] for status in ("success", "failed", "processing", "pending")}
        return {
            "total": total,
            **counts,
            "successRate": round(100 * counts["success"] / total, 2) if total else None,
            "attempts": {"total": self.attempts, "perOrder": round(self.attempts / total, 3) if total else None},
            "latencyS": quantiles(self.latencies),
        }


def quantiles(latencies: Mapping[int, int]) -> dict[str, float] | None:
    """In seconds, to about a tenth of each; None where nothing was delivered."""
    left = iter(sorted((number, count) for number, count in latencies.items() if count > 0))
    number, count = next(left, (0, 0))
    if not count:
        return None
    total, below, found = sum(n for n in latencies.values() if n > 0), 0, {}
    for name, share in _QUANTILES.items():
        rank = share * total
        while below + count < rank:
            below += count
            number, count = next(left)
        # As if the orders of a bin lay evenly in it.
        found[name] = round(2 ** ((number + (rank - below) / count) / _BINS_AN_OCTAVE), 3)
    return found
