"""The checker is shown sound evidence, and then a forged breach of each invariant, which it must name."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import orjson
import pytest

from schemas import ids
from schemas.fulfillment import (
    Act,
    AttemptVoided,
    Next,
    Source,
    Trigger,
    VoidReason,
)
from schemas.poison import PoisonKind
from schemas.topics import (
    FULFILLMENT_DEAD_LETTER,
    FULFILLMENT_EVENTS,
    FULFILLMENT_STATE,
    ORDERS_EVENTS,
)
from services.projector import projection
from tests.checker import assert_sound, findings
from tests.evidence import Accepted, Evidence, Logged
from tests.forge import BEGIN, SECRET, Forge, after


def test_sound_evidence_has_no_findings() -> None:
    assert findings(Forge().evidence()) == []
    assert_sound(Forge().evidence())


def test_every_breach_is_told_at_once() -> None:
    forge = Forge()
    forge.deliveries[forge.simple] = 2
    forge.logs["gateway"] = SECRET
    with pytest.raises(AssertionError, match=r"(?s)2 breaches.*I3 order .* more than once.*I10 the log of gateway"):
        assert_sound(forge.evidence())


# --- breaches that a faulty service would leave, told by what it did --------------------------------------------------

Breach = Callable[[Forge], None]


def _accepted_and_lost(forge: Forge) -> None:
    forge.clients.accepted.append(Accepted(ids.order_id("t", "lost"), ("+233270009999", 1000, "AT-iShare")))


def _another_bundle(forge: Forge) -> None:
    forge.clients.accepted[0] = Accepted(forge.simple, ("+233270009999", 1000, "AT-iShare"))


def _never_taken_up(forge: Forge) -> None:
    del forge.stories[forge.simple], forge.sends[forge.simple]


def _left_in_the_middle(forge: Forge) -> None:
    del forge.stories[forge.doubtful][5:]
    forge.sends[forge.doubtful].pop()
    forge.deliveries[forge.doubtful] = 0


def _in_flight_for_ever(forge: Forge) -> None:
    forge.stories[forge.simple].pop()


def _delivered_twice(forge: Forge) -> None:
    forge.deliveries[forge.simple] = 2


def _delivered_under_two_references(forge: Forge) -> None:
    other = f"{forge.simple}-r2"
    forge.sends[other] = [after(2)]
    forge.deliveries[other] = 1


def _delivered_and_failed(forge: Forge) -> None:
    forge.deliveries[forge.declined] = 1


def _success_and_not_delivered(forge: Forge) -> None:
    forge.deliveries[forge.simple] = 0


def _sent_for_nobody(forge: Forge) -> None:
    stranger = forge._created("AT-iShare", BEGIN)  # noqa: SLF001 - an order that is in no topic
    forge.clients.accepted.pop()
    forge.sends[stranger.order_id] = [after(1)]


def _a_gap(forge: Forge) -> None:
    story = forge.stories[forge.doubtful]
    story[3:] = [event.model_copy(update={"sequence": event.sequence + 1}) for event in story[3:]]


def _a_repetition(forge: Forge) -> None:
    forge.stories[forge.simple].append(forge.stories[forge.simple][-1])


def _delivered_after_its_failure(forge: Forge) -> None:
    """Cancelled, and then a success."""
    forge.succeed(forge.order_of(forge.cancelled), 2)
    forge.sends[forge.cancelled] = [after(1)]


def _early_retry(forge: Forge) -> None:
    story = forge.stories[forge.doubtful]
    story[5] = story[5].model_copy(update={"at": after(9.9)})


def _retry_by_nobodys_plan(forge: Forge) -> None:
    forge.attempt(forge.order_of(forge.held), 1, trigger=Trigger.RETRY)
    forge.succeed(forge.order_of(forge.held), 1.1)


def _manual_by_nobody(forge: Forge) -> None:
    story = forge.stories[forge.doubtful]
    story[5] = story[5].model_copy(update={"trigger": Trigger.MANUAL})


def _too_many_attempts(forge: Forge) -> None:
    story = forge.stories[forge.declined]
    last = story.pop()
    story[-1] = story[-1].model_copy(update={"next": Next(act=Act.ATTEMPT, at=after(8), schedule_id=7)})
    order = forge.order_of(forge.declined)
    forge.attempt(order, 8, number=4, trigger=Trigger.RETRY)
    story.append(last.model_copy(update={"sequence": 9, "attempt": 4, "source": Source.REPLY}))


def _an_attempt_is_not_counted(forge: Forge) -> None:
    story = forge.stories[forge.doubtful]
    story[5] = story[5].model_copy(update={"attempt": 1})


def _new_reference_for_each_attempt(forge: Forge) -> None:
    story = forge.stories[forge.doubtful]
    other = f"{forge.doubtful}-r2"
    story[5] = story[5].model_copy(update={"reference": other})
    forge.sends[other] = [forge.sends[forge.doubtful].pop()]


def _another_order_for_the_key(forge: Forge) -> None:
    first = forge.clients.answers[0]
    forge.clients.answers.append(first._replace(order={**first.order, "id": ids.order_id("t", "other")}))


def _another_answer_for_the_key(forge: Forge) -> None:
    first = forge.clients.answers[0]
    forge.clients.answers.append(first._replace(order={**first.order, "size": "2GB"}))


def _poison_lost(forge: Forge) -> None:
    forge.records[FULFILLMENT_DEAD_LETTER].pop()


def _poison_twice(forge: Forge) -> None:
    letters = forge.records[FULFILLMENT_DEAD_LETTER]
    letters.append(replace(letters[-1], offset=9))


def _poison_changed(forge: Forge) -> None:
    letters = forge.records[FULFILLMENT_DEAD_LETTER]
    letters[-1] = replace(letters[-1], value=b"{not json")


def _poison_headers_changed(forge: Forge) -> None:
    letters = forge.records[FULFILLMENT_DEAD_LETTER]
    letters[-1] = replace(letters[-1], headers=letters[-1].headers[1:])


def _poison_from_nowhere(forge: Forge) -> None:
    letters = forge.records[FULFILLMENT_DEAD_LETTER]
    forge.set_aside(replace(letters[-1], topic=ORDERS_EVENTS, offset=99, headers=()), PoisonKind.SCHEMA)


def _sent_again_while_unknown(forge: Forge) -> None:
    """A blind second send, with an intent."""
    order = forge.order_of(forge.reviewed)
    del forge.stories[forge.reviewed][3:]
    forge.attempt(order, 4, number=2, trigger=Trigger.RETRY)
    forge.succeed(order, 4.1, number=2)


def _sent_again_after_a_takeover(forge: Forge) -> None:
    """In doubt, and taken for not begun."""
    order = forge.order_of(forge.reviewed)
    del forge.stories[forge.reviewed][2:]
    forge.attempt(order, 4, number=2, trigger=Trigger.RETRY)
    forge.succeed(order, 4.1, number=2)


def _sent_twice_for_one_intent(forge: Forge) -> None:
    """A zombie's late call, say, which the provider took for the same."""
    forge.sends[forge.simple].append(after(1.5))


