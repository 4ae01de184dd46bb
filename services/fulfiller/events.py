"""The events that follow from what a provider or a person said, each as a Decision."""

from datetime import datetime, timedelta
from typing import Any, Final

from schemas.commands import Command
from schemas.fulfillment import (
    Act,
    AttemptVoided,
    Cause,
    CommandRejected,
    FulfillmentAccepted,
    FulfillmentFailed,
    FulfillmentSucceeded,
    FulfillmentUncertain,
    Next,
    OnBehalf,
    ReviewRequested,
    Source,
    StatusChecked,
    VoidReason,
)
from services.fulfiller import messages
from services.fulfiller.inputs import Decision
from services.fulfiller.order import Order, State
from services.fulfiller.providers.port import Outcome, OutcomeClass
from services.fulfiller.retry import REVIEW_INTERVAL, Rules, after_failure

VOID_PAUSE_S: Final = 1.0
"""At the least, between two attempts of an order that never left or were turned away."""
VOID_REASONS: Final = {
    OutcomeClass.NOT_SENT: VoidReason.NOT_SENT,
    OutcomeClass.TURNED_AWAY: VoidReason.TURNED_AWAY,
    OutcomeClass.SUSPENDED: VoidReason.SUSPENDED,
}


def common(
    order: Order, now: datetime, step: int = 1, cause: Cause | None = None, command: Command | None = None
) -> dict[str, Any]:
    """What every event of an order says."""
    return {
        "order_id": order.order_id,
        "sequence": order.sequence + step,
        "phone_number": order.phone_number,
        "size_mb": order.size_mb,
        "network": order.network,
        "at": now,
        "cause": cause,
        "command": command and OnBehalf(command_id=command.command_id, actor=command.actor, reason=command.reason),
    }


def answered(order: Order, outcome: Outcome, now: datetime) -> dict[str, Any]:
    return common(order, now) | {
        "attempt": order.attempts,
        "reference": order.reference,
        "error_code": outcome.code,
        "transaction_id": outcome.transaction_id,
        "api_response": None if outcome.raw is None else dict(outcome.raw),
    }


def planned(order: Order, act: Act, delay: timedelta, now: datetime) -> Next:
    return Next(act=act, at=now + delay, schedule_id=order.sequence + 1)


def rejected(order: Order, command: Command, why: str, now: datetime, cause: Cause | None = None) -> Decision:
    said = common(order, now, 1, cause, command)
    return Decision((CommandRejected(**said, command_type=command.type, why=why),))


def succeeded(order: Order, outcome: Outcome, source: Source, now: datetime) -> Decision:
    said = answered(order, outcome, now) | {"error_code": None}
    return Decision((FulfillmentSucceeded(**said, source=source),))


def accepted(order: Order, outcome: Outcome, rules: Rules, now: datetime) -> Decision:
    delay = timedelta(seconds=rules.verify_delays_s[0])
    said = answered(order, outcome, now) | {"error_code": None}
    return Decision((FulfillmentAccepted(**said, next=planned(order, Act.VERIFY, delay, now)),))


def failed(order: Order, outcome: Outcome, source: Source, rules: Rules, now: datetime) -> Decision:
    said = answered(order, outcome, now) | {"error_message": messages.customer_message(outcome)}
    if outcome.kind is OutcomeClass.DECLINED_PERMANENT:
        return Decision((FulfillmentFailed(**said, source=source, final=True),))
    act, delay = after_failure(rules, order.attempts)
    profile = rules.providers.get(order.provider or "")
    if act is Act.SETTLE and not (profile and profile.status_query):
        return Decision((FulfillmentFailed(**said, source=source, final=True),))
    then = planned(order, act, delay, now)
    return Decision((FulfillmentFailed(**said, source=source, final=False, next=then),))


def absent(order: Order, outcome: Outcome, rules: Rules, now: datetime) -> Decision:
    """The attempt is proven to have delivered nothing."""
    if order.state is State.SETTLING or order.settlement:
        said = answered(order, outcome, now) | {"error_message": messages.customer_message(outcome)}
        return Decision((FulfillmentFailed(**said, source=Source.VERIFICATION, final=True, settled=True),))
    profile = rules.providers.get(order.provider or "")
    if not names_this_attempt(order, outcome, rules) and not (profile and profile.idempotent_references):
        # A request that comes late after all would be executed beside the next attempt's.
        if order.state is State.REVIEW:
            return checked(order, outcome, order.steps, REVIEW_INTERVAL, now)
        return review(order, outcome, now)
    return failed(order, outcome, Source.VERIFICATION, rules, now)


def names_this_attempt(order: Order, outcome: Outcome, rules: Rules) -> bool:
    """Whether a refusal is about the present attempt: its transaction id was in no answer to an earlier one.

    An earlier one's answer may have named none. So an id that nobody named yet is the present attempt's only where
    nothing was sent before it, or where the provider executes a reference once.
    """
    name = outcome.transaction_id
    if name is None or name in order.spent_transaction_ids:
        return False
    profile = rules.providers.get(order.provider or "")
    is_first = order.attempts == 1 and not order.was_voided
    return name in order.transaction_ids or is_first or bool(profile and profile.idempotent_references)


def voided(order: Order, outcome: Outcome, now: datetime) -> Decision:
    pause_s = 0.0 if outcome.kind is OutcomeClass.SUSPENDED else VOID_PAUSE_S
    delay = timedelta(seconds=max(outcome.retry_after_s or 0.0, pause_s))
    said = answered(order, outcome, now) | {"error_message": messages.customer_message(outcome)}
    return Decision(
        (AttemptVoided(**said, void_reason=VOID_REASONS[outcome.kind], next=planned(order, Act.ATTEMPT, delay, now)),)
    )


def uncertain(order: Order, outcome: Outcome, rules: Rules, now: datetime, *, settlement: bool = False) -> Decision:
    profile = rules.providers.get(order.provider or "")
    if profile is None or not profile.status_query:
        return review(order, outcome, now)
    delay = timedelta(seconds=rules.verify_delays_s[0])
    return Decision(
        (
            FulfillmentUncertain(
                **answered(order, outcome, now) | {"error_message": messages.DOUBT},
                taken=_says_taken(outcome),
                settlement=settlement,
                next=planned(order, Act.VERIFY, delay, now),
            ),
        )
    )


def checked(order: Order, outcome: Outcome, step: int, delay: timedelta, now: datetime) -> Decision:
    return Decision(
        (
            StatusChecked(
                **answered(order, outcome, now),
                step=step,
                taken=_says_taken(outcome),
                next=planned(order, Act.VERIFY, delay, now),
            ),
        )
    )


def review(order: Order, outcome: Outcome, now: datetime) -> Decision:
    return Decision(
        (
            ReviewRequested(
                **answered(order, outcome, now) | {"error_message": messages.REVIEW},
                taken=_says_taken(outcome),
                next=planned(order, Act.VERIFY, REVIEW_INTERVAL, now),
            ),
        )
    )


def _says_taken(outcome: Outcome) -> bool:
    return outcome.duplicate or outcome.kind in {OutcomeClass.ACCEPTED, OutcomeClass.DELIVERED}
