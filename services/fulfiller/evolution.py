"""An order's history: `evolve` folds an event into the order. Pure, as `fulfillment.decide`, which made the event."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

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
    Trigger,
    VoidReason,
)
from services.fulfiller.order import Order, State

MAX_SPENT_IDS: Final = 32
"""Of the provider's transaction ids of earlier attempts: a question is answered with the latest of them."""


def evolve(order: Order | None, event: FulfillmentEvent) -> Order:
    """Fold one event. ValueError where it is not the order's next."""
    if isinstance(event, FulfillmentRequested):
        if order is not None:
            raise ValueError(f"order {event.order_id} was requested twice")
        return _requested(event)
    if order is None or event.sequence != order.sequence + 1:
        seen = order.sequence if order else 0
        raise ValueError(f"order {event.order_id}: event {event.sequence} does not follow {seen}")
    changed = _EVOLVERS[type(event)](order, event)
    changed.sequence = event.sequence
    changed.answered_command = event.command.command_id if event.command else order.answered_command
    if event.command and changed.pending and changed.pending.command_id == event.command.command_id:
        changed.pending = changed.pending_cause = None
    return changed


def _requested(event: FulfillmentRequested) -> Order:
    order = Order(
        order_id=event.order_id,
        phone_number=event.phone_number,
        size_mb=event.size_mb,
        network=event.network,
        state=State.CREATED if event.next else State.HELD,
        sequence=event.sequence,
        provider=event.provider,
    )
    _plan(order, event.next)
    return order


def _plan(order: Order, planned: Next | None) -> None:
    order.next_act = planned.act if planned else None
    order.next_at = planned.at if planned else None
    order.schedule_id = planned.schedule_id if planned else 0


def _on_attempted(order: Order, event: FulfillmentAttempted) -> Order:
    is_override = event.trigger is Trigger.OVERRIDE
    changed = order.copy()
    changed.state = State.ATTEMPTING
    changed.provider = event.provider
    changed.attempts = event.attempt
    changed.overrides = order.overrides + is_override
    changed.next_act = Act.REPLY
    changed.next_at = event.deadline
    changed.schedule_id = event.sequence
    changed.steps = 0
    changed.settlement = False
    changed.taken = order.taken and not is_override
    changed.was_voided = order.was_voided and not is_override
    changed.transaction_ids = ()
    changed.spent_transaction_ids = (order.spent_transaction_ids + order.transaction_ids)[-MAX_SPENT_IDS:]
    changed.attempted_at = event.at
    changed.ended_at = None
    return changed


def _heard(order: Order, event: Any, state: State, planned: Next | None, *, taken: bool = False) -> Order:
    """Fold what every answer of the provider changes."""
    changed = order.copy()
    changed.state = state
    changed.voided_since = None
    changed.transaction_ids = _with_transaction(order, event)
    changed.taken = order.taken or taken
    _plan(changed, planned)
    return changed


def _with_transaction(order: Order, event: Any) -> tuple[str, ...]:
    seen = order.transaction_ids
    return seen if event.transaction_id in (None, *seen) else (*seen, event.transaction_id)


def _on_succeeded(order: Order, event: FulfillmentSucceeded) -> Order:
    return _ended(order, State.DELIVERED, event.at)


def _on_accepted(order: Order, event: FulfillmentAccepted) -> Order:
    return _heard(order, event, State.ACCEPTED, event.next, taken=True)


def _on_failed(order: Order, event: FulfillmentFailed) -> Order:
    if event.next is None:
        changed = _heard(order, event, State.FAILED, None)
        changed.ended_at = event.at
        return changed
    settling = event.next.act is Act.SETTLE
    return _heard(order, event, State.SETTLING if settling else State.WAITING, event.next)


def _on_voided(order: Order, event: AttemptVoided) -> Order:
    changed = order.copy()
    changed.state = State.CREATED if event.attempt == 1 else State.WAITING
    changed.attempts = event.attempt - 1
    changed.voided_since = None if event.void_reason is VoidReason.SUSPENDED else order.voided_since or event.at
    changed.was_voided = True
    # Or a later question's "failed" would be taken for the next attempt's.
    changed.transaction_ids = _with_transaction(order, event)
    _plan(changed, event.next)
    return changed


def _on_uncertain(order: Order, event: FulfillmentUncertain) -> Order:
    changed = _heard(order, event, State.UNKNOWN, event.next, taken=event.taken)
    changed.settlement = event.settlement
    changed.steps = 0
    return changed


def _on_checked(order: Order, event: StatusChecked) -> Order:
    changed = _heard(order, event, order.state, event.next, taken=event.taken)
    changed.steps = event.step
    return changed


def _on_review(order: Order, event: ReviewRequested) -> Order:
    changed = _heard(order, event, State.REVIEW, event.next, taken=event.taken)
    changed.settlement = order.settlement or order.state is State.SETTLING
    return changed


def _on_resolved(order: Order, _event: FulfillmentResolved) -> Order:
    return order.copy()


def _on_cancelled(order: Order, event: FulfillmentCancelled) -> Order:
    return _ended(order, State.CANCELLED, event.at)


def _ended(order: Order, state: State, at: datetime) -> Order:
    """Keep what answers a repeated OrderCreated or a late command, and no more."""
    return Order(
        order_id=order.order_id,
        phone_number=order.phone_number,
        size_mb=order.size_mb,
        network=order.network,
        state=state,
        sequence=order.sequence,
        attempts=order.attempts,
        ended_at=at,
    )


def _on_command_rejected(order: Order, event: CommandRejected) -> Order:
    # An order is remembered from its last event on, so that no event is newer than what is forgotten.
    changed = order.copy()
    changed.ended_at = order.ended_at and event.at
    return changed


_EVOLVERS: Final[dict[type[FulfillmentEvent], Callable[[Order, Any], Order]]] = {
    FulfillmentAttempted: _on_attempted,
    FulfillmentSucceeded: _on_succeeded,
    FulfillmentAccepted: _on_accepted,
    FulfillmentFailed: _on_failed,
    AttemptVoided: _on_voided,
    FulfillmentUncertain: _on_uncertain,
    StatusChecked: _on_checked,
    ReviewRequested: _on_review,
    FulfillmentResolved: _on_resolved,
    FulfillmentCancelled: _on_cancelled,
    CommandRejected: _on_command_rejected,
}
