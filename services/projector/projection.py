"""From events to rows: what every order looks like after each of its events. Pure: no clock, no I/O.

A row is a fold of the order's events alone; what OrderCreated and dead letters say counts only while there are none.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final, NamedTuple

from schemas.fulfillment import (
    Act,
    AttemptVoided,
    CommandRejected,
    FulfillmentAccepted,
    FulfillmentAttempted,
    FulfillmentCancelled,
    FulfillmentEvent,
    FulfillmentFailed,
    FulfillmentRequested,
    FulfillmentResolved,
    FulfillmentSucceeded,
    FulfillmentUncertain,
    Next,
    ReviewRequested,
    StatusChecked,
)
from schemas.orders import OrderCreated
from schemas.poison import PoisonKind
from schemas.strict_json import dumps


class State(StrEnum):
    """Where an order stands; docs/order-life.md."""

    RECEIVED = "received"
    CREATED = "created"
    HELD = "held"
    ATTEMPTING = "attempting"
    ACCEPTED = "accepted"
    UNKNOWN = "unknown"
    REVIEW = "review"
    WAITING = "waiting"
    SETTLING = "settling"
    DELIVERED = "delivered"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REJECTED = "rejected"


STATUS: Final = {
    State.RECEIVED: "pending",
    State.CREATED: "pending",
    State.HELD: "pending",
    State.ATTEMPTING: "processing",
    State.ACCEPTED: "processing",
    State.UNKNOWN: "processing",
    State.REVIEW: "processing",
    State.WAITING: "failed",
    State.SETTLING: "failed",
    State.DELIVERED: "success",
    State.FAILED: "failed",
    State.CANCELLED: "failed",
    State.REJECTED: "failed",
}
_RETRIED: Final = frozenset({State.WAITING, State.SETTLING})


class Row(NamedTuple):
    """A row of fulfillment_logs, and what of `orders` is not in it already; in the order of the queries' parameters."""

    order_id: str
    network: str
    phone_number: str
    size_mb: int
    price: Decimal | None
    package_id: str | None
    account: str | None
    created_at: datetime
    updated_at: datetime
    max_attempts: int
    status: str
    state: str
    sequence: int
    attempt_number: int = 0
    provider: str | None = None
    reference: str | None = None
    trigger: str | None = None
    transaction_id: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    api_response: str | None = None
    """JSON."""
    retry_after: datetime | None = None
    fulfilled_at: datetime | None = None
    next_act: str | None = None
    next_at: datetime | None = None
    schedule_id: int | None = None
    command_id: str | None = None
    command_rejected: str | None = None
    quarantined: bool = False


class Place(NamedTuple):
    """Where in the log a record stands, when the broker took it (Unix time in ms), and its value."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    value: bytes = b""

    @property
    def at(self) -> datetime:
        return datetime.fromtimestamp(self.timestamp_ms / 1000, UTC)


class Quarantined(NamedTuple):
    """A record of fulfillment.events that cannot be applied; in the order of the query's parameters."""

    topic: str
    partition: int
    offset: int
    order_id: str | None
    sequence_expected: int | None
    sequence_seen: int | None
    why: str
    at: datetime


class Folded(NamedTuple):
    """Rows that changed, by order, and the records that could not be applied."""

    rows: dict[str, Row]
    quarantined: list[Quarantined]


def fold(rows: Mapping[str, Row], events: Iterable[tuple[FulfillmentEvent, Place]]) -> Folded:
    """Apply events in the order of the log; an order without a row has had none yet.

    An order whose sequence repeats or skips a number is left as it was, is marked, and takes nothing further.
    """
    changed: dict[str, Row] = {}
    quarantined: list[Quarantined] = []
    for event, place in events:
        order_id = event.order_id
        row = changed.get(order_id) or rows.get(order_id)
        why = _objection(row, event)
        if why is None:
            changed[order_id] = evolve(row, event)
        else:
            expected = (row.sequence if row else 0) + 1
            quarantined.append(Quarantined(*place[:3], order_id, expected, event.sequence, why, place.at))
            if row is not None:
                changed[order_id] = row._replace(quarantined=True)
    return Folded(changed, quarantined)


def _objection(row: Row | None, event: FulfillmentEvent) -> str | None:
    """Why an event cannot be the order's next."""
    if row is not None and row.quarantined:
        return "the order was quarantined before"
    last = row.sequence if row else 0
    if event.sequence <= last:
        return f"a repetition: event {last} was applied already"
    if event.sequence > last + 1:
        return f"a gap: event {last + 1} is missing"
    if isinstance(event, FulfillmentRequested) != (last == 0):
        return f"{event.type} cannot be event {event.sequence} of an order"
    return None


def evolve(row: Row | None, event: FulfillmentEvent) -> Row:
    """Fold an order's next event into its row."""
    if row is None or isinstance(event, FulfillmentRequested):
        if not isinstance(event, FulfillmentRequested):
            raise ValueError(f"{event.type} cannot be an order's first event")  # unreachable behind `fold`
        return _requested(event)
    changes = _CHANGES[type(event)](row, event)
    changes["sequence"] = event.sequence
    changes["updated_at"] = event.at
    if event.command:
        changes["command_id"] = event.command.command_id
        changes["command_rejected"] = event.why if isinstance(event, CommandRejected) else None
    return row._replace(**changes)


def received(created: OrderCreated, max_attempts: int) -> Row:
    """The row of an order that the fulfiller has not answered yet."""
    return Row(
        order_id=created.order_id,
        network=created.network,
        phone_number=created.phone_number,
        size_mb=created.size_mb,
        price=created.price,
        package_id=created.package_id,
        account=created.account,
        created_at=created.created_at,
        updated_at=created.created_at,
        max_attempts=max_attempts,
        status=STATUS[State.RECEIVED],
        state=State.RECEIVED,
        sequence=0,
    )


