"""What the table of docs/order-life.md is too coarse to say."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from schemas.commands import (
    CancelFulfillment,
    OverrideFulfillment,
    ResolveFulfillment,
    RetryFulfillment,
    TriggerFulfillment,
)
from schemas.fulfillment import (
    Act,
    AttemptVoided,
    CommandRejected,
    FulfillmentAccepted,
    FulfillmentAttempted,
    FulfillmentCancelled,
    FulfillmentFailed,
    FulfillmentRequested,
    FulfillmentSucceeded,
    FulfillmentUncertain,
    Next,
    ReviewRequested,
    StatusChecked,
    Trigger,
)
from schemas.poison import PoisonError, PoisonKind
from services.fulfiller.evolution import MAX_SPENT_IDS
from services.fulfiller.fulfillment import confirms_failure, decide
from services.fulfiller.inputs import Asked, Commanded, Received, Replied
from services.fulfiller.order import State, dump_order
from services.fulfiller.providers.memory import MEMORY_PROFILE
from services.fulfiller.providers.port import Outcome, OutcomeClass
from tests.fulfiller.lives import (
    FORGETFUL,
    NOBODY,
    NOW,
    ORDER_ID,
    RULES,
    Life,
    cause,
    command,
    order_created,
    replied,
    slot,
    verified,
)

DECLINED = OutcomeClass.DECLINED_TRANSIENT
UNKNOWN = OutcomeClass.UNKNOWN


@pytest.mark.parametrize("kind", [OutcomeClass.SUSPENDED, OutcomeClass.TURNED_AWAY])
def test_a_voided_attempt_s_transaction_is_no_later_one_s(kind: OutcomeClass) -> None:
    life = Life().created().attempting()
    life.feed(replied(kind, "T-void"))
    life.unknown()
    (event,) = life.until_due().feed(verified(DECLINED, "T-void", not_found_counts=False))
    assert isinstance(event, StatusChecked), "it speaks of the attempt before"
    (event,) = life.until_due().feed(verified(DECLINED, "T-other", not_found_counts=False))
    assert isinstance(event, FulfillmentFailed)


def test_failed_speaks_of_this_attempt_only_under_a_transaction_not_heard_of_before() -> None:
    life = Life().created().failing().unknown()
    assert isinstance(life.until_due().feed(verified(DECLINED, "T-0", not_found_counts=False))[0], StatusChecked)
    assert isinstance(life.until_due().feed(verified(DECLINED, None, not_found_counts=False))[0], StatusChecked)
    no_call_under_way = verified(DECLINED, "T-new", failed_counts=False, not_found_counts=False)
    assert isinstance(life.until_due().feed(no_call_under_way)[0], StatusChecked)


def test_not_found_proves_nothing_once_the_reference_was_taken() -> None:
    life = Life().created().unknown()
    life.until_due().feed(verified(OutcomeClass.ACCEPTED))
    (event,) = life.until_due().feed(verified(OutcomeClass.NOT_FOUND))
    assert isinstance(event, StatusChecked)


def test_not_found_proves_nothing_once_references_are_forgotten() -> None:
    life = Life().created().unknown().asked_in_vain(4)
    assert life.known.state is State.REVIEW
    life.now += timedelta(days=31)
    (event,) = life.feed(verified(OutcomeClass.NOT_FOUND))
    assert isinstance(event, StatusChecked)


def test_a_settlement_that_nobody_answers_stays_one_in_review() -> None:
    life = Life().created().failing(3).until_due()
    life.now += timedelta(days=1)
    life.feed(verified(OutcomeClass.NO_ANSWER))
    assert life.known.state is State.REVIEW
    (event,) = life.feed(verified(OutcomeClass.NOT_FOUND))
    assert isinstance(event, FulfillmentFailed)
    assert event.final
    assert event.settled


def test_a_duplicate_on_a_later_send_is_what_it_says() -> None:
    life = Life().created().failing().attempting()
    life.feed(replied(OutcomeClass.DELIVERED, "T-1", duplicate=True))
    assert life.known.state is State.DELIVERED


def test_a_duplicate_on_an_override_s_first_send_is_unknown() -> None:
    life = Life().created().settled()
    life.feed(Commanded(command(OverrideFulfillment), cause()))
    life.feed(slot(life.now, cleared=True))
    (event,) = life.feed(replied(OutcomeClass.DELIVERED, "T-1", duplicate=True))
    assert isinstance(event, FulfillmentUncertain)
    assert event.taken


def test_an_override_is_one_attempt_under_a_reference_of_its_own() -> None:
    life = Life().created().settled()
    life.feed(Commanded(command(OverrideFulfillment), cause()))
    assert not life.feed(slot(life.now)), "not before everybody was asked"
    (event,) = life.feed(slot(life.now, cleared=True))
    assert isinstance(event, FulfillmentAttempted)
    assert (event.attempt, event.reference, event.trigger) == (4, f"{event.order_id}-r2", Trigger.OVERRIDE)
    life.feed(replied(OutcomeClass.TURNED_AWAY))
    (event,) = life.until_due().feed(slot(life.now))
    assert isinstance(event, FulfillmentAttempted)
    assert (event.attempt, event.reference) == (4, f"{event.order_id}-r2"), "a voided one is made again"
    life.feed(replied(DECLINED))
    assert life.known.state is State.SETTLING
    life.until_due().feed(verified(OutcomeClass.NOT_FOUND))
    life.feed(Commanded(command(OverrideFulfillment, 2), cause()))
    (event,) = life.feed(slot(life.now, cleared=True))
    assert isinstance(event, FulfillmentAttempted)
    assert event.reference == f"{event.order_id}-r3"
    assert life.known.references == (event.order_id, f"{event.order_id}-r2", f"{event.order_id}-r3")


def test_a_failure_is_confirmed_by_proof_alone() -> None:
    life = Life().created().settled()
    for answer, confirmed in [
        (verified(DECLINED, "T-0"), True),
        (verified(OutcomeClass.NOT_FOUND), True),
        (verified(OutcomeClass.NOT_FOUND, not_found_counts=False), False),
        (verified(OutcomeClass.NO_ANSWER), False),
        (verified(OutcomeClass.ACCEPTED), False),
        (verified(OutcomeClass.DELIVERED), False),
    ]:
        assert confirms_failure(life.known, answer, life.rules, life.now) is confirmed
    assert not confirms_failure(Life().created().known, verified(DECLINED), life.rules, life.now)


def test_an_earlier_attempt_s_failure_confirms_nothing_about_one_that_was_taken() -> None:
    """A person said that the last attempt delivered nothing: the provider has not."""
    life = Life().created().failing(2).unknown()
    life.until_due().feed(verified(OutcomeClass.ACCEPTED))
    life.asked_in_vain(4)
    assert life.known.state is State.REVIEW
    life.feed(Commanded(command(ResolveFulfillment, delivered=False), cause()))
    life.feed(verified(OutcomeClass.NO_ANSWER))
    assert life.known.state is State.FAILED
    assert not confirms_failure(life.known, verified(DECLINED, "T-0"), life.rules, life.now)
    assert confirms_failure(life.known, verified(DECLINED, "T-new"), life.rules, life.now)


def test_an_earlier_attempt_s_failure_is_no_leave_to_send_again_where_references_are_not_honoured() -> None:
    life = Life(rules=FORGETFUL).created().failing().unknown()
    (event,) = life.until_due().feed(verified(DECLINED, "T-0"))
    assert isinstance(event, ReviewRequested)


def test_nor_is_a_failure_under_a_name_that_the_earlier_attempt_may_have_had() -> None:
    """Its refusal named no transaction; the question may have found it all the same."""
    life = Life(rules=FORGETFUL).created().attempting()
    life.feed(replied(OutcomeClass.DECLINED_TRANSIENT))
    life.until_due().attempting().unknown()
    (event,) = life.until_due().feed(verified(DECLINED, "T-unheard"))
    assert isinstance(event, ReviewRequested)
    first = Life(rules=FORGETFUL).created().unknown()
    (event,) = first.until_due().feed(verified(DECLINED, "T-unheard"))
    assert isinstance(event, FulfillmentFailed), "there was no other"
    turned_away = Life(rules=FORGETFUL).created().attempting()
    turned_away.feed(replied(OutcomeClass.SUSPENDED))
    turned_away.until_due().attempting().unknown()
    (event,) = turned_away.until_due().feed(verified(DECLINED, "T-unheard"))
    assert isinstance(event, ReviewRequested), "the one that was given back may have left it"


def test_a_void_waits_as_long_as_it_was_told_and_a_second_at_least() -> None:
    for retry_after_s, pause_s in [(None, 1.0), (0.0, 1.0), (42.0, 42.0)]:
        life = Life().created().attempting()
        (event,) = life.feed(Replied(Outcome(OutcomeClass.TURNED_AWAY, retry_after_s=retry_after_s)))
        assert isinstance(event, AttemptVoided)
        assert event.next.at - life.now == timedelta(seconds=pause_s)


def test_a_suspension_does_not_count_towards_the_hour_of_being_turned_away() -> None:
    life = Life().created().attempting()
    for _ in range(10):
        life.feed(replied(OutcomeClass.SUSPENDED))
        life.now += timedelta(hours=2)
        life.attempting()
    (event,) = life.feed(replied(OutcomeClass.TURNED_AWAY))
    assert isinstance(event, AttemptVoided)


def test_a_second_command_does_not_overtake_one_that_waits() -> None:
    life = Life().created().failing()
    life.feed(Commanded(command(RetryFulfillment, 1), cause()))
    assert not life.feed(Commanded(command(RetryFulfillment, 1), cause())), "the same one again"
    (event,) = life.feed(Commanded(command(TriggerFulfillment, 2), cause()))
    assert isinstance(event, CommandRejected)
    (event,) = life.feed(slot(life.now))
    assert isinstance(event, FulfillmentAttempted)
    assert event.command is not None
    assert event.command.command_id == command(RetryFulfillment, 1).command_id
    assert life.known.pending is None


def test_who_did_what_and_why_is_in_the_event() -> None:
    life = Life().created().unknown().asked_in_vain(4)
    life.feed(Commanded(command(ResolveFulfillment, delivered=True), cause(7)))
    resolved, _ = life.feed(verified(OutcomeClass.NO_ANSWER))
    assert resolved.command is not None
    assert (resolved.command.actor, resolved.command.reason) == ("ama", "asked by the customer")
    assert resolved.cause == cause(7)


def test_what_customers_are_told_is_never_the_provider_s_own() -> None:
    life = Life().created().attempting()
    said = Outcome(OutcomeClass.DECLINED_PERMANENT, code="BARRED", message="wallet 4711 blocked by K. Mensah")
    (event,) = life.feed(Replied(said))
    assert isinstance(event, FulfillmentFailed)
    assert event.error_message == "This phone number is barred."


def test_an_order_s_memory_is_bounded() -> None:
    life = Life().created()
    for number in range(MAX_SPENT_IDS * 3):
        life.attempting().feed(replied(OutcomeClass.SUSPENDED, f"T-{number}"))
    assert len(life.known.spent_transaction_ids) + len(life.known.transaction_ids) <= MAX_SPENT_IDS + 1
    assert f"T-{MAX_SPENT_IDS * 3 - 1}" in life.known.transaction_ids
    assert len(dump_order(life.known)) < 1000
    assert order_created().order_id == life.known.order_id


# --- a person's word, and the answer to it ---------------------------------------------------------------------------


def in_review() -> Life:
    return Life().created().unknown().asked_in_vain(4)


@pytest.mark.parametrize(
    ("delivered", "said", "why", "then"),
    [
        (False, OutcomeClass.DELIVERED, "the provider says that it was delivered", ["FulfillmentSucceeded"]),
        (False, OutcomeClass.ACCEPTED, "the provider says that it is still working on it", []),
        (True, OutcomeClass.NOT_FOUND, "the provider says that it was not delivered", ["FulfillmentFailed"]),
    ],
)
def test_a_word_that_the_provider_contradicts_is_rejected_with_its_cause(
    delivered: bool,  # noqa: FBT001 - a parameter
    said: OutcomeClass,
    why: str,
    then: list[str],
) -> None:
    life = in_review()
    life.feed(Commanded(command(ResolveFulfillment, delivered=delivered), cause(7)))
    rejected, *others = life.feed(verified(said))
    assert isinstance(rejected, CommandRejected)
    assert (rejected.why, rejected.cause, rejected.at) == (why, cause(7), life.now)
    assert [event.type for event in others] == then


@pytest.mark.parametrize(("failures", "state"), [(0, State.WAITING), (2, State.FAILED)])
def test_not_delivered_by_a_person_s_word_is_tried_again_at_once_while_attempts_are_left(
    failures: int, state: State
) -> None:
    life = Life().created().failing(failures).unknown().asked_in_vain(4)
    life.feed(Commanded(command(ResolveFulfillment, delivered=False), cause(7)))
    resolved, failed = life.feed(verified(OutcomeClass.NO_ANSWER))
    assert resolved.cause == cause(7)
    assert isinstance(failed, FulfillmentFailed)
    assert failed.error_message == "The bundle was not delivered."
    assert failed.final == (state is State.FAILED)
    assert life.known.state is state
    assert life.known.next_at == (None if failed.final else life.now)


def test_all_attempts_made_is_all_attempts_made() -> None:
    life = Life().created().settled()
    (event,) = life.feed(Commanded(command(RetryFulfillment), cause()))
    assert isinstance(event, CommandRejected)
    assert event.why == "all 3 attempts were made"


@pytest.mark.parametrize(("failures", "state"), [(0, State.CREATED), (1, State.WAITING)])
def test_after_a_void_an_order_is_where_it_was_before_the_attempt(failures: int, state: State) -> None:
    life = Life().created().failing(failures).attempting()
    life.feed(replied(OutcomeClass.TURNED_AWAY))
    assert (life.known.state, life.known.attempts) == (state, failures)


@pytest.mark.parametrize("kind", [OutcomeClass.DELIVERED, UNKNOWN])
def test_an_override_that_a_reference_stands_in_the_way_of_is_rejected_with_its_cause(kind: OutcomeClass) -> None:
    life = Life().created().settled()
    life.feed(Commanded(command(OverrideFulfillment), cause(7)))
    rejected, *others = life.feed(Asked(Outcome(kind), "R-1"))
    assert isinstance(rejected, CommandRejected)
    assert rejected.cause == cause(7)
    delivered = kind is OutcomeClass.DELIVERED
    said = "reference R-1 was delivered" if delivered else "it is not proven that reference R-1 was not delivered"
    assert rejected.why == said
    assert [event.type for event in others] == ["FulfillmentSucceeded"] * delivered


def test_a_duplicate_on_the_first_send_says_that_the_reference_is_taken() -> None:
    life = Life().created().attempting()
    life.feed(replied(UNKNOWN, duplicate=True))
    assert (life.known.state, life.known.taken) == (State.UNKNOWN, True)


def test_a_late_command_is_the_last_thing_that_is_remembered_of_an_order() -> None:
    life = Life().created().delivered()
    life.now += timedelta(days=1)
    life.feed(Commanded(command(RetryFulfillment), cause()))
    assert life.known.ended_at == life.now


def test_a_command_repeated_after_its_answer_says_nothing_new() -> None:
    life = Life().created().attempting()
    life.feed(replied(DECLINED))
    retry = Commanded(command(RetryFulfillment), cause())
    life.feed(retry)
    life.feed(slot(life.now))
    life.feed(replied(DECLINED))
    assert life.known.attempts == 2
    assert not life.feed(retry), "or it would be an attempt more"
    assert life.known.pending is None


def test_a_command_about_an_order_that_changed_since_it_was_looked_at_is_rejected() -> None:
    life = Life().created().attempting()
    life.feed(replied(DECLINED))
    seen = life.known.sequence
    late = command(RetryFulfillment).model_copy(update={"expected_sequence": seen - 1})
    said = life.feed(Commanded(late, cause()))
    assert [event.why for event in said if isinstance(event, CommandRejected) and "changed" in event.why]
    current = command(RetryFulfillment, 2).model_copy(update={"expected_sequence": life.known.sequence})
    life.feed(Commanded(current, cause()))
    assert life.known.pending == current


def test_a_request_says_all_that_is_known_of_its_order() -> None:
    created = order_created().model_copy(update={"price": Decimal("4.50"), "package_id": "p-1", "account": "acme"})
    (event,) = decide(None, Received(created, cause(7)), RULES, NOW).events
    assert event == FulfillmentRequested(
        order_id=ORDER_ID,
        sequence=1,
        phone_number="+233233123456",
        size_mb=1000,
        network="AT-iShare",
        at=NOW,
        cause=cause(7),
        provider="memory",
        max_attempts=3,
        order_created_at=NOW,
        price="4.50",
        package_id="p-1",
        account="acme",
        next=Next(act=Act.ATTEMPT, at=NOW, schedule_id=1),
    )


def test_a_request_that_nobody_serves_names_nobody_and_plans_nothing() -> None:
    (event,) = decide(None, Received(order_created(), cause()), NOBODY, NOW).events
    assert isinstance(event, FulfillmentRequested)
    assert (event.provider, event.next, event.price) == (None, None, None)
    life = Life(NOBODY).created()
    assert life.known.state is State.HELD
    assert decide(replace(life.known, next_act=Act.ATTEMPT, next_at=NOW), slot(NOW), NOBODY, NOW).events == ()


@pytest.mark.parametrize("changed", [{"phone": "0244123456"}, {"network": "MTN"}, {"size_mb": 2000}])
def test_an_order_that_is_known_otherwise_is_poison(changed: dict[str, Any]) -> None:
    known = Life().created().known
    with pytest.raises(PoisonError, match=r"^the order is known with another phone number, size or network$") as told:
        decide(known, Received(order_created(**changed), cause()), RULES, NOW)
    assert told.value.kind is PoisonKind.CONFLICT


def test_a_command_about_nobody_s_order_is_poison_that_names_it() -> None:
    with pytest.raises(PoisonError, match=r"^RetryFulfillment for an order that is not known$"):
        decide(None, Commanded(command(RetryFulfillment), cause()), RULES, NOW)


def test_a_word_that_is_rejected_gives_its_own_record_as_the_cause() -> None:
    waiting = Life().created().failing().known
    pending = waiting.with_pending(command(RetryFulfillment), cause(1))
    late = command(RetryFulfillment, 2).model_copy(update={"expected_sequence": 1})
    for order, said, why in (
        (pending, command(TriggerFulfillment, 2), "another command for this order is under way"),
        (waiting, late, "the order changed since it was looked at: it is waiting"),
        (waiting, command(ResolveFulfillment, 2), "the order is waiting, not in review"),
    ):
        (event,) = decide(order, Commanded(said, cause(9)), RULES, NOW).events
        assert isinstance(event, CommandRejected)
        assert (event.why, event.cause, event.command and event.command.actor) == (why, cause(9), "ama")


def test_a_cancellation_says_who_wanted_it_and_where_that_was_read() -> None:
    order = Life().created().known
    (event,) = decide(order, Commanded(command(CancelFulfillment), cause(9)), RULES, NOW).events
    assert isinstance(event, FulfillmentCancelled)
    assert (event.cause, event.command and event.command.command_id) == (
        cause(9),
        "22222222-2222-4222-8222-000000000001",
    )


def test_an_attempt_says_what_brought_it_about() -> None:
    first = Life().created()
    (event,) = decide(first.known, slot(first.now), RULES, first.now).events
    assert isinstance(event, FulfillmentAttempted)
    assert (event.trigger, event.cause) == (Trigger.FIRST, None)
    again = first.failing().until_due()
    (event,) = decide(again.known, slot(again.now), RULES, again.now).events
    assert isinstance(event, FulfillmentAttempted)
    assert event.trigger is Trigger.RETRY
    asked_for = again.known.with_pending(command(TriggerFulfillment), cause(5))
    (event,) = decide(asked_for, slot(again.now), RULES, again.now).events
    assert isinstance(event, FulfillmentAttempted)
    assert (event.trigger, event.cause) == (Trigger.MANUAL, cause(5)), "the record of the command that waited"


@pytest.mark.parametrize(("seconds", "proven"), [(-1, True), (0, False)])
def test_absence_is_proven_only_while_the_provider_remembers(seconds: float, *, proven: bool) -> None:
    life = Life().created().unknown()
    begun = life.known.attempted_at
    assert begun is not None
    now = begun + timedelta(seconds=MEMORY_PROFILE.reference_memory_s + seconds)
    (event,) = decide(life.known, verified(OutcomeClass.NOT_FOUND), RULES, now).events
    assert isinstance(event, FulfillmentFailed) is proven


def test_of_a_provider_that_is_known_no_more_nothing_proves_absence() -> None:
    life = Life().created().unknown()
    (event,) = decide(life.known, verified(OutcomeClass.NOT_FOUND), NOBODY, life.now).events
    assert isinstance(event, StatusChecked)


@pytest.mark.parametrize("kind", [OutcomeClass.DELIVERED, OutcomeClass.ACCEPTED])
def test_what_went_well_has_no_error_whatever_code_came_with_it(kind: OutcomeClass) -> None:
    life = Life().created().attempting()
    (event,) = life.feed(Replied(Outcome(kind, code="SUCCESS")))
    assert isinstance(event, FulfillmentSucceeded | FulfillmentAccepted)
    assert event.error_code is None


def test_what_was_accepted_is_asked_about_after_the_first_step_of_the_ladder() -> None:
    life = Life().created().attempting()
    (event,) = life.feed(replied(OutcomeClass.ACCEPTED))
    assert isinstance(event, FulfillmentAccepted)
    assert (event.next.act, event.next.at - event.at) == (Act.VERIFY, timedelta(seconds=15))


@pytest.mark.parametrize(("taken", "confirmed"), [(False, True), (True, False)])
def test_a_failure_without_a_name_is_another_s_only_where_the_reference_was_taken(
    *, taken: bool, confirmed: bool
) -> None:
    order = replace(Life().created().failing().known, state=State.FAILED, taken=taken)
    said = verified(DECLINED, not_found_counts=False)
    assert confirms_failure(order, said, RULES, NOW) is confirmed
