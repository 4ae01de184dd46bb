"""The life of an order: `decide` turns an input into events, which `evolution.evolve` folds into the order.

Pure: no clock, no I/O. The table of states, inputs and events is docs/order-life.md; a test holds it to this file.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final

from schemas.commands import (
    CancelFulfillment,
    Command,
    OverrideFulfillment,
    ResolveFulfillment,
    RetryFulfillment,
    TriggerFulfillment,
)
from schemas.fulfillment import (
    Act,
    FulfillmentAttempted,
    FulfillmentCancelled,
    FulfillmentFailed,
    FulfillmentRequested,
    FulfillmentResolved,
    Next,
    Source,
    Trigger,
)
from schemas.ids import reference
from schemas.poison import PoisonError, PoisonKind
from services.fulfiller import events, messages
from services.fulfiller.evolution import evolve
from services.fulfiller.inputs import (
    NOTHING,
    Asked,
    Commanded,
    Decision,
    DoubtExpired,
    Input,
    Received,
    Replied,
    SlotReserved,
    Verified,
)
from services.fulfiller.order import Order, State
from services.fulfiller.providers.port import Outcome, OutcomeClass
from services.fulfiller.retry import (
    REVIEW_INTERVAL,
    Rules,
    after_check,
    turned_away_too_long,
    unanswered_too_long,
)


def decide(order: Order | None, what: Input, rules: Rules, now: datetime) -> Decision:
    """Say what follows; an input that no longer applies changes nothing.

    PoisonError for an OrderCreated that contradicts the order, and for a command about an order that is not known.
    """
    if isinstance(what, Received):
        return _received(order, what, rules, now)
    if order is None:
        if isinstance(what, Commanded):
            raise PoisonError(PoisonKind.UNKNOWN_ORDER, f"{what.command.type} for an order that is not known")
        return NOTHING
    return _DECIDERS[type(what)](order, what, rules, now)


def _received(order: Order | None, what: Received, rules: Rules, now: datetime) -> Decision:
    created = what.created
    if order is not None:
        if order.bundle == created.bundle:
            return NOTHING
        raise PoisonError(PoisonKind.CONFLICT, "the order is known with another phone number, size or network")
    provider = rules.provider_of(created.network)
    return Decision(
        (
            FulfillmentRequested(
                order_id=created.order_id,
                sequence=1,
                phone_number=created.phone_number,
                size_mb=created.size_mb,
                network=created.network,
                at=now,
                cause=what.cause,
                provider=provider.name if provider else None,
                max_attempts=rules.max_attempts,
                order_created_at=created.created_at,
                price=None if created.price is None else str(created.price),
                package_id=created.package_id,
                account=created.account,
                next=Next(act=Act.ATTEMPT, at=now, schedule_id=1) if provider else None,
            ),
        )
    )


def _commanded(order: Order, what: Commanded, rules: Rules, now: datetime) -> Decision:
    command = what.command
    if order.answered_command == command.command_id:
        return NOTHING
    if order.pending is not None:
        if order.pending.command_id == command.command_id:
            return NOTHING
        return events.rejected(order, command, "another command for this order is under way", now, what.cause)
    if command.expected_sequence not in {None, order.sequence}:
        changed = f"the order changed since it was looked at: it is {order.state}"
        return events.rejected(order, command, changed, now, what.cause)
    if isinstance(command, CancelFulfillment) and order.state in {State.CREATED, State.HELD}:
        common = events.common(order, now, 1, what.cause, command)
        return Decision((FulfillmentCancelled(**common),))
    why = _objection(order, command, rules)
    if why is not None:
        return events.rejected(order, command, why, now, what.cause)
    return Decision(pending=command, cause=what.cause)


def _objection(order: Order, command: Command, rules: Rules) -> str | None:
    """Why a command cannot be followed in the order's state; None: it can, as soon as there is a slot or an answer."""
    state = order.state
    if isinstance(command, ResolveFulfillment):
        return None if state is State.REVIEW else f"the order is {state}, not in review"
    if isinstance(command, OverrideFulfillment):
        if state is State.FAILED and order.attempts >= rules.max_attempts:
            return None
        return f"the order is {state} with {order.attempts} of {rules.max_attempts} attempts made: nothing to override"
    if isinstance(command, CancelFulfillment):
        return f"the order is {state}: it can be cancelled only before its first attempt"
    if state is State.WAITING:
        return None
    if state is State.FAILED:
        if order.attempts < rules.max_attempts:
            return None
        return f"all {rules.max_attempts} attempts were made"
    if state is State.HELD and isinstance(command, TriggerFulfillment):
        return None if rules.provider_of(order.network) else f"no provider serves {order.network} yet"
    return f"the order is {state}"


