"""The pure fold, against the table of an order's life."""

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.fulfillment import Act, FulfillmentEvent, Trigger
from services.projector.projection import STATUS, Quarantined, Row, State, ends_orders, fold, received, rejected
from tests.projector.events import COMMAND, NOON, Story, behalf, created, placed

ORDER = "8c9d1d58-6a0e-4d3f-9a3e-2f5c1f0f7a11"
ENDS = {State.DELIVERED, State.FAILED, State.CANCELLED}


def story() -> Story:
    return Story(ORDER)


@pytest.mark.parametrize(
    ("told", "state", "status", "attempts"),
    [
        (story().requested(), State.CREATED, "pending", 0),
        (story().requested(provider=None), State.HELD, "pending", 0),
        (story().requested().attempted(), State.ATTEMPTING, "processing", 1),
        (story().requested().attempted().succeeded(), State.DELIVERED, "success", 1),
        (story().requested().attempted().accepted(), State.ACCEPTED, "processing", 1),
        (story().requested().attempted().accepted().checked(), State.ACCEPTED, "processing", 1),
        (story().requested().attempted().failed(), State.WAITING, "failed", 1),
        (story().requested().attempted().failed(Act.SETTLE), State.SETTLING, "failed", 1),
        (story().requested().attempted().failed(None), State.FAILED, "failed", 1),
        (story().requested().attempted().voided(), State.CREATED, "pending", 0),
        (story().requested().attempted().failed().attempted().voided(), State.WAITING, "failed", 1),
        (story().requested().attempted().uncertain(), State.UNKNOWN, "processing", 1),
        (story().requested().attempted().uncertain().checked(), State.UNKNOWN, "processing", 1),
        (story().requested().attempted().uncertain().reviewed(), State.REVIEW, "processing", 1),
        (story().requested().attempted().uncertain().reviewed().resolved(), State.REVIEW, "processing", 1),
        (story().requested().cancelled(), State.CANCELLED, "failed", 0),
        (story().requested().attempted().succeeded().rejected(), State.DELIVERED, "success", 1),
    ],
)
def test_each_event_leads_to_its_state(told: Story, state: State, status: str, attempts: int) -> None:
    row = told.row()
    assert (row.state, row.status, row.attempt_number) == (state, status, attempts)
    assert row.sequence == told.sequence
    assert row.updated_at == told.events[-1].at


def test_an_attempt_names_its_reference_and_deadline() -> None:
    told = story().requested().attempted(Trigger.FIRST)
    row = told.row()
    assert (row.reference, row.trigger, row.provider) == (ORDER, "first", "at_ishare")
    assert (row.next_act, row.schedule_id) == ("reply", 2)
    assert row.next_at is not None
    assert row.retry_after is None


def test_a_success_says_when_and_what_the_provider_said() -> None:
    told = story().requested().attempted().failed().attempted(Trigger.RETRY).succeeded()
    row = told.row()
    assert row.fulfilled_at == told.events[-1].at
    assert (row.error_code, row.error_message) == (None, None)
    assert (row.transaction_id, row.api_response) == ("tx-1", '{"status":"success"}')
    assert row.created_at == NOON


def test_a_failed_attempt_says_why_and_when_it_goes_on() -> None:
    row = story().requested().attempted().failed().row()
    assert (row.error_code, row.error_message) == ("BUSY", "The network is busy")
    assert row.retry_after == row.next_at
    assert row.retry_after is not None


def test_a_new_attempt_leaves_nothing_of_the_last_one() -> None:
    row = story().requested().attempted().failed().attempted(Trigger.RETRY).row()
    assert (row.error_code, row.error_message, row.api_response, row.retry_after) == (None, None, None, None)


def test_a_question_that_proves_nothing_leaves_what_the_row_says() -> None:
    row = story().requested().attempted().uncertain().checked().row()
    assert row.error_message == "Not known yet"
    assert row.api_response == '{"code":"PROCESSING"}'


def test_a_held_order_says_why() -> None:
    row = story().requested(provider=None).row()
    assert row.error_message == "No provider serves AT-iShare yet"
    assert row.next_at is None


