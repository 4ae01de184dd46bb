"""Orders: the list, one of them with its story, those in review; and acts on them by forms, where no script runs."""

import asyncio
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any, Final, NamedTuple
from uuid import UUID

from aiohttp import web

from schemas.commands import (
    CancelFulfillment,
    Command,
    OverrideFulfillment,
    ResolveFulfillment,
    RetryFulfillment,
    TriggerFulfillment,
)
from services import queries
from services.gateway import body
from services.gateway.access import Caller
from services.gateway.acts import Because
from services.gateway.answers import Verdict
from services.gateway.dashboard import words
from services.gateway.dashboard.rendering import PATH
from services.gateway.dashboard.samples import Samples
from services.gateway.dashboard.site import OPERATORS, TAG, Site, address, filled, may_act, order_path, page_route
from services.gateway.description import Description, Reply
from services.gateway.fulfillment import Fulfillments
from services.gateway.problem import CONFLICT, INVALID_REQUEST, TOO_LARGE, UNKNOWN_ORDER, WRONG_TYPE, Problem
from services.gateway.reads import Reads
from services.gateway.reads.listing import Found
from services.gateway.reads.questions import Listing, Sort, asked
from services.gateway.reads.replies import OneOfPath
from services.gateway.reads.selection import cursor
from services.gateway.reads.timeline import timeline
from services.gateway.routes import ADMIN_PATH, Route

QUERIES: Final = queries.load(__file__)
WHOLE: Final = "phones"
"""The parameter by which an operator sees whole numbers."""
_FAILURES: Final = 100
"""Codes that one may choose from."""
_CARDS: Final = (
    ("", "total"),
    ("success", "success"),
    ("processing", "processing"),
    ("pending", "pending"),
    ("failed", "failed"),
)
_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


class Act(NamedTuple):
    """What the audit log calls it, and the command."""

    name: str
    command: Callable[..., Command]
    explained: bool = True
    """Somebody has to say why."""


ACTS: Final = {
    "retry": Act("retry", RetryFulfillment, explained=False),
    "trigger": Act("trigger", TriggerFulfillment, explained=False),
    "resolve-delivered": Act("resolve", partial(ResolveFulfillment, delivered=True)),
    "resolve-failed": Act("resolve", partial(ResolveFulfillment, delivered=False)),
    "override": Act("override", OverrideFulfillment),
    "cancel": Act("cancel", CancelFulfillment),
}
"""By the name of the offer."""