def _slot_reserved(order: Order, what: SlotReserved, rules: Rules, now: datetime) -> Decision:
    command = order.pending
    overrides = order.overrides
    if isinstance(command, OverrideFulfillment):
        if not what.cleared:
            return NOTHING
        overrides += 1
        trigger = Trigger.OVERRIDE
    elif isinstance(command, TriggerFulfillment | RetryFulfillment):
        trigger = Trigger.MANUAL
    elif command is None and order.next_act is Act.ATTEMPT and order.next_at is not None and order.next_at <= now:
        trigger = Trigger.RETRY if order.attempts else Trigger.FIRST
    else:
        return NOTHING
    provider = order.provider or _provider_name(order, rules)
    if provider is None:
        return NOTHING
    return Decision(
        (
            FulfillmentAttempted(
                **events.common(order, now, 1, what.cause or order.pending_cause, command),
                attempt=order.attempts + 1,
                max_attempts=rules.max_attempts,
                provider=provider,
                reference=reference(order.order_id, overrides),
                trigger=trigger,
                deadline=what.deadline,
            ),
        )
    )


def _provider_name(order: Order, rules: Rules) -> str | None:
    profile = rules.provider_of(order.network)
    return profile.name if profile else None


def _replied(order: Order, what: Replied, rules: Rules, now: datetime) -> Decision:
    if order.state is not State.ATTEMPTING:
        return NOTHING
    outcome = what.outcome
    kind = outcome.kind
    if outcome.duplicate and order.is_first_send:
        # Somebody used the reference before us: whatever is said, it is not about this call alone.
        return events.uncertain(order, outcome, rules, now)
    if kind is OutcomeClass.DELIVERED:
        return events.succeeded(order, outcome, Source.REPLY, now)
    if kind is OutcomeClass.ACCEPTED:
        return events.accepted(order, outcome, rules, now)
    if kind in _DECLINED:
        return events.failed(order, outcome, Source.REPLY, rules, now)
    if kind in events.VOID_REASONS:
        if kind is not OutcomeClass.SUSPENDED and turned_away_too_long(order.voided_since, now):
            return events.failed(order, outcome, Source.REPLY, rules, now)
        return events.voided(order, outcome, now)
    return events.uncertain(order, outcome, rules, now)


_DECLINED: Final = frozenset({OutcomeClass.DECLINED_PERMANENT, OutcomeClass.DECLINED_TRANSIENT})
_IN_DOUBT: Final = Outcome(OutcomeClass.UNKNOWN, code="IN_DOUBT", message="the caller is gone, its answer with it")


def _doubt_expired(order: Order, _what: DoubtExpired, rules: Rules, now: datetime) -> Decision:
    if order.state is not State.ATTEMPTING:
        return NOTHING
    return events.uncertain(order, _IN_DOUBT, rules, now)


def _verified(order: Order, what: Verified, rules: Rules, now: datetime) -> Decision:
    outcome = what.outcome
    if order.state is State.ATTEMPTING:
        # Found in doubt: a call may still be under way, so only a yes is believed.
        if outcome.kind is OutcomeClass.DELIVERED:
            return events.succeeded(order, outcome, Source.VERIFICATION, now)
        return events.accepted(order, outcome, rules, now) if outcome.kind is OutcomeClass.ACCEPTED else NOTHING
    if order.state not in _ASKED_ABOUT:
        return NOTHING
    if isinstance(order.pending, ResolveFulfillment):
        return _resolved(order, order.pending, what, rules, now)
    if outcome.kind is OutcomeClass.DELIVERED:
        return events.succeeded(order, outcome, Source.VERIFICATION, now)
    if _proves_absence(order, what, rules, now):
        return events.absent(order, outcome, rules, now)
    if outcome.kind is OutcomeClass.NO_ANSWER:
        if order.state is not State.REVIEW and unanswered_too_long(order.next_at, now):
            return events.review(order, outcome, now)
        return NOTHING
    if order.state is State.SETTLING:
        return events.uncertain(order, outcome, rules, now, settlement=True)
    if order.state is State.REVIEW:
        return events.checked(order, outcome, order.steps, REVIEW_INTERVAL, now)
    delay = after_check(rules, order.steps + 1)
    return (
        events.review(order, outcome, now)
        if delay is None
        else events.checked(order, outcome, order.steps + 1, delay, now)
    )


