"""Which orders a bulk retry may have: those that a single retry would be sent for, and no others. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, Literal

from services.gateway.answers import Action, Row, Verdict, before_command

IN_DOUBT: Final = frozenset({"accepted", "unknown", "review"})
"""Attempted, and nobody knows yet what came of it: such an order is asked about, never sent again."""

Fitness = Literal["safe", "in_doubt", "not_eligible"]


def fitness(row: Row) -> tuple[Fitness, str]:
    """Of an order, and why it is not safe to retry.

    It follows from status, state, attempt_number, max_attempts and quarantined alone, so orders that have these in
    common are judged together.
    """
    if row["quarantined"]:
        return "not_eligible", "its events contradict one another: nobody knows how the order stands"
    answer = before_command(Action.RETRY, row)
    if answer.verdict is Verdict.SEND:
        return "safe", ""
    return ("in_doubt" if row["state"] in IN_DOUBT else "not_eligible"), answer.why


@dataclass
class Share:
    """Orders that are safe to retry, together."""

    orders: int = 0
    size_mb: int = 0
    price: Decimal = Decimal(0)
    without_price: int = 0
    oldest: datetime | None = None
    newest: datetime | None = None

    def add(self, group: Row) -> None:
        self.orders += group["orders"]
        self.size_mb += group["size_mb"]
        self.price += group["price"] or 0
        self.without_price += group["orders"] - group["priced"]
        self.oldest = min(self.oldest or group["oldest"], group["oldest"])
        self.newest = max(self.newest or group["newest"], group["newest"])


@dataclass
class Preview:
    """What a bulk retry would do."""

    matched: int = 0
    safe: Share = field(default_factory=Share)
    counts: dict[Fitness, int] = field(default_factory=lambda: {"safe": 0, "in_doubt": 0, "not_eligible": 0})
    why: dict[tuple[str, Fitness, str], int] = field(default_factory=dict)
    """Orders that are not retried, by state, fitness and reason."""
    kinds: list[tuple[str, str, int, int]] = field(default_factory=list)
    """Status, state, attempt_number and max_attempts of those that are."""

    def said(self, unknown: Iterable[str], token: str | None, expires_at: datetime | None) -> dict[str, Any]:
        unknown = list(unknown)
        return {
            "token": token,
            "expiresAt": expires_at,
            "matched": self.matched,
            "safe": {
                "orders": self.safe.orders,
                "sizeMb": self.safe.size_mb,
                "price": float(self.safe.price),
                "withoutPrice": self.safe.without_price,
                "oldest": self.safe.oldest,
                "newest": self.safe.newest,
            },
            "inDoubt": self.counts["in_doubt"],
            "notEligible": self.counts["not_eligible"],
            "why": [
                {"state": state, "orders": orders, "kind": kind, "why": why}
                for (state, kind, why), orders in sorted(self.why.items(), key=lambda said: -said[1])
            ],
            "unknown": {"orders": len(unknown), "ids": unknown[:100]},
        }


def previewed(groups: Iterable[Mapping[str, Any]]) -> Preview:
    """Of orders by status, state, attempt_number, max_attempts and quarantined."""
    preview = Preview()
    for group in groups:
        kind, why = fitness(group)
        preview.matched += group["orders"]
        preview.counts[kind] += group["orders"]
        if kind == "safe":
            preview.safe.add(group)
            preview.kinds.append((group["status"], group["state"], group["attempt_number"], group["max_attempts"]))
        else:
            key = (group["state"], kind, why)
            preview.why[key] = preview.why.get(key, 0) + group["orders"]
    return preview