def _voided_and_sent(forge: Forge) -> None:
    """In doubt, and taken for never sent: the number is used again."""
    order = forge.order_of(forge.reviewed)
    del forge.stories[forge.reviewed][2:]
    plan = forge.plan(order, Act.ATTEMPT, 4)
    forge.add(order, AttemptVoided, 3, **forge.said(1), void_reason=VoidReason.NOT_SENT, next=plan)
    forge.attempt(order, 4)
    forge.succeed(order, 4.1)


def _sent_without_an_intent(forge: Forge) -> None:
    """Produce after the call: the intent's time is behind the send's."""
    forge.sends[forge.simple] = [after(0.5)]


def _sent_long_after_the_deadline(forge: Forge) -> None:
    forge.sends[forge.simple] = [after(9)]


def _failed_by_a_reply_while_unknown(forge: Forge) -> None:
    story = forge.stories[forge.doubtful]
    story[4] = story[4].model_copy(update={"source": Source.REPLY})


def _secret_in_a_log(forge: Forge) -> None:
    forge.logs["fulfiller"] += f"headers: {SECRET}"


def _phone_in_a_log(forge: Forge) -> None:
    forge.logs["projector"] = f"row +{forge.order_of(forge.simple).phone_number[1:]}"


def _phone_as_dialled_in_a_log(forge: Forge) -> None:
    forge.logs["gateway"] = f'{{"phoneNumber":"0{forge.order_of(forge.simple).phone_number[4:]}"}}'


