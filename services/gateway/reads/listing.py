"""GET /api/admin/fulfillment/logs: a page of orders, and how many there are of each status."""

import asyncio
import math
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, Final, NamedTuple

from aiohttp import web

from services.gateway import body, preferences
from services.gateway.access import Caller
from services.gateway.reads import selection
from services.gateway.reads.questions import Filter, Listing, asked
from services.gateway.reads.reading import QUERIES, Reading

_FEW: Final = 1000
"""Orders with a phone number that fits: up to here they are fetched by the number, beyond that one meets them anyway
when going through the newest."""
_COUNTED: Final = 2500
"""So many are counted by the number."""
_RECENT: Final = 20_000
"""Where the orders that fit are too many to be counted in the time there is, they are counted among so many."""


class Counts(NamedTuple):
    of: dict[str, int]
    complete: bool

    @property
    def total(self) -> int:
        return sum(self.of.values())


class Found(NamedTuple):
    """A page."""

    rows: list[Any]
    counts: Counts
    next: str | None
    """The cursor of the next page."""


class Listings:
    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    async def logs(self, request: web.Request, _caller: Caller) -> web.Response:
        found = await self.found(asked(request, Listing))
        return answered(
            request,
            {
                "success": True,
                "logs": [dict(row) for row in found.rows],
                "statusCounts": {"total": found.counts.total, **found.counts.of},
                "countsComplete": found.counts.complete,
                "next": found.next,
            },
        )

    async def found(self, said: Listing) -> Found:
        """Problem 400 for a cursor of other filters, 503 where the database is away."""
        after = selection.resumed(said)
        fitting = await self._fitting(said)
        rows, counts = await asyncio.gather(
            self._page(said, after, rare=fitting <= _FEW), self._counts(said, rare=fitting <= _COUNTED)
        )
        shown = rows[: said.limit]
        last = shown[-1] if len(rows) > said.limit else None
        columns = selection.order(said.sort).columns
        return Found(shown, counts, last and selection.cursor(said, [last[column] for column in columns]))

    async def is_rare(self, said: Filter) -> bool:
        """Whether the way to the orders is by their phone numbers."""
        return await self._fitting(said) <= _FEW

    async def _fitting(self, said: Filter) -> float:
        """Orders that a part of a phone number fits, as far as they are worth counting; infinity where none leads."""
        part = selection.phone_of(said)
        if part is None or part.whole is not None or not part.leads:
            return math.inf
        found = selection.Where()
        selection.add_phone(found, part, by_index=True)
        sql = QUERIES["few_phones"].format(where=found.sql, limit=_COUNTED + 1)
        ((count,),) = await self._reading.fetch(sql, *found.values)
        return float(count)

    async def _page(self, said: Listing, after: Sequence[Any] | None, *, rare: bool) -> list[Any]:
        order = selection.order(said.sort)
        by_change = selection.by_change(said)
        parts = selection.soon_and_late(said, rare=rare) if by_change else (selection.where(said, rare=rare),)
        if after is not None:
            for part in parts:
                order.beyond(part, after)
        names = ("soon", "late") if by_change else ("where",)
        wheres = {name: part.sql for name, part in zip(names, parts, strict=True)}
        name = "page_by_change" if by_change else "page_of_few" if _are_few(said) else "page"
        sql = QUERIES[name].format(**wheres, order=order.sql, limit=said.limit + 1)
        return list(await self._reading.fetch(sql, *parts[0].values))

    async def _counts(self, said: Listing, *, rare: bool) -> Counts:
        """Of each status, whatever status is asked for: what one would get by asking for it."""
        part = selection.phone_of(said)
        if part is None and not selection.is_one(said):
            return _counts(await self._tallied(said))
        if rare or part is None or part.whole is not None or selection.is_one(said):
            found = selection.where(said, rare=rare, status=False)
            sql = QUERIES["counts"].format(where=found.sql)
            return _counts(await self._reading.fetch(sql, *found.values))
        return await self._recent(said)

    async def _tallied(self, said: Listing) -> list[Any]:
        tallied = selection.where(said.model_copy(update={"since": None, "until": None}), status=False)
        covered = selection.pieces(said.since, said.until)
        where = tallied.sql
        widths, starts, ends = (tallied.parameter([piece[n] for piece in covered]) for n in range(3))
        sql = QUERIES["tallied_counts"].format(where=where, widths=widths, starts=starts, ends=ends)
        return list(await self._reading.fetch(sql, *tallied.values))

    async def _recent(self, said: Listing) -> Counts:
        found = selection.where(said.model_copy(update={"since": None, "until": None}), status=False)
        where = found.sql
        period = ["true"]
        if said.since is not None:
            period.append(f"created_at >= {found.parameter(said.since)}")
        if said.until is not None:
            period.append(f"created_at < {found.parameter(said.until)}")
        sql = QUERIES["recent_counts"].format(period=" AND ".join(period), where=where, limit=_RECENT)
        rows = await self._reading.fetch(sql, *found.values)
        return _counts(rows, complete=sum(row["seen"] for row in rows) < _RECENT)


def _are_few(said: Listing) -> bool:
    """Whether all that fit are sooner found and sorted than met in the order of networks, which lie far apart in it.

    A part of a phone number, that is, of orders that failed for one reason or are under way; without it an index leads.
    """
    few = said.failure is not None or said.status in {"processing", "pending"}
    return said.phone is not None and few and selection.order(said.sort).columns[0] == "network"


def _counts(rows: Sequence[Any], *, complete: bool = True) -> Counts:
    found = dict.fromkeys(("success", "failed", "processing", "pending"), 0)
    return Counts(found | {row["status"]: row["orders"] for row in rows}, complete)


def answered(request: web.Request, content: dict[str, Any]) -> web.Response:
    """With an ETag of what it says; 304 where the client has that already."""
    response = body.json_response(content)
    said = response.body
    etag = f'"{blake2b(said if isinstance(said, bytes) else b"", digest_size=12).hexdigest()}"'
    if preferences.matches(etag, request.headers.get("If-None-Match")):
        return web.Response(status=304, headers={"ETag": etag})
    response.headers["ETag"] = etag
    return response
