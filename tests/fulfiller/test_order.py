"""What is kept of an order in fulfillment.state, and what its events make of it, field by field."""

from datetime import UTC, datetime, timedelta

import orjson
import pytest
from pydantic import ValidationError

from schemas.commands import OverrideFulfillment, RetryFulfillment
from schemas.fulfillment import Act, Cause, Trigger
from services.fulfiller.evolution import evolve
from services.fulfiller.order import Order, State, dump_order, load_order
from tests.fulfiller.lives import ORDER_ID, command
from tests.projector.events import COMMAND, NOON, Story

NEW = Order(
    order_id=ORDER_ID, phone_number="+233233123456", size_mb=1000, network="AT-iShare", state=State.CREATED, sequence=1
)
SAID_OF_NEW = {
    "order_id": ORDER_ID,
    "phone_number": "+233233123456",
    "size_mb": 1000,
    "network": "AT-iShare",
    "state": "created",
    "sequence": 1,
}


def test_of_a_new_order_no_more_is_kept_than_there_is_to_say() -> None:
    assert orjson.loads(dump_order(NEW)) == SAID_OF_NEW


def test_what_differs_is_kept_whole_and_read_back() -> None:
    at = datetime(2026, 1, 31, 12, tzinfo=UTC)
    order = Order(
        order_id=ORDER_ID,
        phone_number="+233233123456",
        size_mb=1000,
        network="AT-iShare",
        state=State.REVIEW,
        sequence=9,
        provider="memory",
        attempts=2,
        overrides=1,
        next_act=Act.VERIFY,
        next_at=at,
        schedule_id=8,
        steps=3,
        settlement=True,
        taken=True,
        transaction_ids=("T-2",),
        spent_transaction_ids=("T-0", "T-1"),
        voided_since=at,
        was_voided=True,
        attempted_at=at,
        ended_at=at,
        pending=command(OverrideFulfillment),
        pending_cause=Cause(topic="fulfillment.commands", partition=1, offset=4),
        answered_command="22222222-2222-4222-8222-000000000007",
    )
    assert orjson.loads(dump_order(order)) == SAID_OF_NEW | {
        "state": "review",
        "sequence": 9,
        "provider": "memory",
        "attempts": 2,
        "overrides": 1,
        "next_act": "verify",
        "next_at": "2026-01-31T12:00:00Z",
        "schedule_id": 8,
        "steps": 3,
        "settlement": True,
        "taken": True,
        "transaction_ids": ["T-2"],
        "spent_transaction_ids": ["T-0", "T-1"],
        "voided_since": "2026-01-31T12:00:00Z",
        "was_voided": True,
        "attempted_at": "2026-01-31T12:00:00Z",
        "ended_at": "2026-01-31T12:00:00Z",
        "pending": {
            "type": "OverrideFulfillment",
            "version": 1,
            "command_id": "22222222-2222-4222-8222-000000000001",
            "order_id": ORDER_ID,
            "actor": "ama",
            "reason": "asked by the customer",
            "at": "2026-01-31T12:00:00Z",
            "expected_sequence": None,
        },
        "pending_cause": {"topic": "fulfillment.commands", "partition": 1, "offset": 4},
        "answered_command": "22222222-2222-4222-8222-000000000007",
    }
    assert load_order(dump_order(order)) == order


def test_what_a_newer_version_keeps_is_not_read_over() -> None:
    with pytest.raises(ValidationError, match="newer"):
        load_order(orjson.dumps(SAID_OF_NEW | {"newer": 1}))


def test_of_a_command_that_waits_no_more_is_kept_than_it_is_known_by() -> None:
    said = command(RetryFulfillment).model_dump() | {"colour": "red"}
    cause = Cause(topic="fulfillment.commands", partition=0, offset=2)
    order = NEW.with_pending(RetryFulfillment.model_validate(said), cause)
    assert (order.pending, order.pending_cause) == (command(RetryFulfillment), cause)
    assert order.is_open
    assert NEW.pending is None


@pytest.mark.parametrize(
    ("attempts", "overrides", "is_first"), [(0, 0, True), (1, 0, True), (2, 0, False), (2, 1, True), (3, 2, True)]
)
def test_whether_the_next_send_is_the_first_under_its_reference(
    attempts: int, overrides: int, *, is_first: bool
) -> None:
    order = Order(
        order_id=ORDER_ID,
        phone_number="+233233123456",
        size_mb=500,
        network="MTN",
        state=State.ATTEMPTING,
        sequence=1,
        attempts=attempts,
        overrides=overrides,
    )
    assert order.is_first_send is is_first
    assert order.references == (ORDER_ID, f"{ORDER_ID}-r2", f"{ORDER_ID}-r3")[: overrides + 1]
    assert order.reference == order.references[-1]
    assert order.bundle == ("+233233123456", 500, "MTN")


# --- what events make of it -------------------------------------------------------------------------------------------


def folded(story: Story) -> Order:
    order: Order | None = None
    for event in story.events:
        order = evolve(order, event)
    assert order is not None
    return order


def test_an_attempt_waits_for_its_reply_under_a_plan_of_its_own() -> None:
    story = Story(ORDER_ID).requested().attempted()
    order = folded(story)
    assert (order.state, order.provider, order.attempts, order.overrides) == (State.ATTEMPTING, "at_ishare", 1, 0)
    assert (order.next_act, order.next_at, order.schedule_id) == (Act.REPLY, NOON + timedelta(seconds=31), 2)
    assert (order.attempted_at, order.ended_at, order.sequence) == (NOON + timedelta(seconds=2), None, 2)


