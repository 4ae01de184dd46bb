"""GET /api/admin/fulfillment/export.csv: all that fits, a page at a time, whatever there is of it."""

import asyncio
from functools import partial
from typing import Any, Final

import structlog
from aiohttp import web

from services.gateway.access import Caller
from services.gateway.problem import HEADERS, Problem
from services.gateway.reads import selection
from services.gateway.reads.lasting import Lasting
from services.gateway.reads.listing import Listings
from services.gateway.reads.questions import Export, asked
from services.gateway.reads.reading import QUERIES, Reading

COLUMNS: Final = (
    "id", "order_id", "network", "phone_number", "status", "attempt_number", "max_attempts", "api_response",
    "error_message", "retry_after", "fulfilled_at", "created_at", "updated_at",
)  # fmt: skip
"""The seed's."""

_PAGE_ROWS: Final = 4000
_WRITE_S: Final = 60.0
"""For a page, of a megabyte or two: whoever takes longer is not reading any more."""


_AT_ONCE: Final = 4
"""Of one caller."""
_AGAIN_S: Final = 10


def _text(column: str) -> str:
    """A cell in quotes, empty for NULL; what a spreadsheet would calculate begins with an apostrophe."""
    harmless = f"CASE WHEN strpos(E'=+-@\\t\\r', left({column}, 1)) > 0 AND {column} <> '' THEN '''' ELSE '' END"
    return f"'\"' || {harmless} || replace({column}, '\"', '\"\"') || '\"'"


def _time(column: str) -> str:
    return f"to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"


_CELLS: Final = {
    **{name: _text(name) for name in ("network", "phone_number", "error_message")},
    "api_response": _text("api_response::text"),
    **{name: _time(name) for name in ("retry_after", "fulfilled_at", "created_at", "updated_at")},
}

log = structlog.get_logger()


class Exports:
    def __init__(self, reading: Reading, listings: Listings) -> None:
        self._reading = reading
        self._listings = listings
        self.under_way = Lasting("exports")

    async def csv(self, request: web.Request, caller: Caller) -> web.StreamResponse:
        """Pages by key: no snapshot is held for as long as a client takes to read, and memory stays the same."""
        said = asked(request, Export)
        with self.under_way.one_of(caller, partial(_break_off, request), at_most=_AT_ONCE, again_s=_AGAIN_S):
            return await self._told(request, said)

    async def _told(self, request: web.Request, said: Export) -> web.StreamResponse:
        rare = await self._listings.is_rare(said)
        page = await self._page(said, None, rare=rare)
        response = web.StreamResponse(headers=HEADERS)
        response.content_type = "text/csv"
        response.charset = "utf-8"
        response.headers["Content-Disposition"] = 'attachment; filename="fulfillment.csv"'
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        await response.write(",".join(COLUMNS).encode() + b"\r\n")
        while page["rows"]:
            following = asyncio.create_task(self._following(said, page, rare=rare))
            try:
                async with asyncio.timeout(_WRITE_S):
                    await response.write(page["lines"].encode())
                page = await following
            except ConnectionError:  # whoever asked has left
                return response
            except TimeoutError:
                log.info("export_not_taken", after_s=_WRITE_S)
                _break_off(request)
                return response
            except Problem as problem:
                # The head is sent: that the rest is missing can only be said by breaking off.
                log.warning("export_broken_off", why=problem.detail)
                _break_off(request)
                return response
            finally:
                following.cancel()
        await response.write_eof()
        return response

    async def _following(self, said: Export, page: Any, *, rare: bool) -> Any:
        if page["rows"] < _PAGE_ROWS:
            return {"rows": 0}
        return await self._page(said, (page["last_created_at"], page["last_id"]), rare=rare)

    async def _page(self, said: Export, after: tuple[Any, Any] | None, *, rare: bool) -> Any:
        found = selection.where(said, rare=rare)
        order = selection.order(said.sort)
        if after is not None:
            order.beyond(found, after)
        sql = QUERIES["export"].format(where=found.sql, order=order.sql, limit=_PAGE_ROWS, **_CELLS)
        (page,) = await self._reading.fetch(sql, *found.values)
        return page


def _break_off(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()
