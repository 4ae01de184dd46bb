"""Each event says all that its readers rest on: the whole of it, from one order and one answer."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from schemas.commands import RetryFulfillment
from schemas.fulfillment import (
    Act,
    AttemptVoided,
    CommandRejected,
    FulfillmentAccepted,
    FulfillmentEvent,
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
from services.fulfiller import events, messages
from services.fulfiller.fulfillment import Decision
from services.fulfiller.order import Order, State
from services.fulfiller.providers.memory import MEMORY_PROFILE
from services.fulfiller.providers.port import Outcome, OutcomeClass
from tests.fulfiller.lives import BLIND, FORGETFUL, NOBODY, NOW, ORDER_ID, RULES, cause, command

ORDER = Order(
    order_id=ORDER_ID,
    phone_number="+233233123456",
    size_mb=1500,
    network="AT-iShare",
    state=State.ATTEMPTING,
    sequence=6,
    provider=MEMORY_PROFILE.name,
    attempts=2,
    overrides=1,
    steps=1,
)
SAID: dict[str, Any] = {
    "order_id": ORDER_ID,
    "sequence": 7,
    "phone_number": "+233233123456",
    "size_mb": 1500,
    "network": "AT-iShare",
    "at": NOW,
}
ANSWERED = SAID | {
    "attempt": 2,
    "reference": f"{ORDER_ID}-r2",
    "error_code": "ODD",
    "transaction_id": "T-1",
    "api_response": {"code": "ODD"},
}
WENT_WELL = ANSWERED | {"error_code": None}


def outcome(kind: OutcomeClass, **said: Any) -> Outcome:
    return Outcome(kind, code="ODD", transaction_id="T-1", raw={"code": "ODD"})._replace(**said)


def plan(act: Act, after_s: float) -> Next:
    return Next(act=act, at=NOW + timedelta(seconds=after_s), schedule_id=7)


def one(decision: Decision) -> FulfillmentEvent:
    (event,) = decision.events
    return event


def test_a_delivery() -> None:
    event = one(events.succeeded(ORDER, outcome(OutcomeClass.DELIVERED), Source.REPLY, NOW))
    assert event == FulfillmentSucceeded(**WENT_WELL, source=Source.REPLY)


def test_what_the_provider_works_on_is_asked_about_after_the_first_step() -> None:
    event = one(events.accepted(ORDER, outcome(OutcomeClass.ACCEPTED), RULES, NOW))
    assert event == FulfillmentAccepted(**WENT_WELL, next=plan(Act.VERIFY, 15))


def test_an_answer_without_a_body_has_none() -> None:
    event = one(events.succeeded(ORDER, Outcome(OutcomeClass.DELIVERED), Source.REPLY, NOW))
    assert isinstance(event, FulfillmentSucceeded)
    assert (event.api_response, event.transaction_id) == (None, None)


@pytest.mark.parametrize(
    ("order", "kind", "rules", "then"),
    [
        (ORDER, OutcomeClass.DECLINED_TRANSIENT, RULES, plan(Act.ATTEMPT, 900)),
        (replace(ORDER, attempts=3), OutcomeClass.DECLINED_TRANSIENT, RULES, plan(Act.SETTLE, 3600)),
        (replace(ORDER, attempts=3), OutcomeClass.DECLINED_TRANSIENT, BLIND, None),
        (replace(ORDER, attempts=3), OutcomeClass.DECLINED_TRANSIENT, NOBODY, None),
        (replace(ORDER, attempts=3, provider=None), OutcomeClass.DECLINED_TRANSIENT, RULES, None),
        (ORDER, OutcomeClass.DECLINED_PERMANENT, RULES, None),
    ],
)
def test_a_failure_is_final_where_nothing_follows(
    order: Order, kind: OutcomeClass, rules: Any, then: Next | None
) -> None:
    answer = outcome(kind)
    said = ANSWERED | {"attempt": order.attempts, "error_message": messages.customer_message(answer)}
    event = one(events.failed(order, answer, Source.REPLY, rules, NOW))
    assert event == FulfillmentFailed(**said, source=Source.REPLY, final=then is None, next=then)


@pytest.mark.parametrize("known", [{"state": State.SETTLING}, {"state": State.UNKNOWN, "settlement": True}])
def test_a_failure_that_was_settled_is_final(known: dict[str, Any]) -> None:
    answer = outcome(OutcomeClass.NOT_FOUND)
    said = ANSWERED | {"error_message": messages.customer_message(answer)}
    event = one(events.absent(replace(ORDER, **known), answer, RULES, NOW))
    assert event == FulfillmentFailed(**said, source=Source.VERIFICATION, final=True, settled=True)


@pytest.mark.parametrize("rules", [FORGETFUL, NOBODY])
def test_what_was_not_found_is_a_person_s_where_references_are_not_kept_apart(rules: Any) -> None:
    answer = outcome(OutcomeClass.NOT_FOUND, transaction_id=None)
    assert isinstance(one(events.absent(replace(ORDER, state=State.UNKNOWN), answer, rules, NOW)), ReviewRequested)
    assert isinstance(one(events.absent(replace(ORDER, state=State.REVIEW), answer, rules, NOW)), StatusChecked)
    assert isinstance(one(events.absent(replace(ORDER, state=State.UNKNOWN), answer, RULES, NOW)), FulfillmentFailed)


@pytest.mark.parametrize(
    ("kind", "retry_after_s", "reason", "after_s"),
    [
        (OutcomeClass.SUSPENDED, None, VoidReason.SUSPENDED, 0),
        (OutcomeClass.SUSPENDED, 0.5, VoidReason.SUSPENDED, 0.5),
        (OutcomeClass.TURNED_AWAY, None, VoidReason.TURNED_AWAY, events.VOID_PAUSE_S),
        (OutcomeClass.NOT_SENT, 0.5, VoidReason.NOT_SENT, max(events.VOID_PAUSE_S, 0.5)),
        (OutcomeClass.TURNED_AWAY, 3600.0, VoidReason.TURNED_AWAY, 3600),
    ],
)
def test_an_attempt_that_is_given_back_is_made_when_it_may(
    kind: OutcomeClass, retry_after_s: float | None, reason: VoidReason, after_s: float
) -> None:
    answer = outcome(kind, retry_after_s=retry_after_s)
    said = ANSWERED | {"error_message": messages.customer_message(answer)}
    event = one(events.voided(ORDER, answer, NOW))
    assert event == AttemptVoided(**said, void_reason=reason, next=plan(Act.ATTEMPT, after_s))


@pytest.mark.parametrize(
    ("answer", "taken"),
    [
        (outcome(OutcomeClass.UNKNOWN), False),
        (outcome(OutcomeClass.UNKNOWN, duplicate=True), True),
        (outcome(OutcomeClass.ACCEPTED), True),
        (outcome(OutcomeClass.DELIVERED), True),
    ],
)
def test_what_is_not_known_says_whether_the_reference_was_taken(answer: Outcome, *, taken: bool) -> None:
    doubt = ANSWERED | {"error_message": messages.DOUBT, "taken": taken}
    then = plan(Act.VERIFY, 15)
    assert one(events.uncertain(ORDER, answer, RULES, NOW)) == FulfillmentUncertain(**doubt, next=then)
    assert one(events.uncertain(ORDER, answer, RULES, NOW, settlement=True)) == FulfillmentUncertain(
        **doubt, settlement=True, next=then
    )
    in_review = ReviewRequested(
        **ANSWERED | {"error_message": messages.REVIEW, "taken": taken},
        next=plan(Act.VERIFY, events.REVIEW_INTERVAL.total_seconds()),
    )
    assert one(events.review(ORDER, answer, NOW)) == in_review
    for rules in (BLIND, NOBODY):
        assert one(events.uncertain(ORDER, answer, rules, NOW)) == in_review, "who cannot ask calls a person"
    assert one(events.uncertain(replace(ORDER, provider=None), answer, RULES, NOW)) == in_review
    assert one(events.checked(ORDER, answer, 3, timedelta(seconds=9), NOW)) == StatusChecked(
        **ANSWERED, step=3, taken=taken, next=plan(Act.VERIFY, 9)
    )


def test_a_word_that_is_not_followed() -> None:
    said = command(RetryFulfillment)
    assert one(events.rejected(ORDER, said, "it is too late", NOW, cause(4))) == CommandRejected(
        **SAID,
        cause=cause(4),
        command=OnBehalf(command_id=said.command_id, actor="ama", reason="asked by the customer"),
        command_type="RetryFulfillment",
        why="it is too late",
    )
