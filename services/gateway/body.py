"""What a client sends: one JSON object, of a bounded size, within a bounded time, that a model takes."""

import asyncio
from decimal import Decimal
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl

import orjson
from aiohttp import web
from pydantic import BaseModel, ValidationError

from schemas import strict_json
from schemas.cloudevents import validation_message
from schemas.ids import canonical_uuid
from services.gateway.problem import INVALID_REQUEST, TOO_SLOW, WRONG_TYPE, Problem, too_large

MAX_BODY_BYTES: Final = 64 * 1024
FORM: Final = "application/x-www-form-urlencoded"
_READ_TIMEOUT_S: Final = 10.0
_MAX_FIELDS: Final = 20

Model = TypeVar("Model", bound=BaseModel)


async def read(request: web.Request, model: type[Model], max_bytes: int = MAX_BODY_BYTES) -> Model:
    """The body as a model. Problem 400, 408, 413 or 415 otherwise."""
    return parse(await _raw(request, "application/json", max_bytes), model)


async def form(request: web.Request) -> dict[str, str]:
    """The fields of a form without script, each once. Problem 400, 408, 413 or 415 otherwise."""
    raw = await _raw(request, FORM)
    try:
        fields = parse_qsl(raw.decode("ascii"), keep_blank_values=True, max_num_fields=_MAX_FIELDS, errors="strict")
    except ValueError:
        raise Problem(INVALID_REQUEST, "the body is not a form of UTF-8 fields") from None
    if len(dict(fields)) < len(fields):
        raise Problem(INVALID_REQUEST, "a field is given more than once")
    return dict(fields)


async def _raw(request: web.Request, content_type: str, max_bytes: int = MAX_BODY_BYTES) -> bytes:
    if request.content_type != content_type or (request.charset or "utf-8").lower() not in {"utf-8", "utf8"}:
        raise Problem(WRONG_TYPE, f"send the body as UTF-8, with Content-Type: {content_type}")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Problem(WRONG_TYPE, "send the body as it is, without a Content-Encoding")
    if (request.content_length or 0) > max_bytes:
        raise too_large(max_bytes)
    if max_bytes != MAX_BODY_BYTES:
        request = request.clone(client_max_size=max_bytes)
    try:
        async with asyncio.timeout(_READ_TIMEOUT_S):
            return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise too_large(max_bytes) from None
    except TimeoutError:
        raise Problem(TOO_SLOW, f"the body must arrive within {_READ_TIMEOUT_S:.0f} s") from None


def parse(raw: bytes, model: type[Model]) -> Model:
    """Problem 400 that names the field and what to mend."""
    try:
        data = strict_json.loads(raw)
    except strict_json.DuplicateKeyError as error:
        raise Problem(INVALID_REQUEST, str(error)) from None
    except ValueError:
        raise Problem(INVALID_REQUEST, "the body is not JSON") from None
    if not isinstance(data, dict):
        raise Problem(INVALID_REQUEST, "the body must be a JSON object")
    return modelled(data, model)


def modelled(data: object, model: type[Model]) -> Model:
    """Problem 400 that names the field and what to mend."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise Problem(INVALID_REQUEST, validation_message(error)) from None


def order_id(name: str, said: str) -> str:
    """An order's id as a path or a query names it. Problem 400 where it is none."""
    try:
        return canonical_uuid(said)
    except ValueError as error:
        raise Problem(INVALID_REQUEST, f"{name}: {error}") from None


def json_response(content: dict[str, Any], *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    body = orjson.dumps(content, default=plain)
    return web.Response(status=status, body=body, headers=headers, content_type="application/json")


def plain(value: object) -> object:
    """Prices are NUMERIC, ids are a subclass of UUID that orjson does not know."""
    return float(value) if isinstance(value, Decimal) else str(value)