class OrderPages:
    def __init__(  # noqa: PLR0917 - made in one place
        self,
        site: Site,
        reads: Reads,
        fulfillments: Fulfillments,
        samples: Samples,
        topic_prefix: str,
        bootstrap_servers: str,
    ) -> None:
        self._site = site
        self._samples = samples
        self._reads = reads
        self._fulfillments = fulfillments
        self._topic_prefix = topic_prefix
        self._bootstrap_servers = bootstrap_servers

    def routes(self) -> tuple[Route, ...]:
        return (
            page_route(PATH, self.orders, "Orders"),
            page_route(order_path("{id}"), self.order, "One order", named=OneOfPath, problems=(UNKNOWN_ORDER,)),
            Route("POST", order_path("{id}"), self.act, OPERATORS, _ACT),
            self._samples.route(),
            page_route(f"{PATH}/review", self.review, "Orders that a person decides about"),
        )

    async def orders(self, request: web.Request, caller: Caller) -> web.Response:
        query = filled(request)
        whole = query.pop(WHOLE, "") == "whole"
        fault = ""
        try:
            said = asked(request.clone(rel_url=request.rel_url.with_query(_whole_days(query))), Listing)
        except Problem as problem:
            said, fault = Listing(), problem.detail
        # A part of the page for htmx, all of it for everybody else.
        part = "HX-Request" in request.headers
        stand = "" if part else await self._reads.feed.stand()
        found, doubt = await asyncio.gather(self._reads.listings.found(said), self._doubt())
        counts = {"": found.counts.total, **found.counts.of}
        shown = query | ({WHOLE: "whole"} if whole else {})
        kept = {name: value for name, value in shown.items() if name != "cursor"}
        fitting = _whole_days({name: value for name, value in kept.items() if name not in {"sort", "limit", WHOLE}})
        template = "_list.html" if part else "orders.html"
        return self._site.page(
            template,
            caller,
            "orders",
            stand=stand,
            asked=said,
            typed=query,
            fault=fault,
            failures=() if part else await self._failures(said.failure),
            rows=found.rows,
            complete=found.counts.complete,
            cards=[(name, label, counts[name]) for name, label in _CARDS],
            rate=_rate(found),
            doubt=doubt,
            with_status=lambda status: address({**kept, "status": status, "state": ""}),
            with_state=lambda state: address({**kept, "status": "", "state": state}),
            whole_phones=whole,
            other_phones=address({**shown, WHOLE: "" if whole else "whole"}),
            next=found.next and address({**kept, "cursor": found.next}),
            begins=found.rows and said.sort is Sort.NEWEST and _begins(said, found.rows[0]),
            # Behind the first page nothing is new.
            since=_since(found) if said.sort is Sort.NEWEST and not said.cursor else "",
            filtered=bool(fitting),
            retried={} if fault else fitting,
            export=address(fitting, f"{ADMIN_PATH}/export.csv"),
            samples=() if found.counts.total or query else self._samples.offered(),
            once=self._samples.once(),
        )

    async def order(self, request: web.Request, caller: Caller) -> web.Response:
        order_id = body.order_id("id", request.match_info["id"])
        stand = await self._reads.feed.stand()
        told = await self._reads.timelines.told(order_id)
        if told is None:
            raise Problem(UNKNOWN_ORDER, f"no order {order_id} is known")
        row, rows = told
        events = timeline(rows, self._topic_prefix)
        whole = request.query.get(WHOLE) == "whole" and may_act(caller)
        if not whole:
            events = [words.without_numbers(event, row) for event in events]
        kcat = (
            f"kcat -b {self._bootstrap_servers} -C -t {self._topic_prefix}fulfillment.events -o beginning -e -q "
            f"| grep {order_id}"
        )
        path = order_path(order_id)
        return self._site.page(
            "order.html",
            caller,
            "order",
            stand=stand,
            row=row,
            transaction=row["transaction_id"] if whole else words.without_number(row["transaction_id"], row),
            events=events,
            kcat=kcat,
            whole_phones=whole,
            other_phones=address({WHOLE: "" if whole else "whole"}, path),
        )

    async def review(self, request: web.Request, caller: Caller) -> web.Response:
        query = filled(request)
        said = Listing(state="review", sort=Sort.OLDEST, cursor=query.get("cursor"))
        whole = query.get(WHOLE) == "whole"
        stand = await self._reads.feed.stand()
        found, doubt = await asyncio.gather(self._reads.listings.found(said), self._doubt())
        path = f"{PATH}/review"
        return self._site.page(
            "review.html",
            caller,
            "review",
            stand=stand,
            rows=found.rows,
            doubt=doubt,
            whole_phones=whole,
            other_phones=address({**query, WHOLE: "" if whole else "whole"}, path),
            next=found.next and address({**query, "cursor": found.next}, path),
        )

    async def act(self, request: web.Request, caller: Caller) -> web.Response:
        """A form's. Problem 400, 404, 409 or 503; else the order's page, which shows what became of it."""
        order_id = body.order_id("id", request.match_info["id"])
        said = await body.form(request)
        name = said.get("act", "")
        act = ACTS.get(name)
        if act is None:
            raise Problem(INVALID_REQUEST, f"act: not one of {', '.join(ACTS)}")
        reason = body.modelled({"reason": said.get("reason", "")}, Because).reason if act.explained else "by a form"
        _row, answer = await self._fulfillments.carry_out(
            request,
            caller,
            order_id=order_id,
            act=act.name,
            command=act.command,
            reason=reason,
            refused=lambda row: words.refused(name, row),
        )
        if answer.verdict is Verdict.REFUSED:
            raise Problem(CONFLICT, answer.why)
        return web.Response(status=303, headers={"Location": order_path(order_id)})

    async def _failures(self, asked_for: str | None) -> list[str]:
        """Codes of failures that orders have, and the one that is looked for whether or not one has it."""
        rows = await self._reads.reading.fetch(QUERIES["failures"], _FAILURES)
        return sorted({*(code for (code,) in rows), *([asked_for] if asked_for else ())})

    async def _doubt(self) -> Any:
        (doubt,) = await self._reads.reading.fetch(QUERIES["open"])
        return doubt


def _whole_days(query: dict[str, str]) -> dict[str, str]:
    """Whoever names the last day means all of it; the API takes moments."""
    until = query.get("to", "")
    if not _DAY.fullmatch(until):
        return query
    try:
        return query | {"to": (date.fromisoformat(until) + timedelta(days=1)).isoformat()}
    except (ValueError, OverflowError):
        return query  # refused by name, as anything else that is no day


def _begins(said: Listing, first: Any) -> str:
    """The cursor of the page that begins with this row, whatever comes before it meanwhile."""
    return said.cursor or cursor(said, (first["created_at"], UUID(int=2**128 - 1)))


def _since(found: Found) -> str:
    """What was made since then belongs on a first page."""
    return words.iso(found.rows[-1]["created_at"] if found.next else datetime.min.replace(tzinfo=UTC))


def _rate(found: Found) -> str:
    total = found.counts.total
    return f"{100 * found.counts.of['success'] / total:.1f} %" if total else "none"


_ACT: Final = Description(
    "Act on an order by a form",
    {303: Reply("The order's page, which shows what became of it.", headers={"Location": "The page."})},
    TAG,
    "`act`, `reason` and `csrf` as fields of a form, for browsers that run no script.",
    path=OneOfPath,
    problems=(INVALID_REQUEST, UNKNOWN_ORDER, CONFLICT, TOO_LARGE, WRONG_TYPE),
)
