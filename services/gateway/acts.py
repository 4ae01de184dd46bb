"""What operators do about one order beyond a retry: resolve, override, cancel."""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Final, Literal

from aiohttp import web
from pydantic import BaseModel, ConfigDict, StringConstraints

from schemas.commands import CancelFulfillment, Command, OverrideFulfillment, ResolveFulfillment
from services.gateway import answers, body
from services.gateway.access import Caller
from services.gateway.answers import Row, Verdict
from services.gateway.description import EXAMPLE_ORDER, PREFER, Description, Reply
from services.gateway.fulfillment import Fulfillments
from services.gateway.problem import CONFLICT, UNKNOWN_ORDER, Problem
from services.gateway.reads.replies import OneOfPath
from services.gateway.replies import OnItsWay

_TAG: Final = "Orders"
_DONE: Final = {
    "resolve": "The order is resolved",
    "override": "The order is attempted under a new reference",
    "cancel": "The order is cancelled",
}

Reason = Annotated[str, StringConstraints(strip_whitespace=True, min_length=3, max_length=1000, pattern=r"^[^\x00]*$")]
"""Whoever looks at the order later has to understand it."""


class Because(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, json_schema_extra={"examples": [{"reason": "ticket 4711"}]})

    reason: Reason


class Resolution(BaseModel):
    model_config = ConfigDict(
        strict=True,
        frozen=True,
        json_schema_extra={
            "examples": [{"delivered": True, "reason": "the provider's support confirmed it, ticket 4711"}]
        },
    )

    delivered: bool
    reason: Reason


class Acted(BaseModel):
    """The fulfiller has acted on it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "success": True,
                    "message": _DONE["cancel"],
                    "fulfillment": {"orderId": EXAMPLE_ORDER, "status": "failed"},
                }
            ]
        }
    )

    success: Literal[True]
    message: str
    fulfillment: dict[str, Any]


class Acts:
    def __init__(self, fulfillments: Fulfillments) -> None:
        self._fulfillments = fulfillments

    async def resolve(self, request: web.Request, caller: Caller) -> web.Response:
        """The provider is asked once more before a person's word counts."""
        order_id, said = body.order_id("id", request.match_info["id"]), await body.read(request, Resolution)
        command = partial(ResolveFulfillment, delivered=said.delivered)
        return await self._act(request, caller, order_id, "resolve", command, said.reason, answers.before_resolve)

    async def override(self, request: web.Request, caller: Caller) -> web.Response:
        order_id, said = body.order_id("id", request.match_info["id"]), await body.read(request, Because)
        return await self._act(
            request, caller, order_id, "override", OverrideFulfillment, said.reason, answers.before_override
        )

    async def cancel(self, request: web.Request, caller: Caller) -> web.Response:
        order_id, said = body.order_id("id", request.match_info["id"]), await body.read(request, Because)
        return await self._act(
            request, caller, order_id, "cancel", CancelFulfillment, said.reason, answers.before_cancel
        )

    async def _act(  # noqa: PLR0917 - called here alone
        self,
        request: web.Request,
        caller: Caller,
        order_id: str,
        act: str,
        command: Callable[..., Command],
        reason: str,
        refused: Callable[[Row], str],
    ) -> web.Response:
        row, answer = await self._fulfillments.carry_out(
            request, caller, order_id=order_id, act=act, command=command, reason=reason, refused=refused
        )
        if answer.verdict is Verdict.REFUSED:
            raise Problem(CONFLICT, answer.why, members={"message": answer.why})
        done = answer.verdict is Verdict.DONE
        content = {
            "success": True,
            "message": _DONE[act] if done else "The command is accepted; what becomes of it shows in the order",
            "fulfillment": {"orderId": order_id, "status": row["status"]},
        }
        return body.json_response(content, status=200 if done else 202)


def _described(summary: str, detail: str, content: type[BaseModel]) -> Description:
    replies = {200: Reply("It is done.", Acted), 202: Reply("It is accepted, and not answered yet.", OnItsWay)}
    problems = (UNKNOWN_ORDER, CONFLICT)
    return Description(
        summary, replies, _TAG, detail, body=content, path=OneOfPath, headers=(PREFER,), problems=problems
    )


RESOLVE: Final = _described(
    "Settle an order in review",
    "A person has the provider's word. The provider is asked once more first; where it knows better, that counts.",
    Resolution,
)
OVERRIDE: Final = _described(
    "Attempt a failed order under a new reference",
    "After a confirmed failure with no attempt left. Every earlier reference is asked about before anything is sent.",
    Because,
)
CANCEL: Final = _described("Cancel an order", "Before its first attempt.", Because)
