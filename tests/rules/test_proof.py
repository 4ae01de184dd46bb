"""What proves that nothing was delivered, what an order is known by, and when the next act is due: the core alone."""

from datetime import timedelta

import pytest

from schemas.admission import Admission, check_key
from schemas.commands import RetryFulfillment
from schemas.fulfillment import Act
from schemas.poison import PoisonError, PoisonKind
from services.fulfiller.inputs import Commanded, Received, Verified
from services.fulfiller.order import State
from services.fulfiller.providers.memory import MEMORY_PROFILE
from services.fulfiller.providers.port import OutcomeClass
from services.fulfiller.retry import after_failure
from tests.fulfiller.lives import (
    BLIND,
    FORGETFUL,
    NOW,
    ORDER_ID,
    RULES,
    Life,
    cause,
    command,
    order_created,
    replied,
    rules,
    slot,
    verified,
)

NOT_FOUND, FAILED = OutcomeClass.NOT_FOUND, OutcomeClass.DECLINED_TRANSIENT
MINUTE = timedelta(minutes=1)


def said(life: Life, what: Verified) -> list[str]:
    return [type(event).__name__ for event in life.until_due().feed(what)]


def test_not_found_is_proof_when_it_comes_late_enough() -> None:
    assert said(Life().created().unknown(), verified(NOT_FOUND)) == ["FulfillmentFailed"]


def test_not_found_proves_nothing_too_early_of_what_was_taken_or_of_what_is_forgotten() -> None:
    assert said(Life().created().unknown(), verified(NOT_FOUND, not_found_counts=False)) == ["StatusChecked"]
    assert said(Life().created().accepted(), verified(NOT_FOUND)) == ["StatusChecked"], "it said that it took it"
    forgotten = Life().created().unknown()
    forgotten.now += timedelta(seconds=MEMORY_PROFILE.reference_memory_s)
    assert [type(event).__name__ for event in forgotten.feed(verified(NOT_FOUND))] == ["StatusChecked"]


def test_failed_is_proof_only_when_it_speaks_of_this_attempt() -> None:
    def second_attempt() -> Life:
        """The first was declined as T-0; of the second nothing is known."""
        return Life().created().failing().unknown()

    early = {"not_found_counts": False}
    assert said(second_attempt(), verified(FAILED, "T-0", **early)) == ["StatusChecked"], "the first attempt's"
    assert said(second_attempt(), verified(FAILED, None, **early)) == ["StatusChecked"], "nobody's"
    assert said(second_attempt(), verified(FAILED, "T-9", **early)) == ["FulfillmentFailed"]
    assert said(second_attempt(), verified(FAILED, "T-9", failed_counts=False, **early)) == ["StatusChecked"]


def test_no_answer_proves_nothing_and_spends_no_step() -> None:
    life = Life().created().unknown()
    assert said(life, verified(OutcomeClass.NO_ANSWER)) == []
    assert (life.known.state, life.known.steps) == (State.UNKNOWN, 0)


def test_without_a_status_query_what_is_unknown_goes_to_a_person() -> None:
    assert Life(BLIND).created().unknown().known.state is State.REVIEW


def test_without_idempotent_references_not_found_goes_to_a_person() -> None:
    assert said(Life(FORGETFUL).created().unknown(), verified(NOT_FOUND)) == ["ReviewRequested"]


def test_a_first_send_that_is_a_duplicate_is_unknown() -> None:
    life = Life().created().attempting()
    life.feed(replied(OutcomeClass.DELIVERED, "T", duplicate=True))
    assert life.known.state is State.UNKNOWN


def test_delays_follow_the_attempts_and_the_last_leads_to_the_settlement() -> None:
    assert [after_failure(RULES, attempt) for attempt in (1, 2, 3)] == [
        (Act.ATTEMPT, 5 * MINUTE),
        (Act.ATTEMPT, 15 * MINUTE),
        (Act.SETTLE, 60 * MINUTE),
    ]
    more = rules(MEMORY_PROFILE, max_attempts=5)
    assert [after_failure(more, attempt) for attempt in (3, 4, 5)] == [
        (Act.ATTEMPT, 60 * MINUTE),
        (Act.ATTEMPT, 60 * MINUTE),
        (Act.SETTLE, 60 * MINUTE),
    ]
    life = Life().created().failing(3)
    assert (life.known.state, life.known.next_act, life.known.attempts) == (State.SETTLING, Act.SETTLE, 3)


def test_a_manual_act_overtakes_the_planned_one() -> None:
    life = Life().created().failing()
    planned = life.known.schedule_id
    life.feed(Commanded(command(RetryFulfillment), cause()))
    life.feed(slot(life.now))
    assert (life.known.state, life.known.attempts) == (State.ATTEMPTING, 2)
    assert life.known.schedule_id != planned


def poison(kind: PoisonKind) -> pytest.RaisesExc[PoisonError]:
    return pytest.raises(PoisonError, check=lambda error: error.kind is kind)


def test_the_same_order_again_changes_nothing_and_another_bundle_is_a_conflict() -> None:
    for life in (Life().created(), Life().created().delivered(), Life().created().refused()):
        assert life.feed(Received(order_created(), cause(9))) == ()
        for other in ({"size_mb": 2000}, {"phone": "0244123456"}, {"network": "MTN"}):
            with poison(PoisonKind.CONFLICT):
                life.feed(Received(order_created(**other), cause(9)))


def test_a_command_about_nobody_is_poison() -> None:
    with poison(PoisonKind.UNKNOWN_ORDER):
        Life().feed(Commanded(command(RetryFulfillment), cause()))


def test_age_is_measured_against_the_records_append_time() -> None:
    week = Admission(timedelta(days=7), max_size_mb=100_000)
    created = order_created()  # at NOW
    week.check(created, NOW, None)
    week.check(created, NOW + timedelta(days=7), None)
    week.check(created, NOW - 5 * MINUTE, None)
    with poison(PoisonKind.STALE):
        week.check(created, NOW + timedelta(days=7, seconds=1), None)
    with poison(PoisonKind.STALE):
        week.check(created, NOW, forgotten_before=NOW + MINUTE)
    with poison(PoisonKind.FUTURE):
        week.check(created, NOW - 6 * MINUTE, None)
    with poison(PoisonKind.TOO_LARGE):
        Admission(timedelta(days=7), max_size_mb=999).check(created, NOW, None)


def test_a_key_that_names_another_order_is_poison_and_one_that_names_none_is_not() -> None:
    for key in (None, b"", b"shop-1", b"\xff", ORDER_ID.encode(), ORDER_ID.upper().encode()):
        check_key(key, ORDER_ID)
    with poison(PoisonKind.KEY):
        check_key(b"22222222-2222-4222-8222-222222222222", ORDER_ID)