def ends_orders(reason: str) -> bool:
    """Whether such a dead letter ends the order that it names, as long as the fulfiller has said nothing else about it.

    A conflict is a dead letter about an order that exists, whose own answer is on its way.
    """
    return reason != PoisonKind.CONFLICT


def rejected(row: Row, reason: str, message: str | None, at: datetime) -> Row:
    """The row of an order whose OrderCreated is a dead letter."""
    return row._replace(
        status=STATUS[State.REJECTED],
        state=State.REJECTED,
        error_code=reason,
        error_message=f"The order was refused: {message}" if message else "The order was refused",
        updated_at=at,
    )


def _requested(event: FulfillmentRequested) -> Row:
    state = State.CREATED if event.provider else State.HELD
    return Row(
        order_id=event.order_id,
        network=event.network,
        phone_number=event.phone_number,
        size_mb=event.size_mb,
        price=None if event.price is None else Decimal(event.price),
        package_id=event.package_id,
        account=event.account,
        created_at=event.order_created_at,
        updated_at=event.at,
        max_attempts=event.max_attempts,
        status=STATUS[state],
        state=state,
        sequence=event.sequence,
        provider=event.provider,
        error_message=None if event.provider else f"No provider serves {event.network} yet",
        next_act=event.next.act if event.next else None,
        next_at=event.next.at if event.next else None,
        schedule_id=event.next.schedule_id if event.next else None,
        command_id=event.command.command_id if event.command else None,
    )


def _enters(state: State, plan: Next | None) -> dict[str, Any]:
    return {"state": state, "status": STATUS[state]} | _plans(state, plan)


def _plans(state: str, plan: Next | None) -> dict[str, Any]:
    return {
        "next_act": plan.act if plan else None,
        "next_at": plan.at if plan else None,
        "schedule_id": plan.schedule_id if plan else None,
        "retry_after": plan.at if plan and state in _RETRIED else None,
    }


def _says(row: Row, event: Any) -> dict[str, Any]:
    """What an answer of the provider leaves in the row; what it does not say stays."""
    response = event.api_response
    return {
        "reference": event.reference,
        "transaction_id": event.transaction_id or row.transaction_id,
        "api_response": row.api_response if response is None else dumps(response).decode(),
        "error_code": event.error_code,
        "error_message": event.error_message,
    }


def _on_attempted(_row: Row, event: FulfillmentAttempted) -> dict[str, Any]:
    """From here on the row tells of this attempt: what earlier ones came to is in the timeline."""
    return {
        "state": State.ATTEMPTING,
        "status": STATUS[State.ATTEMPTING],
        "attempt_number": event.attempt,
        "max_attempts": event.max_attempts,
        "provider": event.provider,
        "reference": event.reference,
        "trigger": event.trigger,
        "transaction_id": None,
        "api_response": None,
        "error_code": None,
        "error_message": None,
        "next_act": Act.REPLY,
        "next_at": event.deadline,
        "schedule_id": event.sequence,
        "retry_after": None,
    }


def _on_succeeded(row: Row, event: FulfillmentSucceeded) -> dict[str, Any]:
    return _says(row, event) | _enters(State.DELIVERED, None) | {"fulfilled_at": event.at}


def _on_accepted(row: Row, event: FulfillmentAccepted) -> dict[str, Any]:
    return _says(row, event) | _enters(State.ACCEPTED, event.next)


def _on_failed(row: Row, event: FulfillmentFailed) -> dict[str, Any]:
    if event.final or event.next is None:
        return _says(row, event) | _enters(State.FAILED, None)
    state = State.SETTLING if event.next.act is Act.SETTLE else State.WAITING
    return _says(row, event) | _enters(state, event.next)


def _on_voided(row: Row, event: AttemptVoided) -> dict[str, Any]:
    state = State.CREATED if event.attempt == 1 else State.WAITING
    return _says(row, event) | _enters(state, event.next) | {"attempt_number": event.attempt - 1}


def _on_uncertain(row: Row, event: FulfillmentUncertain) -> dict[str, Any]:
    return _says(row, event) | _enters(State.UNKNOWN, event.next)


def _on_checked(row: Row, event: StatusChecked) -> dict[str, Any]:
    """A question that proved nothing: the row goes on saying what it said."""
    kept = {
        "error_code": event.error_code or row.error_code,
        "error_message": event.error_message or row.error_message,
    }
    return _says(row, event) | kept | _plans(row.state, event.next)


def _on_review(row: Row, event: ReviewRequested) -> dict[str, Any]:
    return _says(row, event) | _enters(State.REVIEW, event.next)


def _on_cancelled(_row: Row, _event: FulfillmentCancelled) -> dict[str, Any]:
    return _enters(State.CANCELLED, None)


def _on_command_alone(_row: Row, _event: FulfillmentResolved | CommandRejected) -> dict[str, Any]:
    """A person's word, or the answer to it: what follows from it is an event of its own."""
    return {}


_CHANGES: Final[dict[type[FulfillmentEvent], Callable[[Row, Any], dict[str, Any]]]] = {
    FulfillmentAttempted: _on_attempted,
    FulfillmentSucceeded: _on_succeeded,
    FulfillmentAccepted: _on_accepted,
    FulfillmentFailed: _on_failed,
    AttemptVoided: _on_voided,
    FulfillmentUncertain: _on_uncertain,
    StatusChecked: _on_checked,
    ReviewRequested: _on_review,
    FulfillmentResolved: _on_command_alone,
    FulfillmentCancelled: _on_cancelled,
    CommandRejected: _on_command_alone,
}
