"""POST and GET /api/orders/fulfillment: trigger, retry, status."""

import asyncio
import uuid
from collections.abc import Callable
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import structlog
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from schemas.cloudevents import binary_headers, json_value
from schemas.commands import Command, RetryFulfillment, TriggerFulfillment
from schemas.fulfillment import CommandRejected, read_event
from schemas.orders import Uuid
from schemas.topics import FULFILLMENT_COMMANDS
from services.gateway import answers, body, preferences
from services.gateway.access import Caller
from services.gateway.address import Addresses
from services.gateway.answers import Action, Answer, Row, Verdict
from services.gateway.audit import Audit, By
from services.gateway.changes import Changes, Watch
from services.gateway.database import Database, DatabaseAwayError
from services.gateway.description import EXAMPLE_ORDER
from services.gateway.problem import CONFLICT, DELIVERY_FAILED, INVALID_REQUEST, UNKNOWN_ORDER, Problem, unavailable
from services.gateway.purchase import SOURCE, not_written
from services.gateway.writer import NotWrittenError, Writer

DEFAULT_WAIT_S: Final = 5
"""For what became of a command, where the client does not say."""
APPEAR_WAIT_S: Final = 1.0
"""For an order that was accepted a moment ago, and is not in the view yet."""

_READ_TIMEOUT_S: Final = 2.0
_COMMANDS: Final[dict[Action, Callable[..., Command]]] = {
    Action.TRIGGER: TriggerFulfillment,
    Action.RETRY: RetryFulfillment,
}
_LOGGED: Final[dict[str, str]] = {
    Action.TRIGGER: "[FULFILLMENT] Triggering fulfillment for {network} order {order_id}",
    Action.RETRY: "[FULFILLMENT] Retrying fulfillment for {network} order {order_id}",
}
log = structlog.get_logger()


class Act(BaseModel):
    """The body of a trigger or a retry."""

    model_config = ConfigDict(
        strict=True,
        frozen=True,
        json_schema_extra={"examples": [{"action": action, "orderId": EXAMPLE_ORDER} for action in Action]},
    )

    action: Annotated[Action, Field(strict=False)]
    order_id: Uuid = Field(alias="orderId")
    reason: Annotated[str, Field(max_length=1000, pattern=r"^[^\x00]*$")] = ""


