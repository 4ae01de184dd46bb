"""What may be asked about many orders: every parameter with its bounds. A wrong, unknown or repeated one is refused."""

import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Final, Literal, Self, TypeVar

from aiohttp import web
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from schemas.bundle import NETWORKS, canonical_network
from schemas.cloudevents import validation_message
from schemas.orders import Timestamp, Uuid
from services.gateway.problem import INVALID_REQUEST, Problem
from services.gateway.reads.phone import phone_part

MAX_LIMIT: Final = 200
MAX_BUCKETS: Final = 200
_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_SEARCHED: Final = re.compile(r"[ -~]{1,128}", re.ASCII)
_FIRST: Final = datetime(2000, 1, 1, tzinfo=UTC)
_LAST: Final = datetime(3000, 1, 1, tzinfo=UTC)

Status = Literal["pending", "processing", "success", "failed"]
STATUS_OF: Final[dict[str, Status]] = {
    "received": "pending",
    "created": "pending",
    "held": "pending",
    "attempting": "processing",
    "accepted": "processing",
    "unknown": "processing",
    "review": "processing",
    "waiting": "failed",
    "settling": "failed",
    "delivered": "success",
    "failed": "failed",
    "cancelled": "failed",
    "rejected": "failed",
}
"""Of each state; docs/order-life.md."""
DOUBT: Final = "doubt"
IN_DOUBT: Final = ("unknown", "review")
"""The states that DOUBT asks for: whether those were delivered is not known."""

Model = TypeVar("Model", bound=BaseModel)


def _midnight(value: object) -> object:
    """A date alone is its first moment, UTC."""
    return f"{value}T00:00:00Z" if isinstance(value, str) and _DATE.fullmatch(value) else value


def _of_our_time(value: datetime) -> datetime:
    if not _FIRST <= value <= _LAST:
        raise ValueError("not a time between the years 2000 and 3000")
    return value.astimezone(UTC)


def _known_state(value: str) -> str:
    if value not in {*STATUS_OF, DOUBT}:
        raise ValueError(f"not one of {', '.join((*STATUS_OF, DOUBT))}")
    return value


def _typed_phone(value: str) -> str:
    phone_part(value)
    return value


Time = Annotated[Timestamp, AfterValidator(_of_our_time), BeforeValidator(_midnight)]
"""RFC 3339 with a zone, or a date, which is its midnight in UTC."""

_TIME: Final[dict[str, Any]] = {"examples": ["2026-01-31T12:00:00Z"]}


