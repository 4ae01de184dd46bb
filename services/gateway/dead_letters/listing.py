"""GET /api/admin/dead-letters, and one of them whole: what could not be acted on, and why."""

import asyncio
import base64
import codecs
from typing import Any, Final

from aiohttp import web

from services import queries
from services.gateway.access import Caller, Role
from services.gateway.dead_letters.masking import masked
from services.gateway.dead_letters.questions import Filter, Letters, Place, cursor, resumed
from services.gateway.problem import INVALID_REQUEST, UNKNOWN_LETTER, Problem
from services.gateway.reads.listing import answered
from services.gateway.reads.questions import asked
from services.gateway.reads.reading import Reading
from services.gateway.reads.selection import Where

QUERIES: Final = queries.load(__file__)
SHOWN_BYTES: Final = 64 * 1024
"""Of a value."""


class Listings:
    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    async def letters(self, request: web.Request, caller: Caller) -> web.Response:
        said = asked(request, Letters)
        whole = may_see_phones(caller)
        rows, groups = await asyncio.gather(self._page(said), self.groups(said))
        shown = rows[: said.limit]
        last = shown[-1] if len(rows) > said.limit else None
        return answered(
            request,
            {
                "success": True,
                "letters": [_summary(row, whole=whole) for row in shown],
                "groups": groups,
                "next": None if last is None else cursor(last["at"], Place(last["partition"], last["offset"])),
            },
        )

    async def letter(self, request: web.Request, caller: Caller) -> web.Response:
        named = request.match_info
        place = Place.read(named.get("id") or f"{named['partition']}-{named['offset']}")
        if request.query:
            raise Problem(INVALID_REQUEST, "this call takes no parameters")
        said = await self.whole(place, phones=may_see_phones(caller))
        return answered(request, {"success": True, "letter": said})

    async def whole(self, place: Place, *, phones: bool) -> dict[str, Any]:
        """One with its bytes and headers. Problem 404 where there is none."""
        where = Where()
        where.add('(letter.partition, letter."offset") = ({}, {})', *place)
        sql = QUERIES["letters"].format(where=where.sql, limit=1)
        rows, contents = await asyncio.gather(
            self._reading.fetch(sql, *where.values), self._reading.fetch(QUERIES["whole"], *place, SHOWN_BYTES)
        )
        if not rows or not contents:
            raise Problem(UNKNOWN_LETTER, f"there is no dead letter {place}")
        (row,), (content,) = rows, contents
        return _summary(row, whole=phones) | {
            "key": _bytes(content["key"], whole=phones),
            "value": _bytes(content["value"], row["size"], whole=phones),
            "headers": [_header(header, whole=phones) for header in content["headers"]],
        }

    async def groups(self, said: Filter) -> list[dict[str, Any]]:
        """All that fit but for `error` itself, by error."""
        where = said.where(error=False)
        rows = await self._reading.fetch(QUERIES["groups"].format(where=where.sql), *where.values)
        return [
            {
                "error": row["reason"],
                "letters": row["letters"],
                "firstSeen": row["first_seen"],
                "lastSeen": row["last_seen"],
                "example": str(Place(row["partition"], row["offset"])),
            }
            for row in rows
        ]

    async def _page(self, said: Letters) -> list[Any]:
        where = said.where()
        if said.cursor is not None:
            where.add('(letter.at, letter.partition, letter."offset") < ({}, {}, {})', *resumed(said.cursor))
        sql = QUERIES["letters"].format(where=where.sql, limit=said.limit + 1)
        return list(await self._reading.fetch(sql, *where.values))


def may_see_phones(caller: Caller) -> bool:
    """A letter's bytes may hold anything; whoever only looks gets them without phone numbers."""
    return bool(caller.roles & {Role.OPERATOR, Role.ADMIN})


def _summary(row: Any, *, whole: bool) -> dict[str, Any]:
    message = row["message"]
    replayed = bool(row["times"])
    return {
        "id": str(Place(row["partition"], row["offset"])),
        "at": row["at"],
        "error": row["reason"],
        "message": message if whole or message is None else masked(message),
        "topic": row["original_topic"],
        "partition": row["original_partition"],
        "offset": row["original_offset"],
        "orderId": row["order_id"],
        "sizeBytes": row["size"],
        "replayOf": row["replay_of"],
        "replayed": {
            "times": row["times"],
            "at": row["replayed_at"],
            "actor": row["actor"],
            "reason": row["because"],
            "failedAgain": row["failed_again"],
        }
        if replayed
        else None,
    }


def _bytes(content: bytes | None, size: int | None = None, *, whole: bool) -> dict[str, Any] | None:
    """As text where it is UTF-8, as far as it is shown; in base64 for those who may see everything."""
    if content is None:
        return None
    try:
        # A cut may go through a character.
        text = codecs.getincrementaldecoder("utf-8")().decode(content, final=size in {None, len(content)})
    except UnicodeDecodeError:
        text = None
    return {
        "sizeBytes": len(content) if size is None else size,
        "shownBytes": len(content),
        "text": text if whole or text is None else masked(text),
        "base64": base64.b64encode(content).decode() if whole else None,
    }


def _header(header: Any, *, whole: bool) -> dict[str, Any]:
    value = header.get("value")
    ours = str(header["name"]).startswith("dead_letter_") and str(value).isdigit()
    return {
        "name": header["name"],
        "value": value if whole or ours or value is None else masked(value),
        "base64": header.get("base64") if whole else None,
    }
