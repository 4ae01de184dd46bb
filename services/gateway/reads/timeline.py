"""GET /api/orders/{id}/events: everything that happened to an order, each with its place in the log."""

import json
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import orjson
from aiohttp import web

from schemas.topics import FULFILLMENT_DEAD_LETTER, FULFILLMENT_EVENTS
from services.gateway import body
from services.gateway.access import Caller, Role
from services.gateway.problem import INVALID_REQUEST, UNKNOWN_ORDER, Problem
from services.gateway.reads.listing import answered
from services.gateway.reads.reading import QUERIES, Reading

_FOR_OPERATORS: Final = frozenset({"api_response", "command"})
"""The provider's own words, and who did what: nothing for customers."""

Event = dict[str, Any]


class Told(NamedTuple):
    """An order's row, and what its timeline is made of."""

    row: Any
    rows: list[Any]


class Timelines:
    def __init__(self, reading: Reading, topic_prefix: str) -> None:
        self._reading = reading
        self._prefix = topic_prefix

    async def events(self, request: web.Request, caller: Caller) -> web.Response:
        order_id = body.order_id("id", request.match_info["id"])
        if request.query:
            raise Problem(INVALID_REQUEST, "this call takes no parameters")
        told = await self.told(order_id)
        if told is None or not caller.may_see(told.row["account"]):
            raise Problem(UNKNOWN_ORDER, f"no order {order_id} is known")
        hidden = _FOR_OPERATORS if caller.roles <= {Role.PURCHASER} else frozenset()
        return answered(
            request, {"success": True, "orderId": order_id, "events": timeline(told.rows, self._prefix, hidden)}
        )

    async def told(self, order_id: str) -> Told | None:
        """None where the order is not known."""
        rows = await self._reading.fetch(QUERIES["row"], order_id)
        return Told(rows[0], await self._reading.fetch(QUERIES["timeline"], order_id)) if rows else None


def timeline(rows: Iterable[Any], prefix: str, hidden: frozenset[str] = frozenset()) -> list[Event]:
    """In the order of the log; an OrderCreated before the event that answers it. Pure."""
    told: list[Event] = []
    apart: list[Event] = []
    for row in rows:
        place = {"partition": row["partition"], "offset": row["offset"]}
        match row["kind"]:
            case "event":
                told.append({"topic": prefix + FULFILLMENT_EVENTS, **place} | _said(row["value"], hidden))
            case "dead_letter":
                said = {"type": "DeadLetter", "at": row["at"], "why": row["why"]}
                apart.append({"topic": prefix + FULFILLMENT_DEAD_LETTER, **place} | said)
            case _:
                said = {"type": "Quarantined", "at": row["at"], "why": row["why"]}
                apart.append({"topic": prefix + FULFILLMENT_EVENTS, **place} | said)
    told.sort(key=lambda event: event["sequence"])
    return [*_order(told, prefix), *told, *sorted(apart, key=lambda event: event["at"])]


def _said(value: bytes, hidden: frozenset[str]) -> Event:
    try:
        event = orjson.loads(value)
    except orjson.JSONDecodeError:
        event = json.loads(value)  # what orjson is too strict for, and pydantic was not: NaN in a provider's answer
    return {name: said for name, said in event.items() if name not in hidden}


def _order(told: list[Event], prefix: str) -> Iterable[Event]:
    """The record that the order came with; its first event names it."""
    if told and (cause := told[0].get("cause")):
        yield {
            "topic": prefix + cause["topic"],
            "partition": cause["partition"],
            "offset": cause["offset"],
            "type": "OrderCreated",
            "at": told[0]["order_created_at"],
        }