class Asked(BaseModel):
    """A query string."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Period(Asked):
    since: Time | None = Field(
        default=None, alias="from", description="Made at this time or later.", json_schema_extra=_TIME
    )
    until: Time | None = Field(default=None, alias="to", description="Made before this time.", json_schema_extra=_TIME)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.since is not None and self.until is not None and self.since > self.until:
            raise ValueError("from: later than to")
        return self


class Filter(Period):
    """Which orders. Everything that is given must fit."""

    status: Status | None = Field(default=None, description="The seed's word for it.")
    state: Annotated[str, AfterValidator(_known_state)] | None = Field(
        default=None,
        description="Where in its life the order is; `doubt` is `unknown` or `review`: nobody knows if it arrived.",
        json_schema_extra={"enum": [*STATUS_OF, DOUBT]},
    )
    phone: Annotated[str, AfterValidator(_typed_phone)] | None = Field(
        default=None,
        description="Any part of the phone number, in any spelling: 024…, 233…, +233…, or digits from within.",
        max_length=40,
        examples=["0244"],
    )
    network: Annotated[str, AfterValidator(canonical_network)] | None = Field(
        default=None, max_length=40, json_schema_extra={"enum": [*NETWORKS]}
    )
    failure: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")] | None = Field(
        default=None, description="An error_code.", examples=["BUSY"]
    )
    order_id: Uuid | None = Field(default=None, alias="orderId")
    reference: Annotated[str, Field(pattern=r"^[!-~]{1,128}$")] | None = Field(
        default=None, description="What we, or the provider, call the order: its reference or the transaction's id."
    )
    q: Annotated[str, Field(pattern=r"^[ -~]{1,128}$")] | None = Field(
        default=None,
        description="One box for all of it: an order's id, a part of a phone number, or a reference.",
        examples=["0244"],
    )

    @model_validator(mode="before")
    @classmethod
    def _sort_out(cls, value: Any) -> Any:
        """`q` is what it looks like."""
        if not isinstance(value, dict) or not isinstance(value.get("q"), str):
            return value
        if named := {"phone", "orderId", "reference"} & value.keys():
            raise ValueError(f"q: not beside {', '.join(sorted(named))}")
        q = value["q"].strip()
        if not _SEARCHED.fullmatch(q):
            raise ValueError("q: not an order's id, a part of a phone number or a reference")
        meant = "phone" if _is_phone(q) else "reference"
        return {name: said for name, said in value.items() if name != "q"} | {meant: q}


def _is_phone(text: str) -> bool:
    try:
        phone_part(text)
    except ValueError:
        return False
    return True


class Sort(StrEnum):
    """By phone number there is none: its beginning names a network, and a filter by network would skip nearly all."""

    OLDEST = "created_at"
    NEWEST = "-created_at"
    LEAST_RECENT = "updated_at"
    MOST_RECENT = "-updated_at"
    NETWORK = "network"
    NETWORK_DOWN = "-network"


class Listing(Filter):
    sort: Sort = Field(default=Sort.NEWEST, description="The column; a minus before it turns the order round.")
    cursor: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,512}$")] | None = Field(
        default=None, description="`next` of the page before, with the same filters and sort."
    )
    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT)] = 50


class Export(Filter):
    sort: Literal[Sort.OLDEST, Sort.NEWEST] = Field(default=Sort.NEWEST, description="By when the order was made.")


class Streamed(Asked):
    rows: Literal["whole", "brief"] = Field(
        default="whole",
        description="`brief`: of each row `order_id`, `sequence` and `created_at` alone, and events `providers` and "
        "`alerts`, empty, where something of those has changed.",
    )
    since: str | None = Field(
        default=None,
        description="The `id` that something which was looked up before goes with: what has changed since then comes "
        "first. `Last-Event-ID` goes before it.",
    )


class Bucket(StrEnum):
    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"

    @property
    def width_s(self) -> int:
        return {Bucket.MINUTE: 60, Bucket.HOUR: 3600, Bucket.DAY: 86_400}[self]


_USUAL: Final = {Bucket.MINUTE: timedelta(hours=1), Bucket.HOUR: timedelta(days=1), Bucket.DAY: timedelta(days=30)}


class Statistics(Period):
    bucket: Bucket = Field(default=Bucket.HOUR, description="Days are those of UTC.")
    network: Annotated[str, AfterValidator(canonical_network)] | None = Field(
        default=None, max_length=40, json_schema_extra={"enum": [*NETWORKS]}
    )

    def whole(self, now: datetime) -> tuple[datetime, datetime]:
        """The period in whole buckets. Problem 400 where they are too many."""
        until = self.until or now
        since = self.since or max(until - _USUAL[self.bucket], _FIRST)
        width_s = self.bucket.width_s
        start, end = floored(since, width_s), raised(until, width_s)
        if (end - start) / timedelta(seconds=width_s) > MAX_BUCKETS:
            raise Problem(INVALID_REQUEST, f"bucket: at most {MAX_BUCKETS} in one answer; ask for a larger one")
        return start, end


def floored(at: datetime, width_s: int) -> datetime:
    """The start of the bucket that holds `at`."""
    return at - (at - _FIRST) % timedelta(seconds=width_s)


def raised(at: datetime, width_s: int) -> datetime:
    """The start of the first bucket that does not begin before `at`."""
    floor = floored(at, width_s)
    return floor if floor == at else floor + timedelta(seconds=width_s)


def asked(request: web.Request, model: type[Model]) -> Model:
    """The query string as a model. Problem 400 that names the parameter."""
    twice = [name for name, count in Counter(name for name, _ in request.query.items()).items() if count > 1]
    if twice:
        names = {field.alias or name for name, field in model.model_fields.items()}
        which = next((name for name in twice if name in names), "a parameter")
        raise Problem(INVALID_REQUEST, f"{which}: given more than once")
    try:
        return model.model_validate(dict(request.query))
    except ValidationError as error:
        raise Problem(INVALID_REQUEST, validation_message(error).removeprefix("the object: ")) from None
