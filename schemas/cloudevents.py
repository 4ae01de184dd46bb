"""CloudEvents 1.0 over Kafka: binary mode out; binary, structured and bare JSON in.

Source: CloudEvents "Kafka Protocol Binding" 1.0.2, sections 3.1-3.3.
"""

import base64
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from schemas.commands import COMMAND_TYPES, PROVIDER_COMMAND_TYPES, Command, ProviderCommand
from schemas.orders import OrderCreated
from schemas.poison import PoisonError, PoisonKind
from schemas.strict_json import DuplicateKeyError, loads

STRUCTURED: Final = "application/cloudevents+json"
_JSON_HEADER: Final = ("content-type", b"application/json")
_SPEC_HEADER: Final = ("ce_specversion", b"1.0")
_ORDER: Final = OrderCreated.__name__
_COMMANDS: Final[dict[str, type[Command | ProviderCommand]]] = {
    kind.__name__: kind for kind in (*COMMAND_TYPES, *PROVIDER_COMMAND_TYPES)
}

Model = TypeVar("Model", bound=BaseModel)
RawHeaders = Iterable[tuple[str, bytes | None]]


@lru_cache(maxsize=16)
def _time(at: datetime) -> bytes:
    """Remembered, because all events of one turn bear the same."""
    return at.isoformat().encode()


def binary_headers(
    event_type: str, event_id: str, source: bytes, at: datetime, traceparent: bytes | None = None
) -> list[tuple[str, bytes]]:
    """The headers of binary mode; the value is the event's JSON."""
    headers = [
        _SPEC_HEADER,
        ("ce_id", event_id.encode()),
        ("ce_type", event_type.encode()),
        ("ce_source", source),
        ("ce_time", _time(at)),
        _JSON_HEADER,
    ]
    if traceparent is not None:
        headers.append(("traceparent", traceparent))
    return headers


def json_value(event: BaseModel) -> bytes:
    """An event's JSON, without the fields that say nothing."""
    return event.__pydantic_serializer__.to_json(event, exclude_none=True)


def decode_order(value: bytes | None, headers: RawHeaders) -> OrderCreated:
    """Read OrderCreated in any of the three modes. PoisonError where it is none."""
    data = _data(value, headers, {_ORDER}, default_type=_ORDER)
    return _validated(OrderCreated, data)


def decode_command(value: bytes | None, headers: RawHeaders) -> Command | ProviderCommand:
    """Read a command, about an order or about a provider, in any of the three modes. PoisonError where it is none."""
    data = _data(value, headers, _COMMANDS.keys(), default_type=None)
    return _validated(_COMMANDS[data["type"]], data)


def _data(value: bytes | None, headers: RawHeaders, types: Collection[str], default_type: str | None) -> dict[str, Any]:
    """The event's data, with its `type`, and `created_at` from the envelope's time where the data has none."""
    if not value:
        raise PoisonError(PoisonKind.NO_VALUE, "the record has no value")
    attributes = {name.lower(): content for name, content in headers if content is not None}
    parsed = _object(value)
    spec: Any
    if "ce_specversion" in attributes:
        spec, kind, time = (_text(attributes.get(name)) for name in ("ce_specversion", "ce_type", "ce_time"))
        data = parsed
    elif _is_structured(attributes, parsed):
        spec, kind, time = (parsed.get(name) for name in ("specversion", "type", "time"))
        data = _structured_data(parsed)
    else:
        spec, kind, time = "1.0", parsed.get("type", default_type), None
        data = parsed
    if spec != "1.0":
        raise PoisonError(PoisonKind.NOT_CLOUDEVENT, f"CloudEvents specversion {spec!r:.40} is not 1.0")
    if not isinstance(kind, str) or kind not in types:
        raise PoisonError(PoisonKind.UNKNOWN_TYPE, f"unknown type {kind!r:.80}: expected {', '.join(sorted(types))}")
    version = data.get("version", 1)
    if version != 1 or isinstance(version, bool):
        raise PoisonError(PoisonKind.UNKNOWN_VERSION, f"unknown version {version!r:.40} of {kind}: expected 1")
    data = {"type": kind, **data}
    if kind == _ORDER and time is not None and not data.keys() & {"created_at", "createdAt"}:
        data["created_at"] = time
    return data


def _object(value: bytes) -> dict[str, Any]:
    try:
        parsed = loads(value)
    except DuplicateKeyError as error:
        raise PoisonError(PoisonKind.DUPLICATE_KEYS, str(error)) from None
    except ValueError as error:
        raise PoisonError(PoisonKind.NOT_JSON, f"the value is not JSON: {error!s:.200}") from None
    if not isinstance(parsed, dict):
        raise PoisonError(PoisonKind.SCHEMA, "the value is not a JSON object")
    return parsed


def _is_structured(attributes: Mapping[str, bytes], parsed: Mapping[str, Any]) -> bool:
    if attributes.get("content-type", b"").lower().startswith(STRUCTURED.encode()):
        return True
    return "specversion" in parsed and ("data" in parsed or "data_base64" in parsed)


def _structured_data(envelope: Mapping[str, Any]) -> dict[str, Any]:
    data = envelope.get("data")
    if "data_base64" in envelope:
        try:
            content = base64.b64decode(str(envelope["data_base64"]), validate=True)
        except ValueError:
            raise PoisonError(PoisonKind.NOT_CLOUDEVENT, "data_base64 is not base64") from None
        data = _object(content)
    if not isinstance(data, dict):
        raise PoisonError(PoisonKind.NOT_CLOUDEVENT, "the CloudEvent has no data object")
    return data


def _text(header: bytes | None) -> str | None:
    return None if header is None else header.decode("utf-8", "replace")


def _validated(model: type[Model], data: dict[str, Any]) -> Model:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise PoisonError(PoisonKind.SCHEMA, validation_message(error)) from None


def validation_message(error: ValidationError) -> str:
    """What is wrong with which field, in a line, without repeating what was sent."""
    faults = error.errors(include_url=False, include_input=False, include_context=False)
    return "; ".join(
        f"{'.'.join(str(part) for part in fault['loc']) or 'the object'}: {fault['msg'].removeprefix('Value error, ')}"
        for fault in faults[:5]
    )