BREACHES: Final[dict[Breach, str]] = {
    _accepted_and_lost: "I1 order .* was accepted and is not in orders.events",
    _another_bundle: "I1 order .* was accepted as .*, and is not so",
    _never_taken_up: "I2 order .* was never taken up",
    _left_in_the_middle: "I2 order .* is waiting, with attempt due",
    _in_flight_for_ever: "I2 order .* is attempting, with reply due",
    _delivered_twice: "I3 order .* was delivered more than once",
    _delivered_under_two_references: "I3 order .* was delivered more than once",
    _delivered_and_failed: "I3 order .* was delivered and is failed",
    _success_and_not_delivered: "I3 order .* is a success and was not delivered",
    _sent_for_nobody: "I3 order .* is in the provider's ledger, and not in",
    _delivered_after_its_failure: "I4 order .*: FulfillmentSucceeded .* when it was cancelled",
    _early_retry: "I6 order .*: attempt 2 .* came 0:00:00.100000 before it was due",
    _retry_by_nobodys_plan: "I6 order .*: attempt 1 .* was planned by no event",
    _manual_by_nobody: "I6 order .*: attempt 2 .* is manual, and nobody asked for it",
    _too_many_attempts: "I6 order .*: attempt 4 .* is more than the 3 allowed",
    _an_attempt_is_not_counted: "I6 order .*: attempt 1 .* follows attempt 1",
    _new_reference_for_each_attempt: "I6 order .*: attempt 2 .* has another reference",
    _another_order_for_the_key: "I7 Idempotency-Key k was answered with .*, and then with",
    _another_answer_for_the_key: "I7 Idempotency-Key k was answered with .*, and then with",
    _poison_lost: "I8 poison .* was written 1 times, is a dead letter 0 times",
    _poison_twice: "I8 poison .* was written 1 times, is a dead letter 2 times",
    _poison_changed: "I8 poison .* was written 1 times, is a dead letter 0 times",
    _poison_headers_changed: "I8 .* is not .* as it was",
    _poison_from_nowhere: "I8 .* comes from .*, where nothing is",
    _sent_again_while_unknown: "I9 order .*: attempted again .* when it was unknown",
    _sent_again_after_a_takeover: "I9 order .*: attempted again .* when it was attempting",
    _sent_twice_for_one_intent: "I9 reference .* was sent twice for one intent",
    _voided_and_sent: "I9 reference .* was sent, and its attempt .2. was voided as not sent",
    _sent_without_an_intent: "I9 reference .* was sent at .*, before any intent",
    _sent_long_after_the_deadline: "I9 reference .* was sent 6.000 s after the deadline",
    _failed_by_a_reply_while_unknown: "I9 order .*: failed .* by a reply when it was unknown",
    _secret_in_a_log: "I10 the log of fulfiller holds secret 1",
    _phone_in_a_log: "I10 the log of projector holds 1 whole phone numbers",
    _phone_as_dialled_in_a_log: "I10 the log of gateway holds 1 whole phone numbers",
}


@pytest.mark.parametrize("breach", BREACHES, ids=lambda breach: breach.__name__.strip("_"))
def test_a_breach_is_found(breach: Breach) -> None:
    forge = Forge()
    breach(forge)
    with pytest.raises(AssertionError, match=BREACHES[breach]):
        assert_sound(forge.evidence())


# --- breaches in the evidence itself: what is kept and shown is not what the events say -------------------------------

Tampering = Callable[[Forge, Evidence], Evidence]


def _with(evidence: Evidence, topic: str, records: list[Logged]) -> Evidence:
    return replace(evidence, topics={**evidence.topics, topic: records})


def _a_lost_event(forge: Forge, evidence: Evidence) -> Evidence:
    events = [event for event in evidence.of(FULFILLMENT_EVENTS) if event.key == forge.doubtful.encode()]
    return _with(evidence, FULFILLMENT_EVENTS, [e for e in evidence.of(FULFILLMENT_EVENTS) if e is not events[2]])


def _an_event_twice(_forge: Forge, evidence: Evidence) -> Evidence:
    events = list(evidence.of(FULFILLMENT_EVENTS))
    return _with(evidence, FULFILLMENT_EVENTS, [*events, replace(events[2], offset=99)])


def _an_event_elsewhere(_forge: Forge, evidence: Evidence) -> Evidence:
    first, *rest = evidence.of(FULFILLMENT_EVENTS)
    return _with(evidence, FULFILLMENT_EVENTS, [replace(first, partition=1 - first.partition), *rest])


def _an_event_with_another_id(_forge: Forge, evidence: Evidence) -> Evidence:
    first, *rest = evidence.of(FULFILLMENT_EVENTS)
    return _with(evidence, FULFILLMENT_EVENTS, [replace(first, headers=(("ce_id", b"x"),)), *rest])


def _an_unreadable_event(_forge: Forge, evidence: Evidence) -> Evidence:
    first, *rest = evidence.of(FULFILLMENT_EVENTS)
    return _with(evidence, FULFILLMENT_EVENTS, [first, replace(first, value=b"{}"), *rest])


def _an_event_of_another_bundle(forge: Forge, evidence: Evidence) -> Evidence:
    story = forge.stories[forge.simple]
    story[1] = story[1].model_copy(update={"size_mb": 2000})
    return replace(forge.evidence(), rows=evidence.rows)


def _a_state_that_is_no_fold(_forge: Forge, evidence: Evidence) -> Evidence:
    first, *rest = evidence.of(FULFILLMENT_STATE)
    state = {**orjson.loads(first.value or b""), "attempts": 2}
    return _with(evidence, FULFILLMENT_STATE, [replace(first, value=orjson.dumps(state)), *rest])


def _a_state_lost(_forge: Forge, evidence: Evidence) -> Evidence:
    return _with(evidence, FULFILLMENT_STATE, list(evidence.of(FULFILLMENT_STATE))[1:])