_ASKED_ABOUT: Final = frozenset({State.ACCEPTED, State.UNKNOWN, State.REVIEW, State.SETTLING})


def _proves_absence(order: Order, what: Verified, rules: Rules, now: datetime) -> bool:
    """Whether a status query proves that the present attempt delivered nothing and never will."""
    outcome = what.outcome
    if outcome.kind in _DECLINED:
        if order.state is State.SETTLING:
            return True  # the last attempt was known to have failed; here it is said once more
        if events.names_this_attempt(order, outcome, rules):
            return what.failed_counts
    elif outcome.kind is not OutcomeClass.NOT_FOUND:
        return False
    profile = rules.providers.get(order.provider or "")
    if profile is None or order.attempted_at is None:
        return False
    remembered = now - order.attempted_at < timedelta(seconds=profile.reference_memory_s)
    return what.not_found_counts and not order.taken and remembered


def confirms_failure(order: Order, what: Verified, rules: Rules, now: datetime) -> bool:
    """Whether an answer about one of a failed order's references lets another be used."""
    if order.state is not State.FAILED:
        return False
    # Where the last attempt was taken, and a person said what became of it, an earlier one's failure says nothing.
    speaks_of_another = order.taken and not events.names_this_attempt(order, what.outcome, rules)
    return (what.outcome.kind in _DECLINED and not speaks_of_another) or _proves_absence(order, what, rules, now)


def _resolved(order: Order, command: ResolveFulfillment, what: Verified, rules: Rules, now: datetime) -> Decision:
    """Follow a person's word about an order in review, unless the provider knows better."""
    outcome = what.outcome
    kind = outcome.kind
    cause = order.pending_cause
    if kind is OutcomeClass.DELIVERED and not command.delivered:
        rejected = events.rejected(order, command, "the provider says that it was delivered", now, cause)
        return _then(rejected, order, lambda later: events.succeeded(later, outcome, Source.VERIFICATION, now))
    if kind is OutcomeClass.ACCEPTED and not command.delivered:
        return events.rejected(order, command, "the provider says that it is still working on it", now, cause)
    if command.delivered and _proves_absence(order, what, rules, now):
        rejected = events.rejected(order, command, "the provider says that it was not delivered", now, cause)
        return _then(rejected, order, lambda later: events.absent(later, outcome, rules, now))
    resolved = Decision(
        (FulfillmentResolved(**events.common(order, now, 1, cause, command), delivered=command.delivered),)
    )
    if command.delivered:
        return _then(resolved, order, lambda later: events.succeeded(later, outcome, Source.RESOLUTION, now))
    return _then(resolved, order, lambda later: _resolved_not_delivered(later, outcome, rules, now))


def _then(first: Decision, order: Order, second: Callable[[Order], Decision]) -> Decision:
    for event in first.events:
        order = evolve(order, event)
    return Decision(first.events + second(order).events)


def _resolved_not_delivered(order: Order, outcome: Outcome, rules: Rules, now: datetime) -> Decision:
    again = order.attempts < rules.max_attempts
    return Decision(
        (
            FulfillmentFailed(
                **events.answered(order, outcome, now) | {"error_message": messages.RESOLVED_NOT_DELIVERED},
                source=Source.RESOLUTION,
                final=not again,
                next=events.planned(order, Act.ATTEMPT, timedelta(0), now) if again else None,
            ),
        )
    )


def _asked(order: Order, what: Asked, _rules: Rules, now: datetime) -> Decision:
    command = order.pending
    if not isinstance(command, OverrideFulfillment):
        return NOTHING
    kind = what.outcome.kind
    if kind is OutcomeClass.DELIVERED:
        rejected = events.rejected(
            order, command, f"reference {what.reference} was delivered", now, order.pending_cause
        )
        return _then(rejected, order, lambda later: events.succeeded(later, what.outcome, Source.VERIFICATION, now))
    why = f"it is not proven that reference {what.reference} was not delivered"
    return events.rejected(order, command, why, now, order.pending_cause)


_DECIDERS: Final[dict[type[Input], Callable[[Order, Any, Rules, datetime], Decision]]] = {
    Commanded: _commanded,
    SlotReserved: _slot_reserved,
    Replied: _replied,
    DoubtExpired: _doubt_expired,
    Verified: _verified,
    Asked: _asked,
}