class Fulfillments:
    def __init__(
        self,
        database: Database,
        writer: Writer,
        changes: Changes,
        audit: Audit,
        addresses: Addresses,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._writer = writer
        self._changes = changes
        self._audit = audit
        self._addresses = addresses
        self._now = now

    async def act(self, request: web.Request, caller: Caller) -> web.Response:
        said = await body.read(request, Act)
        wait_s = preferences.wait_s(request.headers.getall("Prefer", ()))
        with self._changes.watch(said.order_id) as watch, _away_is_503():
            row = await self._row(said.order_id, caller, watch)
            answer = answers.before_command(said.action, row)
            if answer.verdict is Verdict.SEND:
                row, answer = await self._ask(
                    request, caller, row, watch, said.action, _COMMANDS[said.action], said.reason, answers.after_command
                )
            elif answer.verdict is Verdict.RUNNING and wait_s:
                row, answer = await self._await(row, watch, _from_now(wait_s), answers.on_its_way)
        return _answered(answer, row)

    async def status(self, request: web.Request, caller: Caller) -> web.Response:
        order_id = _order_id(request)
        wait_s = preferences.wait_s(request.headers.getall("Prefer", ())) or 0
        had = request.headers.get("If-None-Match")
        until_s = _from_now(wait_s)
        with self._changes.watch(order_id) as watch, _away_is_503():
            row = await self._row(order_id, caller, watch, max(until_s, _from_now(APPEAR_WAIT_S)))
            if wait_s and (had is not None or row["state"] not in answers.FINAL_STATES):
                seen = answers.etag(row) if had is None else had
                while preferences.matches(answers.etag(row), seen) and await watch.change(until_s):
                    row = await self._row(order_id, caller, watch)
        headers = {"ETag": answers.etag(row)}
        if wait_s:
            headers["Preference-Applied"] = f"wait={wait_s}"
        if preferences.matches(answers.etag(row), had):
            return web.Response(status=304, headers=headers)
        return body.json_response({"success": True, "fulfillment": row}, headers=headers)

    async def _row(self, order_id: str, caller: Caller, watch: Watch, until_s: float | None = None) -> Row:
        """The order's row, waited for a little. Problem 404 where there is none.

        So for one that the caller may not see, and as late: how long the answer takes says nothing either.
        """
        until_s = _from_now(APPEAR_WAIT_S) if until_s is None else until_s
        while (row := await self._read(order_id)) is None or not caller.may_see(row["account"]):
            if not await watch.change(until_s):
                raise Problem(UNKNOWN_ORDER, f"no order {order_id} is known")
        return row

    async def _read(self, order_id: str) -> Row | None:
        row = await self._database.fetchrow("fulfillment", order_id, timeout_s=_READ_TIMEOUT_S)
        return None if row is None else dict(row)

    async def carry_out(
        self,
        request: web.Request,
        caller: Caller,
        *,
        order_id: str,
        act: str,
        command: Callable[..., Command],
        reason: str,
        refused: Callable[[Row], str],
    ) -> tuple[Row, Answer]:
        """Send a command about an order, unless it is `refused` (why, or nothing), and wait a little for its answer.

        Problem 404, 409 or 503.
        """
        with self._changes.watch(order_id) as watch, _away_is_503():
            row = await self._row(order_id, caller, watch)
            if why := refused(row):
                raise Problem(CONFLICT, why, members={"message": why})
            return await self._ask(request, caller, row, watch, act, command, reason, answers.after_act)

    async def _ask(  # noqa: PLR0917 - of the two acts above
        self,
        request: web.Request,
        caller: Caller,
        row: Row,
        watch: Watch,
        act: str,
        command: Callable[..., Command],
        reason: str,
        judge: Callable[[Row, str], Answer],
    ) -> tuple[Row, Answer]:
        """Note who asks for it, send the command, and wait as long as the client likes for what `judge` makes of it."""
        wait_s = preferences.wait_s(request.headers.getall("Prefer", ()))
        by = By(caller.actor, self._addresses.of(request))
        await self._audit.note(by, act, str(row["order_id"]), {"reason": reason} if reason else None)
        command_id = await self._send(command, act, row, caller, reason)
        until_s = _from_now(DEFAULT_WAIT_S if wait_s is None else wait_s)
        return await self._await(row, watch, until_s, lambda changed: judge(changed, command_id), command_id)

    async def _send(self, make: Callable[..., Command], act: str, row: Row, caller: Caller, reason: str) -> str:
        """The command's id, once Kafka has it."""
        command_id, order_id = str(uuid.uuid4()), str(row["order_id"])
        command = make(
            command_id=command_id,
            order_id=order_id,
            actor=caller.actor,
            reason=reason,
            at=self._now(),
            # Of two who act on what they both saw, the second is told what happened meanwhile.
            expected_sequence=None if row["quarantined"] else row["sequence"] or None,
        )
        said = _LOGGED.get(act, "[FULFILLMENT] {act} of {network} order {order_id}")
        log.info(said.format(act=act, network=row["network"], order_id=order_id), actor=caller.actor)
        headers = binary_headers(command.type, command_id, SOURCE, command.at)
        try:
            await self._writer.append(FULFILLMENT_COMMANDS, order_id, json_value(command), headers)
        except NotWrittenError as error:
            raise not_written(error, f"the {act}") from error
        return command_id

    async def _read_after(self, order_id: str, command_id: str) -> Row | None:
        """The row, with what became of a command also where another one's answer came after."""
        row = await self._read(order_id)
        if row is None or str(row["command_id"]) == command_id:
            return row
        records = await self._database.fetch("followed", order_id, command_id, timeout_s=_READ_TIMEOUT_S)
        events = [read_event(value) for (value,) in records]
        ours = [event for event in events if event.command and event.command.command_id == command_id]
        if not ours:
            return row
        why = next((event.why for event in ours if isinstance(event, CommandRejected)), None)
        return {**row, "command_id": command_id, "command_rejected": why}

    async def _await(
        self,
        row: Row,
        watch: Watch,
        until_s: float,
        judge: Callable[[Row], Answer],
        command_id: str | None = None,
    ) -> tuple[Row, Answer]:
        """The row and its answer once that is more than RUNNING, or the time is up, or nobody can be asked."""
        answer = Answer(Verdict.RUNNING)
        while answer.verdict is Verdict.RUNNING and await watch.change(until_s):
            try:
                order_id = str(row["order_id"])
                changed = await (self._read_after(order_id, command_id) if command_id else self._read(order_id))
            except DatabaseAwayError:
                continue  # when it is back, everybody looks again
            if changed is not None:
                row, answer = changed, judge(changed)
        return row, answer


@contextmanager
def _away_is_503() -> Any:
    try:
        yield
    except DatabaseAwayError as error:
        raise unavailable("orders cannot be looked up now: the database is away", retry_after_s=2) from error


def _from_now(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


def _order_id(request: web.Request) -> str:
    values = request.query.getall("orderId", [])
    if len(values) != 1:
        raise Problem(INVALID_REQUEST, "orderId: name one order, as ?orderId=<id>")
    return body.order_id("orderId", values[0])


def _answered(answer: Answer, row: Row) -> web.Response:
    order_id = str(row["order_id"])
    match answer.verdict:
        case Verdict.DELIVERED:
            fulfillment = {"orderId": order_id, "status": "success", "reference": row["reference"]}
            return body.json_response(
                {"success": True, "message": "The bundle is delivered", "fulfillment": fulfillment}
            )
        case Verdict.FAILED:
            message = row["error_message"] or "The bundle was not delivered"
            members = {"message": message, "errorCode": row["error_code"], "willRetry": answers.will_retry(row)}
            raise Problem(DELIVERY_FAILED, message, members=members)
        case Verdict.REFUSED:
            raise Problem(CONFLICT, answer.why, members={"message": answer.why})
        case _:
            fulfillment = {"orderId": order_id, "status": row["status"]}
            return body.json_response(
                {"success": True, "message": "The order is on its way", "fulfillment": fulfillment}, status=202
            )
