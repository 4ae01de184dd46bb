"""What a route says of itself: the OpenAPI document is made of these, and a route without one fails a test."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import BaseModel

from schemas.ids import order_id
from services.gateway.problem import Kind


@dataclass(frozen=True, slots=True)
class Header:
    """A request header. `schema` is a JSON Schema with an example, or without where there is none to give."""

    name: str
    about: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that is no error. `content`: a model (JSON), a media type or some, None (no body)."""

    about: str
    content: type[BaseModel] | str | tuple[str, ...] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    """Name → what it says; each is a string."""


@dataclass(frozen=True, slots=True)
class Description:
    """A call in words and models.

    What follows from the route itself is added to the document: 401, 403, 429 and 503 where a key is needed, 400, 408,
    413 and 415 where a body is, 400 where there are parameters, 404 where they are in the path.
    """

    summary: str
    replies: Mapping[int, Reply]
    tag: str
    detail: str = ""
    body: type[BaseModel] | None = None
    """Its `examples` (json_schema_extra) are sent to a real gateway by a test."""
    query: type[BaseModel] | None = None
    """Each field is a parameter, under its alias."""
    path: type[BaseModel] | None = None
    """A field for each {name} of the path."""
    headers: tuple[Header, ...] = ()
    problems: tuple[Kind, ...] = ()
    """Errors of this call's own."""


IDEMPOTENCY_KEY: Final = Header(
    "Idempotency-Key",
    "Names the purchase for 24 h: the same key and body give the same order and answer, however often it is sent.",
    {"type": "string", "pattern": "^[!-~]{1,255}$", "examples": ["order-2026-0001"]},
)
PREFER: Final = Header(
    "Prefer",
    "`wait=N`: answer within N seconds (at most 30), sooner where there is something to say (RFC 7240). Other "
    "preferences are passed over.",
    {"type": "string", "examples": ["wait=5"]},
)
IF_NONE_MATCH: Final = Header(
    "If-None-Match",
    "The ETag of an earlier answer: 304 without a body where nothing changed since (RFC 9110).",
    {"type": "string", "examples": ['"0"']},
)
EXAMPLE_ORDER: Final = order_id("local", IDEMPOTENCY_KEY.schema["examples"][0])
"""What the example of a purchase makes, of a caller without a key: the other examples ask about it."""
