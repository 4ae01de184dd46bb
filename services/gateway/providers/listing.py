"""GET /api/admin/providers, and the balance of one in the course of time."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from aiohttp import web

from services import queries
from services.at_ishare_contract import NAME
from services.gateway.access import Caller
from services.gateway.problem import INVALID_REQUEST, UNKNOWN_PROVIDER, Problem
from services.gateway.reads.listing import answered
from services.gateway.reads.questions import Period, asked
from services.gateway.reads.reading import Reading

QUERIES: Final = queries.load(__file__)
MAX_POINTS: Final = 500
KEPT_EVERY: Final = timedelta(minutes=5)
"""The view has one balance of so long a time."""
_USUAL: Final = timedelta(days=7)
_SERVING: Final = frozenset({NAME})
"""Those that there are, whether or not anything was said of them yet."""


class Listings:
    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    async def providers(self, request: web.Request, _caller: Caller) -> web.Response:
        if request.query:
            raise Problem(INVALID_REQUEST, "this call takes no parameters")
        return answered(request, {"success": True, "providers": await self.found()})

    async def balance(self, request: web.Request, _caller: Caller) -> web.Response:
        said = asked(request, Period)
        provider = await self.named(request.match_info["name"])
        until = said.until or datetime.now(UTC)
        points = await self.balances(provider["name"], said.since or until - _USUAL, until)
        return answered(request, {"success": True, "provider": provider["name"], "balance": points})

    async def found(self) -> list[dict[str, Any]]:
        """Every provider as JSON."""
        rows = await self._reading.fetch(QUERIES["providers"])
        silent = _SERVING - {row["name"] for row in rows}
        return sorted([*map(_said, rows), *map(_silent, silent)], key=lambda provider: str(provider["name"]))

    async def named(self, name: str) -> dict[str, Any]:
        """Problem 404 where there is none."""
        for provider in await self.found():
            if provider["name"] == name:
                return provider
        raise Problem(UNKNOWN_PROVIDER, "there is no such provider; GET /api/admin/providers names them")

    async def balances(self, name: str, since: datetime, until: datetime) -> list[dict[str, Any]]:
        """In order of time, at most MAX_POINTS."""
        stretch = max(KEPT_EVERY, KEPT_EVERY * -(-(until - since) // (KEPT_EVERY * MAX_POINTS)))
        rows = await self._reading.fetch(QUERIES["balance"], name, since, until, stretch)
        return [
            {"at": row["at"], "availableMb": row["available_mb"], "reservedMb": row["reserved_mb"]} for row in rows
        ][-MAX_POINTS:]


def _said(row: Any) -> dict[str, Any]:
    balance = {"availableMb": row["available_mb"], "reservedMb": row["reserved_mb"], "at": row["balance_at"]}
    return {
        "name": row["name"],
        # Orders are sent to one that nothing was said of.
        "state": row["state"] or "up",
        "why": row["why"],
        "by": row["brought_by"],
        "actor": row["actor"],
        "commandId": row["command_id"],
        "since": row["since"],
        "nextProbeAt": row["next_probe_at"],
        "needsMb": row["needs_mb"],
        "balance": None if row["available_mb"] is None else balance,
        "orders": {
            "waiting": row["waiting"],
            "later": row["later"],
            "calling": row["calling"],
            "inDoubt": row["doubted"],
            "settling": row["settling"],
            "inReview": row["reviews"],
        },
        "at": row["at"],
    }


def _silent(name: str) -> dict[str, Any]:
    nothing = dict.fromkeys(("why", "by", "actor", "commandId", "since", "nextProbeAt", "needsMb", "balance"))
    counts = dict.fromkeys(("waiting", "later", "calling", "inDoubt", "settling", "inReview"), 0)
    return {"name": name, "state": "up", **nothing, "orders": counts, "at": None}
