"""From what was asked to SQL: conditions of fixed words, and parameters for everything that was said. Pure."""

import base64
import binascii
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import blake2s
from typing import Any, Final, NamedTuple

import orjson

from schemas.ids import canonical_uuid
from services.gateway.problem import INVALID_REQUEST, Problem
from services.gateway.reads.phone import Fit, PhonePart, phone_part
from services.gateway.reads.questions import DOUBT, IN_DOUBT, STATUS_OF, Filter, Listing, Sort, floored, raised

_REFERENCE: Final = re.compile(r"(.{36})(?:-r[0-9]{1,4})?", re.ASCII)
_EVER: Final = (datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC))
_LATE: Final = "(updated_at < created_at OR updated_at - created_at > interval '3 hours')"
"""As the index of those orders has it."""
_WIDTHS_S: Final = (86_400, 3600, 60)


@dataclass
class Where:
    """Conditions that must all hold; `{}` stands for a value."""

    conditions: list[str] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)

    def add(self, condition: str, *values: Any) -> None:
        places = [f"${len(self.values) + n}" for n in range(1, len(values) + 1)]
        self.conditions.append(condition.format(*places))
        self.values += values

    def parameter(self, value: Any) -> str:
        self.values.append(value)
        return f"${len(self.values)}"

    @property
    def sql(self) -> str:
        return " AND ".join(self.conditions) or "true"


def phone_of(said: Filter) -> PhonePart | None:
    return None if said.phone is None else phone_part(said.phone)


def add_phone(where: Where, part: PhonePart, *, by_index: bool) -> None:
    """`by_index`: the trigrams lead to the few rows; else rows are met on the way, and none is looked for."""
    if part.whole is not None:
        where.add("phone_number = {}", part.whole)
    else:
        where.conditions.append(f"({' OR '.join(_fit(where, way, by_index=by_index) for way in part.ways)})")


def _fit(where: Where, way: Fit, *, by_index: bool) -> str:
    column, conditions = "phone_number", []
    if way.holds is not None and by_index:
        conditions.append(f"{column} LIKE {where.parameter(f'%{way.holds}%')}")
    elif way.holds is not None:
        # PostgreSQL takes LIKE for rarer than it is, and would read everything to sort the little that it expects.
        conditions.append(f"strpos({column}, {where.parameter(way.holds)}) > 0")
    if way.begins is not None:
        begins = where.parameter(way.begins)
        conditions.append(f"{column} >= {begins} AND starts_with({column}, {begins})")
        if way.beyond is not None:
            conditions.append(f"{column} < {where.parameter(way.beyond)}")
    if way.contains is not None:
        conditions.append(f"strpos({column}, {where.parameter(way.contains)}) > 0")
    return f"({' AND '.join(conditions)})"


def where(said: Filter, *, rare: bool = False, status: bool = True) -> Where:
    """Of fulfillment_logs. `rare`: few phone numbers fit, so that their index is the way in. `status`: heed it."""
    found = Where()
    if said.status is not None and status:
        found.add("status = {}", said.status)
    if said.state == DOUBT:
        found.add("status = 'processing' AND state = ANY ({})", list(IN_DOUBT))
    elif said.state is not None:
        # The status follows from it, and there is an index of those that are few.
        found.add("status = {} AND state = {}", STATUS_OF[said.state], said.state)
    if (part := phone_of(said)) is not None:
        if rare and part.whole is None:
            inner = Where(values=found.values)
            add_phone(inner, part, by_index=True)
            found.conditions.append(f"order_id = ANY (ARRAY(SELECT id FROM orders WHERE {inner.sql}))")  # noqa: S608 - fixed words
        else:
            add_phone(found, part, by_index=False)
    if said.network is not None:
        found.add("network = {}", said.network)
    if said.failure is not None:
        found.add("error_code = {}", said.failure)
    if said.since is not None:
        found.add("created_at >= {}", said.since)
    if said.until is not None:
        found.add("created_at < {}", said.until)
    if said.order_id is not None:
        found.add("order_id = {}", said.order_id)
    if said.reference is not None:
        _add_reference(found, said.reference)
    return found


def by_change(said: Listing) -> bool:
    """Whether it is a period by `updated_at`: no index leads through both."""
    return order(said.sort).columns[0] == "updated_at" and (said.since is not None or said.until is not None)