def test_a_rejected_command_says_why_and_the_next_answer_forgets_it() -> None:
    told = story().requested().attempted().uncertain().reviewed().rejected("not in review")
    assert (told.row().command_id, told.row().command_rejected) == (COMMAND, "not in review")
    told.resolved()
    assert (told.row().command_id, told.row().command_rejected) == (COMMAND, None)


def test_a_received_order_is_pending_and_a_dead_letter_ends_it() -> None:
    row = received(created(ORDER), max_attempts=3)
    assert (row.state, row.status, row.sequence, row.max_attempts) == ("received", "pending", 0, 3)
    refused = rejected(row, "stale", "too old", NOON)
    assert (refused.state, refused.status, refused.error_code) == ("rejected", "failed", "stale")
    assert refused.error_message == "The order was refused: too old"


def test_a_conflicting_duplicate_ends_no_order() -> None:
    assert not ends_orders("conflict")
    assert ends_orders("stale")


# --- the sequence ----------------------------------------------------------------------------------------------------


def breach_gap(events: list[FulfillmentEvent]) -> list[FulfillmentEvent]:
    return [events[0], events[2]]


def breach_repetition(events: list[FulfillmentEvent]) -> list[FulfillmentEvent]:
    return [events[0], events[1], events[1]]


def breach_no_beginning(events: list[FulfillmentEvent]) -> list[FulfillmentEvent]:
    return events[1:]


def breach_two_beginnings(events: list[FulfillmentEvent]) -> list[FulfillmentEvent]:
    return [events[0], events[0].model_copy(update={"sequence": 2})]


@pytest.mark.parametrize(
    ("breach", "why", "left"),
    [
        (breach_gap, "a gap: event 2 is missing", State.CREATED),
        (breach_repetition, "a repetition: event 2 was applied already", State.ATTEMPTING),
        (breach_no_beginning, "a gap: event 1 is missing", None),
        (breach_two_beginnings, "FulfillmentRequested cannot be event 2 of an order", State.CREATED),
    ],
)
def test_a_breach_of_the_sequence_leaves_the_row_and_marks_it(
    breach: Callable[[list[FulfillmentEvent]], list[FulfillmentEvent]], why: str, left: State | None
) -> None:
    events = breach(story().requested().attempted().succeeded().events)
    other = Story(str(uuid.uuid4())).requested().attempted().succeeded()
    folded = fold({}, placed(events + other.events))
    assert folded.quarantined[0].why == why
    assert folded.rows[other.order_id] == other.row()
    row = folded.rows.get(ORDER)
    assert (row.state if row else None) == left
    assert row is None or row.quarantined


def test_nothing_is_applied_to_a_quarantined_order() -> None:
    told = story().requested().attempted().succeeded()
    first = fold({}, placed([told.events[0], told.events[0]]))
    second = fold(first.rows, placed(told.events[1:]))
    assert second.rows[ORDER]._replace(quarantined=False) == story().requested().row()
    assert [entry.why for entry in second.quarantined] == ["the order was quarantined before"] * 2


# --- for any history -------------------------------------------------------------------------------------------------

STEPS: list[Callable[[Story], Story]] = [
    lambda told: told.attempted(),
    lambda told: told.succeeded(),
    lambda told: told.accepted(),
    lambda told: told.failed(),
    lambda told: told.failed(Act.SETTLE),
    lambda told: told.failed(None),
    lambda told: told.voided(),
    lambda told: told.uncertain(),
    lambda told: told.checked(),
    lambda told: told.reviewed(),
    lambda told: told.resolved(),
    lambda told: told.cancelled(),
    lambda told: told.rejected(),
]


@st.composite
def stories(draw: st.DrawFn) -> list[Story]:
    told = []
    for number in range(draw(st.integers(1, 3))):
        one = Story(str(uuid.UUID(int=number + 1))).requested(draw(st.sampled_from(["at_ishare", None])))
        for step in draw(st.lists(st.sampled_from(STEPS), max_size=8)):
            step(one)
        told.append(one)
    return told