def _a_state_of_nobody(_forge: Forge, evidence: Evidence) -> Evidence:
    states = list(evidence.of(FULFILLMENT_STATE))
    return _with(evidence, FULFILLMENT_STATE, [*states, replace(states[0], key=ids.order_id("t", "x").encode())])


def _a_cause_of_nobody(_forge: Forge, evidence: Evidence) -> Evidence:
    orders = [replace(record, offset=record.offset + 100) for record in evidence.of(ORDERS_EVENTS)]
    return _with(evidence, ORDERS_EVENTS, orders)


def _a_row_lost(forge: Forge, evidence: Evidence) -> Evidence:
    return replace(evidence, rows={key: row for key, row in evidence.rows.items() if key != forge.simple})


def _a_row_of_nobody(forge: Forge, evidence: Evidence) -> Evidence:
    stranger = ids.order_id("t", "stranger")
    row = evidence.rows[forge.simple]._replace(order_id=stranger)
    return replace(evidence, rows={**evidence.rows, stranger: row})


def _a_rejected_row_that_waits(forge: Forge, evidence: Evidence) -> Evidence:
    row = evidence.rows[forge.rejected]._replace(state="received", status="pending")
    return replace(evidence, rows={**evidence.rows, forge.rejected: row})


def _orders_left_behind(forge: Forge, evidence: Evidence) -> Evidence:
    behind = (*evidence.orders[forge.simple][:3], "processing")
    return replace(evidence, orders={**evidence.orders, forge.simple: behind})


def _in_quarantine(_forge: Forge, evidence: Evidence) -> Evidence:
    return replace(evidence, quarantined=["fulfillment.events 0@7"])


def _another_phone_delivered(forge: Forge, evidence: Evidence) -> Evidence:
    known = replace(evidence.ledger[forge.simple], bundle=("+233270009999", 1000, "AT-iShare"))
    return replace(evidence, ledger={**evidence.ledger, forge.simple: known})


def _two_at_once(forge: Forge, evidence: Evidence) -> Evidence:
    known = replace(evidence.ledger[forge.doubtful], max_in_flight=2)
    return replace(evidence, ledger={**evidence.ledger, forge.doubtful: known})


TAMPERINGS: Final[dict[Tampering, str]] = {
    _a_lost_event: "I4 order .*: event 4 does not follow 2",
    _an_event_twice: "I4 order .*: event 3 does not follow 3",
    _an_event_elsewhere: "I4 order .* is not in its home partition",
    _an_event_with_another_id: "I4 order .* has not the id that its sequence 1 gives",
    _an_unreadable_event: "I4 fulfillment.events .* cannot be read",
    _an_event_of_another_bundle: "I4 order .*: FulfillmentAttempted .2. speaks of another bundle",
    _a_state_that_is_no_fold: "I4 order .*: fulfillment.state is not the fold: attempts 2, not 1",
    _a_state_lost: "I4 order .* has events and is not in fulfillment.state",
    _a_state_of_nobody: "I4 order .* is in fulfillment.state and has no event",
    _a_cause_of_nobody: "I4 order .*: its first event does not name its OrderCreated",
    _a_row_lost: "I5 order .* has events and no row",
    _a_row_of_nobody: "I5 order .* has a row and is not in the log",
    _a_rejected_row_that_waits: "I5 order .* has no event; its row is received",
    _orders_left_behind: "I5 order .*: its row in orders is .*processing",
    _in_quarantine: "I5 fulfillment.events 0@7 is in quarantine",
    _another_phone_delivered: "I3 order .* is .*, the provider was asked for",
    _two_at_once: "I9 reference .*: 2 calls were in flight at once",
}


@pytest.mark.parametrize("tampering", TAMPERINGS, ids=lambda tampering: tampering.__name__.strip("_"))
def test_tampering_is_found(tampering: Tampering) -> None:
    forge = Forge()
    with pytest.raises(AssertionError, match=TAMPERINGS[tampering]):
        assert_sound(tampering(forge, forge.evidence()))


@pytest.mark.parametrize("field", projection.Row._fields)
def test_every_field_of_a_row_counts(field: str) -> None:
    forge = Forge()
    evidence = forge.evidence()
    changes: dict[str, Any] = {field: '"forged"'}
    forged = evidence.rows[forge.doubtful]._replace(**changes)
    found = findings(replace(evidence, rows={**evidence.rows, forge.doubtful: forged}))
    assert any(f"{field} is '\"forged\"' in its row" in finding.what for finding in found)


def test_every_invariant_has_a_forged_breach() -> None:
    forged = {expected.split()[0] for expected in (*BREACHES.values(), *TAMPERINGS.values())}
    assert forged == {f"I{number}" for number in range(1, 11)}