@pytest.mark.parametrize(("trigger", "taken"), [(Trigger.RETRY, True), (Trigger.OVERRIDE, False)])
def test_a_reference_that_was_taken_stays_so_until_there_is_a_new_one(trigger: Trigger, *, taken: bool) -> None:
    story = Story(ORDER_ID).requested().attempted().accepted().failed().attempted(trigger)
    order = folded(story)
    assert order.taken is taken
    assert order.overrides == (not taken)


def test_an_answer_ends_the_time_for_which_attempts_were_voided() -> None:
    story = Story(ORDER_ID).requested().attempted().voided()
    assert folded(story).voided_since == NOON + timedelta(seconds=3)
    story.attempted().failed()
    order = folded(story)
    assert (order.voided_since, order.was_voided, order.ended_at) == (None, True, None)


def test_the_first_of_many_voided_attempts_is_remembered() -> None:
    story = Story(ORDER_ID).requested().attempted().voided().attempted().voided()
    order = folded(story)
    assert (order.voided_since, order.attempts, order.state) == (NOON + timedelta(seconds=3), 0, State.CREATED)
    assert (order.next_act, order.schedule_id) == (Act.ATTEMPT, 5)


def test_an_order_that_failed_for_good_ended_then() -> None:
    story = Story(ORDER_ID).requested().attempted().failed(None)
    order = folded(story)
    assert (order.state, order.ended_at, order.next_act) == (State.FAILED, NOON + timedelta(seconds=3), None)
    order = folded(story.rejected())
    assert order.ended_at == NOON + timedelta(seconds=4), "it is remembered from its last event on"
    assert order.answered_command == COMMAND


def test_a_word_that_was_rejected_ends_no_order() -> None:
    assert folded(Story(ORDER_ID).requested().rejected()).ended_at is None


@pytest.mark.parametrize("taken", [True, False])
def test_a_review_knows_whether_the_reference_was_taken(*, taken: bool) -> None:
    story = Story(ORDER_ID).requested().attempted().uncertain().reviewed()
    story.events[-1] = story.events[-1].model_copy(update={"taken": taken})
    order = folded(story)
    assert (order.state, order.taken, order.settlement) == (State.REVIEW, taken, False)


def test_a_review_of_what_was_to_be_settled_is_of_the_settlement() -> None:
    order = folded(Story(ORDER_ID).requested().attempted().failed(Act.SETTLE).reviewed())
    assert (order.state, order.settlement) == (State.REVIEW, True)


def test_of_an_order_that_ended_no_more_is_kept_than_answers_a_repetition() -> None:
    story = Story(ORDER_ID).requested().attempted().accepted().checked().succeeded()
    assert folded(story) == Order(
        order_id=ORDER_ID,
        phone_number="+233123456789",
        size_mb=1500,
        network="AT-iShare",
        state=State.DELIVERED,
        sequence=5,
        attempts=1,
        ended_at=NOON + timedelta(seconds=5),
    )


def test_transactions_are_remembered_once_each_and_spent_with_their_attempt() -> None:
    story = Story(ORDER_ID).requested().attempted().accepted(transaction_id="T-1").checked(transaction_id="T-1")
    story.checked(transaction_id="T-2")
    assert folded(story).transaction_ids == ("T-1", "T-2")
    assert folded(story).steps == 1
    order = folded(story.failed().attempted())
    assert (order.transaction_ids, order.spent_transaction_ids, order.steps) == ((), ("T-1", "T-2"), 0)


def test_events_that_do_not_follow_are_refused() -> None:
    requested, attempted, failed = Story(ORDER_ID).requested().attempted().failed().events
    order = evolve(None, requested)
    with pytest.raises(ValueError, match=f"^order {ORDER_ID} was requested twice$"):
        evolve(order, requested)
    with pytest.raises(ValueError, match=f"^order {ORDER_ID}: event 3 does not follow 1$"):
        evolve(order, failed)
    with pytest.raises(ValueError, match=f"^order {ORDER_ID}: event 2 does not follow 0$"):
        evolve(None, attempted)


def test_an_order_that_is_new_is_its_provider_s_or_is_held() -> None:
    order = folded(Story(ORDER_ID).requested())
    assert (order.state, order.provider) == (State.CREATED, "at_ishare")
    assert (order.next_act, order.next_at, order.schedule_id) == (Act.ATTEMPT, NOON, 1)
    held = folded(Story(ORDER_ID).requested(None))
    assert (held.state, held.provider, held.next_act, held.next_at, held.schedule_id) == (
        *(State.HELD, None),
        *(None, None, 0),
    )


def test_an_attempt_begins_anew_whatever_was_before_it() -> None:
    story = Story(ORDER_ID).requested(None).attempted()
    assert folded(story).provider == "at_ishare", "who serves it now"
    story.failed(None).attempted(Trigger.MANUAL)
    assert folded(story).ended_at is None
    uncertain = Story(ORDER_ID).requested().attempted().failed(Act.SETTLE).uncertain()
    uncertain.events[-1] = uncertain.events[-1].model_copy(update={"settlement": True})
    assert folded(uncertain).settlement
    assert not folded(uncertain.failed().attempted()).settlement


@pytest.mark.parametrize(("trigger", "was_voided"), [(Trigger.RETRY, True), (Trigger.OVERRIDE, False)])
def test_a_send_that_was_given_back_is_of_its_reference(trigger: Trigger, *, was_voided: bool) -> None:
    order = folded(Story(ORDER_ID).requested().attempted().voided().attempted(trigger))
    assert order.was_voided is was_voided