@given(stories(), st.data())
def test_replay_is_the_incremental_fold(told: list[Story], data: st.DataObject) -> None:
    """However the orders' events are mixed, and wherever batches end."""
    queues = [list(one.events) for one in told]
    mixed: list[FulfillmentEvent] = []
    while queues := [queue for queue in queues if queue]:
        mixed.append(data.draw(st.sampled_from(queues)).pop(0))
    rows: dict[str, Row] = {}
    rest = placed(mixed)
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        folded = fold(rows, rest[:size])
        assert not folded.quarantined
        rows |= folded.rows
        rest = rest[size:]
    assert rows == {one.order_id: one.row() for one in told}


@given(stories())
def test_every_row_holds_together(told: list[Story]) -> None:
    for row in (one.row() for one in told):
        state = State(row.state)
        assert row.status == STATUS[state]
        assert (row.retry_after is not None) == (state in {State.WAITING, State.SETTLING})
        assert row.retry_after in {None, row.next_at}
        assert state in ENDS | {State.HELD} or row.next_at is not None
        assert (row.next_act is None) == (row.next_at is None) == (row.schedule_id is None)


# --- whole rows ------------------------------------------------------------------------------------------------------


def test_an_order_s_first_row_says_all_that_its_first_event_says() -> None:
    plan = story().plan(Act.ATTEMPT, 0)
    assert story().requested(package_id="p-1", account="acme", command=behalf()).row() == Row(
        order_id=ORDER,
        network="AT-iShare",
        phone_number="+233123456789",
        size_mb=1500,
        price=Decimal("4.50"),
        package_id="p-1",
        account="acme",
        created_at=NOON,
        updated_at=NOON + timedelta(seconds=1),
        max_attempts=3,
        status="pending",
        state=State.CREATED,
        sequence=1,
        provider="at_ishare",
        next_act=Act.ATTEMPT,
        next_at=plan.at,
        schedule_id=plan.schedule_id,
        command_id=COMMAND,
    )


def test_a_received_order_s_row_says_all_that_was_bought() -> None:
    bought = created(ORDER, price="4.50", package_id="p-1", account="acme")
    assert received(bought, max_attempts=3) == Row(
        order_id=ORDER,
        network="AT-iShare",
        phone_number="+233123456789",
        size_mb=1500,
        price=Decimal("4.50"),
        package_id="p-1",
        account="acme",
        created_at=NOON,
        updated_at=NOON,
        max_attempts=3,
        status="pending",
        state=State.RECEIVED,
        sequence=0,
    )


def test_a_refusal_without_words_is_a_refusal() -> None:
    at = NOON + timedelta(hours=1)
    row = rejected(received(created(ORDER), max_attempts=3), "stale", None, at)
    assert (row.error_message, row.updated_at) == ("The order was refused", at)


def test_what_is_quarantined_names_its_place_and_what_was_expected() -> None:
    events = story().requested().attempted().succeeded().events
    (entry,) = fold({}, placed([events[0], events[2]])).quarantined
    at = datetime(1970, 1, 1, tzinfo=UTC)
    why = "a gap: event 2 is missing"
    assert entry == Quarantined("fulfillment.events", 0, 1, ORDER, 2, 3, why, at)
    (entry,) = fold({}, placed(events[1:2])).quarantined
    assert (entry.order_id, entry.sequence_expected, entry.sequence_seen) == (ORDER, 1, 2)


def test_an_answer_without_a_response_keeps_the_last_one() -> None:
    told = story().requested().attempted().accepted(transaction_id="tx-9", api_response={"code": "OK"})
    told.succeeded(transaction_id=None, api_response=None)
    assert (told.row().transaction_id, told.row().api_response) == ("tx-9", '{"code":"OK"}')


def test_a_question_that_says_why_is_told() -> None:
    told = story().requested().attempted().uncertain()
    before = told.row().error_message
    told.checked(error_code="PROCESSING")
    assert (told.row().error_code, told.row().error_message) == ("PROCESSING", before)


def test_an_order_without_a_price_has_none() -> None:
    story = Story(str(uuid.uuid4())).requested()
    story.events[0] = story.events[0].model_copy(update={"price": None})
    assert story.row().price is None