def soon_and_late(said: Listing, *, rare: bool) -> tuple[Where, Where]:
    """As `where`, in two parts with the same values.

    Most orders change for the last time soon after they were made, so that their period is nearly one of `updated_at`
    too; the others have an index of their own.
    """
    late = where(said.model_copy(update={"since": None, "until": None}), rare=rare)
    soon = Where([*late.conditions, f"{_LATE} IS NOT TRUE"], late.values)
    late.conditions.append(_LATE)
    if said.since is not None:
        late.add("created_at >= {}", said.since)
        soon.add("created_at >= {0} AND updated_at >= {0}", said.since)
    if said.until is not None:
        late.add("created_at < {}", said.until)
        soon.add("created_at < {0} AND updated_at < {0}::timestamptz + interval '3 hours'", said.until)
    return soon, late


def _add_reference(found: Where, reference: str) -> None:
    """Every reference that we gave an order begins with its id; whatever else there is, is the provider's."""
    match = _REFERENCE.fullmatch(reference)
    try:
        order_id = canonical_uuid(match[1]) if match else None
    except ValueError:
        order_id = None
    if order_id is None:
        found.add("transaction_id = {}", reference)
    else:
        found.add("(order_id = {} OR transaction_id = {})", order_id, reference)


def is_one(said: Filter) -> bool:
    """At most a few orders can fit."""
    return said.order_id is not None or said.reference is not None


# --- pages --------------------------------------------------------------------------------------------------------


class Order(NamedTuple):
    columns: tuple[str, ...]
    """The last is `id`, so that no two rows are equal."""
    descending: bool

    @property
    def sql(self) -> str:
        return ", ".join(f"{column} DESC" if self.descending else column for column in self.columns)

    def beyond(self, found: Where, values: Sequence[Any]) -> None:
        places = ", ".join("{}" for _ in values)
        sign = "<" if self.descending else ">"
        found.add(f"({', '.join(self.columns)}) {sign} ({places})", *values)


def order(sort: Sort) -> Order:
    column = sort.value.removeprefix("-")
    columns = (column, "id") if column in {"created_at", "updated_at"} else (column, "created_at", "id")
    return Order(columns, descending=sort.value.startswith("-"))


def cursor(said: Listing, last: Sequence[Any]) -> str:
    """Where the next page begins; good for the same filters and sort alone."""
    values = [value.isoformat() if isinstance(value, datetime) else str(value) for value in last]
    return base64.urlsafe_b64encode(orjson.dumps([_digest(said), *values])).rstrip(b"=").decode()


def resumed(said: Listing) -> list[Any] | None:
    """The values that the page begins after. Problem 400 for a cursor that is not this question's."""
    if said.cursor is None:
        return None
    columns = order(said.sort).columns
    try:
        padded = said.cursor + "=" * (-len(said.cursor) % 4)
        digest, *values = orjson.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        if digest == _digest(said) and len(values) == len(columns):
            return [_value(column, value) for column, value in zip(columns, values, strict=True)]
    except (binascii.Error, ValueError, TypeError, OverflowError):
        pass  # whatever is wrong with it, the answer is the same
    raise Problem(INVALID_REQUEST, "cursor: not one of this question; begin again without it")


def _value(column: str, value: object) -> Any:
    if not isinstance(value, str) or "\0" in value:
        raise TypeError("not text that PostgreSQL takes")
    if column == "id":
        return canonical_uuid(value)
    if column in {"created_at", "updated_at"}:
        return datetime.fromisoformat(value).astimezone(UTC)
    return value


def _digest(said: Listing) -> str:
    question = said.model_dump_json(exclude={"cursor", "limit"})
    return blake2s(question.encode(), digest_size=6).hexdigest()


# --- counting -----------------------------------------------------------------------------------------------------


class Piece(NamedTuple):
    """A stretch of time, in whole tallies of a width, or row by row (0)."""

    width_s: int
    start: datetime
    end: datetime


def pieces(since: datetime | None, until: datetime | None) -> list[Piece]:
    """A period in as few tallies as it can be had, and what is left over at its ends."""
    return list(_cover(since or _EVER[0], until or _EVER[1], _WIDTHS_S))


def _cover(since: datetime, until: datetime, widths_s: Sequence[int]) -> Iterable[Piece]:
    if since >= until:
        return
    if not widths_s:
        yield Piece(0, since, until)
        return
    width_s, *narrower = widths_s
    start, end = raised(since, width_s), floored(until, width_s)
    if start >= end:
        yield from _cover(since, until, narrower)
        return
    yield from _cover(since, start, narrower)
    yield Piece(width_s, start, end)
    yield from _cover(end, until, narrower)
