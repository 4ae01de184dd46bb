"""What is put on the wire, honest and otherwise."""

import asyncio
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from email.utils import formatdate

import orjson
from aiohttp import web

from services.at_ishare_contract import BalanceReply, Code, Reply, Status
from services.sandbox.faults import Answer, Fault

HTTP_STATUS: dict[str, int] = {
    Code.OK: 200,
    Code.INVALID_MSISDN: 422,
    Code.NO_SUCH_SUBSCRIBER: 422,
    Code.NOT_ELIGIBLE: 422,
    Code.UNKNOWN_BUNDLE: 422,
    Code.BARRED: 422,
    Code.RATE_LIMITED: 429,
    Code.BUSY: 503,
    Code.TRY_AGAIN: 503,
    Code.INSUFFICIENT_BALANCE: 402,
    Code.BAD_CREDENTIALS: 401,
    Code.ACCOUNT_SUSPENDED: 403,
    Code.DUPLICATE_REFERENCE: 409,
    Code.NOT_FOUND: 404,
    Code.INTERNAL: 500,
}

MESSAGES: dict[str, str] = {
    Code.OK: "Delivered",
    Code.INVALID_MSISDN: "The number is not a subscriber's number",
    Code.NO_SUCH_SUBSCRIBER: "No subscriber has this number",
    Code.NOT_ELIGIBLE: "The subscriber is not eligible for this bundle",
    Code.UNKNOWN_BUNDLE: "There is no such bundle",
    Code.BARRED: "The number is barred",
    Code.RATE_LIMITED: "Too many requests",
    Code.BUSY: "The network is busy",
    Code.TRY_AGAIN: "Try again later",
    Code.INSUFFICIENT_BALANCE: "The dealer's balance does not suffice",
    Code.BAD_CREDENTIALS: "Key, signature or timestamp refused",
    Code.ACCOUNT_SUSPENDED: "The account is suspended",
    Code.DUPLICATE_REFERENCE: "The reference was used for another purchase",
    Code.NOT_FOUND: "No purchase has this reference",
    Code.INTERNAL: "Internal error",
}

_LINGER_0 = struct.pack("ii", 1, 0)
"""SO_LINGER on, 0 s: closing sends RST."""


def json(reply: Reply | BalanceReply, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(body=orjson.dumps(reply), status=status, headers=headers, content_type="application/json")


def refused(
    code: str, reference: str | None, *, http_status: int | None = None, transaction_id: str | None = None
) -> web.Response:
    reply = Reply(Status.FAILED, code, _message(code), reference, transaction_id)
    return json(reply, http_status or HTTP_STATUS.get(code, 422))


def rate_limited(reference: str | None, retry_after: str) -> web.Response:
    if retry_after.startswith("+"):
        retry_after = formatdate(time.time() + float(retry_after), usegmt=True)
    reply = Reply(Status.FAILED, Code.RATE_LIMITED, MESSAGES[Code.RATE_LIMITED], reference)
    return json(reply, 429, {"Retry-After": retry_after})


def state(reference: str, status: Status, code: str, transaction_id: str | None, *, duplicate: bool = False) -> Reply:
    message = "Queued" if status is Status.PROCESSING else _message(code)
    return Reply(status, code, message, reference, transaction_id, duplicate)


def _html(_: Reply, __: Fault) -> web.Response:
    return web.Response(text="<html><body><h1>Be right back</h1></body></html>", content_type="text/html")


def garbage() -> web.Response:
    return web.Response(body=b'{"status": "succ\xff\xfe\x00', content_type="application/json")


def _huge(reply: Reply, _: Fault) -> web.Response:
    """Valid, but for its 128 KiB."""
    padded = {**asdict(reply), "padding": "x" * 128 * 1024}
    return web.Response(body=orjson.dumps(padded), content_type="application/json")


def _honest(reply: Reply, fault: Fault) -> web.Response:
    return json(reply, fault.http_status or HTTP_STATUS.get(reply.code, 422))


STRANGE: dict[Answer, Callable[[Reply, Fault], web.Response]] = {
    Answer.HONEST: _honest,
    Answer.INTERNAL: lambda reply, _: refused(Code.INTERNAL, reply.reference),
    Answer.RATE_LIMITED: lambda reply, fault: rate_limited(reply.reference, fault.retry_after or "1"),
    Answer.EMPTY: lambda _, __: web.Response(content_type="application/json"),
    Answer.HTML: _html,
    Answer.GARBAGE: lambda _, __: garbage(),
    Answer.HUGE: _huge,
    Answer.REDIRECT: lambda _, __: web.Response(status=307, headers={"Location": "/v1/elsewhere"}),
    Answer.WRONG_REFERENCE: lambda reply, _: json(replace(reply, reference="somebody-else's")),
    Answer.NO_TRANSACTION_ID: lambda reply, _: json(replace(reply, transaction_id=None)),
    Answer.DUPLICATE: lambda reply, _: json(replace(reply, duplicate=True)),
    Answer.DUPLICATE_REFERENCE: lambda reply, _: refused(Code.DUPLICATE_REFERENCE, reply.reference),
}
"""All but RESET, which `reset` puts on the wire itself."""


async def reset(request: web.BaseRequest, reply: Reply) -> web.StreamResponse:
    """Half of the reply, then RST."""
    body = orjson.dumps(reply)
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": str(len(body))})
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    transport = request.transport
    if transport is not None:
        while transport.get_write_buffer_size():  # noqa: ASYNC110 - a transport has no event for it
            await asyncio.sleep(0)
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)
        transport.abort()
    return response


def _message(code: str) -> str:
    return MESSAGES.get(code, "An error without a name")
