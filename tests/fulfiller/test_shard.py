"""A shard from the record that it reads to the call that it makes and the outcome that it writes."""

from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest

from schemas.admission import Admission
from schemas.commands import CancelFulfillment, OverrideFulfillment, ResolveFulfillment, RetryFulfillment
from schemas.fulfillment import CommandRejected, FulfillmentAttempted, FulfillmentFailed, Trigger
from schemas.topics import FULFILLMENT_COMMANDS, FULFILLMENT_STATE, ORDERS_EVENTS, retry_topic
from services.fulfiller import metrics
from services.fulfiller.log import FencedError
from services.fulfiller.order import State, dump_order
from services.fulfiller.outage import FAULTS_TO_SUSPEND
from services.fulfiller.providers.port import Outcome, OutcomeClass
from tests.fulfiller.stage import PHONE, Stage, virtual
from tests.memory_log import Fate

DELIVERED = OutcomeClass.DELIVERED
UNKNOWN = OutcomeClass.UNKNOWN
DECLINED = OutcomeClass.DECLINED_TRANSIENT


def attempts_after_s(stage: Stage, order_id: str) -> list[int]:
    """When each attempt was made, in seconds since the order was requested."""
    events = stage.events(order_id)
    made = [event.at for event in events if isinstance(event, FulfillmentAttempted)]
    return [round((at - events[0].at).total_seconds()) for at in made]


@virtual
async def test_an_order_is_delivered() -> None:
    async with Stage() as stage:
        await stage.shard()
        order_id = stage.buy()
        await stage.until(stage.ended(order_id))
        assert stage.types(order_id) == ["Requested", "Attempted", "Succeeded"]
        assert stage.provider.truth.deliveries == {order_id: 1}
        assert stage.lane.in_flight == 0


@virtual
async def test_it_is_delivered_once_however_often_it_is_ordered() -> None:
    async with Stage() as stage:
        await stage.shard()
        order_id = stage.buy()
        stage.buy(order_id)
        await stage.until(stage.ended(order_id))
        stage.buy(order_id.upper())
        await stage.goes_on(60)
        assert stage.types(order_id) == ["Requested", "Attempted", "Succeeded"]
        assert stage.dead_letters() == []


@virtual
async def test_failed_attempts_are_repeated_at_their_time_and_settled_an_hour_after_the_last() -> None:
    async with Stage() as stage:
        await stage.shard()
        stage.provider.will(DECLINED, DECLINED, DECLINED)
        order_id = stage.buy()
        await stage.until(stage.ended(order_id))
        assert stage.state(order_id) is State.FAILED
        assert attempts_after_s(stage, order_id) == [0, 300, 1200]
        for before, after in zip(stage.events(order_id), stage.events(order_id)[1:], strict=False):
            if isinstance(after, FulfillmentAttempted) and before.sequence > 1:
                due = getattr(before, "next").at  # noqa: B009 - of whatever event planned it
                assert timedelta(0) <= after.at - due < timedelta(milliseconds=20)
        last = stage.events(order_id)[-1]
        assert round((last.at - stage.events(order_id)[0].at).total_seconds()) == 1200 + 3600
        assert getattr(last, "settled") is True  # noqa: B009 - as above


@pytest.mark.parametrize("kind", [kind for kind in OutcomeClass if kind not in {"not_found", "no_answer"}])
@virtual
async def test_no_slot_is_lost_whatever_is_answered(kind: OutcomeClass) -> None:
    async with Stage(max_in_flight=1) as stage:
        await stage.shard()
        stage.provider.will(kind)
        order_ids = [stage.buy() for _ in range(3)]
        await stage.until(lambda: len(stage.provider.sent) >= 3)
        await stage.until(lambda: stage.lane.in_flight == 0)
        await stage.until(lambda: [stage.state(one) for one in order_ids].count(State.DELIVERED) >= 2)


@virtual
async def test_no_slot_is_lost_over_an_order_that_is_cancelled_as_it_waits_for_one() -> None:
    async with Stage(max_in_flight=1) as stage:
        await stage.shard()
        stage.provider.latency_s = 10
        first, cancelled = stage.buy(), stage.buy()
        await stage.until(lambda: stage.state(cancelled) is State.CREATED)
        stage.command(CancelFulfillment, cancelled)
        await stage.until(stage.ended(first, cancelled))
        assert stage.lane.in_flight == 0
        await stage.until(stage.ended(stage.buy()))
        assert len(stage.provider.sent) == 2


@virtual
async def test_what_may_have_been_delivered_is_asked_about_and_not_sent_again() -> None:
    async with Stage() as stage:
        await stage.shard()
        stage.provider.hangs.add(PHONE)
        order_id = stage.buy()
        await stage.until(stage.ended(order_id))
        assert stage.types(order_id) == ["Requested", "Attempted", "Uncertain", "Succeeded"]
        assert len(stage.provider.sent) == 1


@virtual
async def test_what_never_arrived_is_sent_again_once_that_is_proven() -> None:
    async with Stage() as stage:
        await stage.shard()
        stage.provider.will(UNKNOWN)
        order_id = stage.buy()
        await stage.until(stage.ended(order_id))
        types = stage.types(order_id)
        assert types == ["Requested", "Attempted", "Uncertain", "StatusChecked", "Failed", "Attempted", "Succeeded"]
        proof_s = (stage.provider.asked[1][0] - stage.provider.sent[0][0]).total_seconds()
        assert proof_s >= stage.provider.profile.call_timeout_s + stage.provider.profile.not_found_final_s
        assert stage.provider.sent[0][1] == stage.provider.sent[1][1] == order_id


@virtual
async def test_what_is_queued_is_asked_about_until_it_is_delivered() -> None:
    async with Stage() as stage:
        await stage.shard()
        stage.provider.will(OutcomeClass.ACCEPTED)
        order_id = stage.buy()
        await stage.until(lambda: len(stage.provider.asked) == 2)
        stage.provider.truth.settle(order_id)
        await stage.until(stage.ended(order_id))
        assert stage.types(order_id)[-3:] == ["Accepted", "StatusChecked", "Succeeded"]


@virtual
async def test_what_stays_unknown_goes_to_a_person_and_is_asked_about_daily() -> None:
    async with Stage() as stage:
        await stage.shard()
        stage.provider.will(OutcomeClass.ACCEPTED)
        order_id = stage.buy()
        await stage.until(lambda: stage.state(order_id) is State.REVIEW)
        assert len(stage.provider.asked) == 4
        await stage.goes_on(2.5 * 86400)
        assert len(stage.provider.asked) == 6
        stage.provider.truth.settle(order_id)
        await stage.goes_on(86400)
        assert stage.state(order_id) is State.DELIVERED


@virtual
async def test_an_unanswered_question_is_asked_again_at_its_interval_and_is_not_overdue() -> None:
    overdue = metrics.OVERDUE._value.get()  # noqa: SLF001 - there is no other way to read a counter
    async with Stage() as stage:
        await stage.shard()
        stage.provider.will(UNKNOWN)
        stage.provider.answers = [Outcome(OutcomeClass.NO_ANSWER)] * 1000
        order_id = stage.buy()
        await stage.goes_on(600)
        assert stage.types(order_id) == ["Requested", "Attempted", "Uncertain"]
        gaps = [
            (b[0] - a[0]).total_seconds() for a, b in zip(stage.provider.asked, stage.provider.asked[1:], strict=False)
        ]
        assert len(gaps) == pytest.approx(38, abs=2)
        assert all(15 <= gap < 15.5 for gap in gaps)
        stage.provider.answers = []
        await stage.until(stage.ended(order_id))
    assert metrics.OVERDUE._value.get() == overdue  # noqa: SLF001 - as above


# --- what comes from outside ------------------------------------------------------------------------------------------


@virtual
async def test_poison_is_set_aside_once_and_blocks_nobody() -> None:
    async with Stage() as stage:
        shard = await stage.shard()
        headers = (("a", b"1"), ("b", None))
        for value in (None, b"", b"hello", b"{}", b"x" * 1_000_000):
            stage.log.append(ORDERS_EVENTS, 0, b"k", value, headers)
        stage.log.append(FULFILLMENT_COMMANDS, 0, None, b"{")
        stage.log.append(retry_topic(300), 0, None, b"not mine")
        order_id = stage.buy()
        await stage.until(stage.ended(order_id))
        await stage.end(shard)
        await stage.shard()
        await stage.goes_on(60)
        reasons = [reason for reason, _ in stage.dead_letters()]
        assert sorted(reasons) == ["no_value", "no_value", "not_json", "not_json", "schema", "schema", "schema"]
        for _, record in stage.dead_letters()[:5]:
            assert record.headers[:2] == headers or record.key is None


@virtual
async def test_what_is_too_large_to_be_set_aside_is_cut() -> None:
    async with Stage() as stage:
        await stage.shard()
        stage.log.append(ORDERS_EVENTS, 0, b"k" * 3_000_000, b"v" * 3_000_000, (("h", b"h" * 3_000_000),) * 200)
        order_id = stage.buy()
        await stage.until(stage.ended(order_id))
        ((reason, record),) = stage.dead_letters()
        assert reason == "schema"
        assert len(record.key or b"") + len(record.value or b"") < 2_000_000
        assert dict(record.headers)["dead_letter_cut_from_bytes"] == b"606002800"


@virtual
async def test_a_failure_nobody_foresaw_is_set_aside_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    async with Stage() as stage:
        await stage.shard()
        with monkeypatch.context() as patched:
            patched.setattr("services.fulfiller.intake.check_key", fail)
            stage.buy()
            await stage.until(stage.dead_letters)
        order_id = stage.buy()
        await stage.until(stage.ended(order_id))
        assert [reason for reason, _ in stage.dead_letters()] == ["internal"]


@virtual
async def test_nothing_is_said_of_a_record_that_is_set_aside_half_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    async with Stage() as stage:
        await stage.shard()
        with monkeypatch.context() as patched:
            patched.setattr("services.fulfiller.dispatch.Dispatch._keep", fail)
            aside = stage.buy()
            await stage.until(stage.dead_letters)
        order_id = stage.buy()
        await stage.until(stage.ended(order_id))
        assert stage.events(aside) == []
        assert stage.state(aside) is None
        stage.buy(aside)
        await stage.until(stage.ended(aside))


@virtual
async def test_a_record_in_another_partition_is_sent_home_and_acted_on_there_alone() -> None:
    async with Stage(partitions=3) as stage:
        for partition in range(3):
            await stage.shard(partition)
        order_ids = [f"11111111-1111-4111-8111-{number:012d}" for number in range(6)]
        for order_id in order_ids:
            for partition in range(3):
                stage.buy(order_id, partition=partition)
        await stage.until(stage.ended(*order_ids))
        await stage.goes_on(60)
        assert all(stage.types(order_id) == ["Requested", "Attempted", "Succeeded"] for order_id in order_ids)
        assert stage.dead_letters() == []


@virtual
async def test_an_order_dated_beyond_what_is_remembered_is_stale_and_one_ahead_is_future() -> None:
    async with Stage() as stage:
        await stage.shard()
        now = stage.clock.now()
        stage.buy(created_at=(now - timedelta(days=8)).isoformat())
        stage.buy(created_at=(now + timedelta(minutes=6)).isoformat())
        order_id = stage.buy()
        stage.buy(order_id, size="2GB")
        stage.buy(size="101GB")
        await stage.until(lambda: len(stage.dead_letters()) == 4)
        assert [reason for reason, _ in stage.dead_letters()] == ["stale", "future", "conflict", "too_large"]


@virtual
async def test_a_command_that_is_read_before_its_order_waits_for_it() -> None:
    async with Stage() as stage:
        order_id = "11111111-1111-4111-8111-111111111111"
        stage.command(CancelFulfillment, order_id)
        for _ in range(250):
            stage.buy(phone="+233201111111")
        stage.buy(order_id)
        stage.lane.observe(Outcome(OutcomeClass.SUSPENDED), 0)
        await stage.shard()
        await stage.until(lambda: stage.state(order_id) is State.CANCELLED)
        stage.command(CancelFulfillment, "22222222-2222-4222-8222-222222222222")
        await stage.until(stage.dead_letters)
        assert [reason for reason, _ in stage.dead_letters()] == ["unknown_order"]


# --- people -----------------------------------------------------------------------------------------------------------


@virtual
async def test_a_person_overtakes_the_schedule() -> None:
    async with Stage() as stage:
        await stage.shard()
        stage.provider.will(DECLINED)
        order_id = stage.buy()
        await stage.until(lambda: stage.state(order_id) is State.WAITING)
        command_id = stage.command(RetryFulfillment, order_id)
        await stage.until(stage.ended(order_id))
        await stage.goes_on(600)
        assert stage.types(order_id) == ["Requested", "Attempted", "Failed", "Attempted", "Succeeded"]
        attempted = stage.events(order_id)[3]
        assert isinstance(attempted, FulfillmentAttempted)
        assert attempted.trigger is Trigger.MANUAL
        assert attempted.command is not None
        assert attempted.command.command_id == command_id
        assert attempted.cause is not None
        assert attempted.cause.topic == FULFILLMENT_COMMANDS
        assert attempts_after_s(stage, order_id) == [0, 0]


@virtual
async def test_a_person_s_word_about_an_order_in_review() -> None:
    async with Stage() as stage:
        await stage.shard()
        stage.provider.will(OutcomeClass.ACCEPTED, OutcomeClass.ACCEPTED)
        told, wrong = stage.buy(), stage.buy()
        await stage.until(lambda: stage.state(told) is State.REVIEW and stage.state(wrong) is State.REVIEW)
        stage.provider.truth.settle(told)
        stage.command(ResolveFulfillment, told, delivered=False)
        stage.command(ResolveFulfillment, wrong, delivered=False)
        await stage.until(stage.ended(told))
        await stage.goes_on(1)
        assert stage.types(told)[-2:] == ["CommandRejected", "Succeeded"]
        assert stage.types(wrong)[-1] == "CommandRejected", "the provider still works on it"
        asked = len(stage.provider.asked)
        await stage.goes_on(30)
        assert len(stage.provider.asked) > asked, "a question that planned nothing is asked again"
        assert stage.order(wrong).next_at > stage.clock.now()  # type: ignore[union-attr, operator] # it is there, in review


@virtual
async def test_another_reference_is_used_only_when_every_earlier_one_is_known_to_have_failed() -> None:
    async with Stage(max_attempts=1) as stage:
        shard = await stage.shard()
        stage.provider.will(OutcomeClass.DECLINED_PERMANENT, UNKNOWN)
        order_id = stage.buy()
        await stage.until(stage.ended(order_id))
        stage.command(OverrideFulfillment, order_id)
        await stage.until(lambda: stage.state(order_id) is State.UNKNOWN)
        await stage.until(stage.ended(order_id))
        assert [reference for _, reference in stage.provider.sent] == [order_id, f"{order_id}-r2"]
        # The first is not found any more, the second proves to have been delivered after all.
        stage.provider.answers = [Outcome(OutcomeClass.NOT_FOUND), Outcome(DELIVERED, transaction_id="T")]
        stage.provider.truth.deliveries[f"{order_id}-r2"] += 1
        stage.provider.asked.clear()
        stage.command(OverrideFulfillment, order_id)
        await stage.until(lambda: stage.state(order_id) is State.DELIVERED)
        assert [reference for _, reference in stage.provider.asked] == [order_id, f"{order_id}-r2"]
        assert len(stage.provider.sent) == 2
        await stage.end(shard)


@virtual
async def test_a_command_that_waits_survives_a_takeover_as_it_was() -> None:
    async with Stage(max_attempts=1) as stage:
        shard = await stage.shard()
        stage.provider.will(OutcomeClass.DECLINED_PERMANENT)
        order_id = stage.buy()
        await stage.until(stage.ended(order_id))
        stage.lane.observe(Outcome(OutcomeClass.SUSPENDED), 0)
        stage.provider.truth.available_mb = 0
        stage.command(OverrideFulfillment, order_id, note={"of": "another producer"})
        await stage.goes_on(5)
        await stage.crash(shard)
        await stage.shard()
        stage.provider.truth.available_mb = 10_000
        await stage.until(lambda: stage.state(order_id) is State.DELIVERED)
        attempted = [event for event in stage.events(order_id) if isinstance(event, FulfillmentAttempted)]
        assert [event.trigger for event in attempted] == [Trigger.FIRST, Trigger.OVERRIDE]
        assert attempted[1].reference == f"{order_id}-r2"


@virtual
async def test_an_order_is_cancelled_before_its_first_attempt_alone() -> None:
    async with Stage() as stage:
        await stage.shard()
        stage.lane.observe(Outcome(OutcomeClass.SUSPENDED), 0)
        order_id = stage.buy()
        await stage.goes_on(1)
        stage.command(CancelFulfillment, order_id)
        await stage.until(stage.ended(order_id))
        await stage.goes_on(60)
        stage.command(CancelFulfillment, order_id)
        await stage.until(lambda: len(stage.events(order_id)) == 3)
        assert stage.types(order_id) == ["Requested", "Cancelled", "CommandRejected"]
        assert isinstance(stage.events(order_id)[-1], CommandRejected)
        assert stage.provider.sent == []


# --- the provider -----------------------------------------------------------------------------------------------------


@virtual
async def test_orders_of_a_suspended_provider_wait_and_spend_nothing() -> None:
    async with Stage(max_in_flight=4) as stage:
        await stage.shard()
        stage.provider.truth.available_mb = 0
        stage.provider.will(*[OutcomeClass.SUSPENDED] * 4)
        order_ids = [stage.buy() for _ in range(50)]
        await stage.goes_on(600)
        assert len(stage.provider.sent) <= 4
        stage.provider.truth.available_mb = 10**6
        stage.provider.most_under_way = 0
        await stage.until(stage.ended(*order_ids))
        attempts = [
            event.attempt for one in order_ids for event in stage.events(one) if isinstance(event, FulfillmentAttempted)
        ]
        assert set(attempts) == {1}


@virtual
async def test_a_provider_that_nobody_reaches_is_suspended() -> None:
    async with Stage(max_in_flight=FAULTS_TO_SUSPEND) as stage:
        await stage.shard()
        stage.provider.will(*[OutcomeClass.NOT_SENT] * FAULTS_TO_SUSPEND)
        order_ids = [stage.buy() for _ in range(FAULTS_TO_SUSPEND)]
        await stage.until(lambda: stage.lane.suspended_because is not None)
        await stage.until(stage.ended(*order_ids))
        assert {stage.state(one) for one in order_ids} == {State.DELIVERED}


@virtual
async def test_orders_that_are_turned_away_come_again_no_sooner_than_they_were_told() -> None:
    async with Stage() as stage:
        await stage.shard()
        stage.provider.will(OutcomeClass.TURNED_AWAY)
        order_id = stage.buy()
        await stage.until(stage.ended(order_id))
        assert stage.types(order_id) == ["Requested", "Attempted", "AttemptVoided", "Attempted", "Succeeded"]
        assert 1 <= (stage.provider.sent[1][0] - stage.provider.sent[0][0]).total_seconds() < 3


@virtual
async def test_an_adapter_that_hangs_holds_nothing_for_ever() -> None:
    async with Stage(max_in_flight=1) as stage:
        await stage.shard()
        stage.provider.latency_s = 10**6
        order_id = stage.buy()
        await stage.until(lambda: stage.state(order_id) is State.UNKNOWN)
        assert stage.lane.in_flight == 0
        stage.provider.latency_s = 0.05
        await stage.until(stage.ended(order_id))


@pytest.mark.parametrize(("before_s", "late_s"), [(0.002, 0.0), (0.009, 0.0), (0.025, 0.015)])
@virtual
async def test_what_is_due_in_a_moment_is_not_kept_waiting_by_a_commit(before_s: float, late_s: float) -> None:
    async with Stage() as stage:
        await stage.shard()
        stage.provider.will(OutcomeClass.DECLINED_TRANSIENT)
        order_id = stage.buy()
        await stage.until(lambda: stage.state(order_id) is State.WAITING)
        planned = stage.events(order_id)[-1]
        assert isinstance(planned, FulfillmentFailed)
        assert planned.next is not None
        await stage.goes_on((planned.next.at - stage.clock.now()).total_seconds() - before_s)
        stage.log.commit_s = 0.04
        stage.buy(phone="0244123456")
        await stage.until(stage.ended(order_id))
        again = [event.at for event in stage.events(order_id) if isinstance(event, FulfillmentAttempted)][1]
        assert (again - planned.next.at).total_seconds() == pytest.approx(late_s, abs=0.003)
        assert again >= planned.next.at


# --- the log ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fate", [Fate.ABORTED, Fate.UNKNOWN, Fate.HANGING])
@virtual
async def test_an_intent_whose_commit_is_in_doubt_calls_nobody(fate: Fate) -> None:
    async with Stage() as stage:
        shard = await stage.shard()
        stage.log.fates.append(fate)
        order_id = stage.buy()
        again = await stage.again(shard)
        assert stage.provider.sent == []
        assert stage.lane.in_flight == 0
        await stage.until(stage.ended(order_id))
        assert stage.state(order_id) is State.DELIVERED
        assert len(stage.provider.sent) == 1
        assert again in stage.running


@pytest.mark.parametrize("fate", [Fate.ABORTED, Fate.UNKNOWN, Fate.HANGING])
@virtual
async def test_an_outcome_whose_commit_is_in_doubt_is_asked_about(fate: Fate) -> None:
    async with Stage() as stage:
        shard = await stage.shard()
        stage.log.fates.extend([Fate.WRITTEN, fate])
        order_id = stage.buy()
        await stage.again(shard)
        await stage.until(stage.ended(order_id))
        assert stage.state(order_id) is State.DELIVERED
        assert len(stage.provider.sent) == 1
        assert stage.lane.in_flight == 0


@virtual
async def test_a_turn_that_fails_gives_its_slots_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    async with Stage() as stage:
        shard = await stage.shard()
        await stage.goes_on(1)
        with monkeypatch.context() as patched:
            patched.setattr("services.fulfiller.turn.Turn.state", fail)
            order_id = stage.buy()
            assert isinstance(await stage.dies(shard), ZeroDivisionError)
        assert not stage.events(order_id), "it failed over the order"
        assert stage.lane.in_flight == 0
        await stage.shard()
        await stage.until(stage.ended(order_id))


@virtual
async def test_a_reply_that_could_not_be_told_throws_the_shard_away(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    async with Stage() as stage:
        shard = await stage.shard()
        with monkeypatch.context() as patched:
            patched.setattr(stage.lane, "observe", fail)
            order_id = stage.buy()
            assert isinstance(await stage.dies(shard), ZeroDivisionError)
        await stage.shard()
        await stage.until(stage.ended(order_id))
        assert len(stage.provider.sent) == 1


@virtual
async def test_a_delayed_record_that_is_lost_strands_nobody() -> None:
    overdue = metrics.OVERDUE._value.get()  # noqa: SLF001 - there is no other way to read a counter
    async with Stage() as stage:
        shard = await stage.shard()
        stage.provider.will(DECLINED)
        order_id = stage.buy()
        await stage.until(lambda: stage.state(order_id) is State.WAITING)
        await stage.goes_on(1)
        shard._delayed._queues.clear()  # noqa: SLF001 - what only an operator can do to a topic
        await stage.until(stage.ended(order_id))
        assert attempts_after_s(stage, order_id) == [0, 330]
    assert metrics.OVERDUE._value.get() == overdue + 1  # noqa: SLF001 - as above


@virtual
async def test_a_clock_that_is_set_back_strands_nobody() -> None:
    async with Stage(max_in_flight=1) as stage:
        await stage.shard()
        stage.provider.latency_s = 1.0
        order_ids = [stage.buy() for _ in range(3)]
        await stage.until(lambda: len(stage.provider.sent) == 1)
        stage.clock.set_back(timedelta(seconds=20))
        await stage.until(stage.ended(*order_ids), within_s=60)


# --- the end of it ----------------------------------------------------------------------------------------------------


@virtual
async def test_a_drain_begins_nothing_and_waits_for_what_is_under_way() -> None:
    async with Stage(max_in_flight=2) as stage:
        shard = await stage.shard()
        stage.provider.latency_s = 1.0
        order_ids = [stage.buy() for _ in range(5)]
        await stage.until(lambda: len(stage.provider.sent) == 2)
        await shard.drain(5)
        assert [stage.state(one) for one in order_ids].count(State.DELIVERED) == 2
        await stage.goes_on(60)
        assert len(stage.provider.sent) == 2, "what was revoked begins nothing"
        shard.resume()
        await stage.until(stage.ended(*order_ids))


@virtual
async def test_a_drain_waits_no_longer_than_it_may() -> None:
    async with Stage() as stage:
        shard = await stage.shard()
        stage.provider.hangs.add(PHONE)
        order_id = stage.buy()
        await stage.until(lambda: stage.provider.sent)
        began_s = stage.clock.monotonic_s()
        await shard.drain(5)
        assert stage.clock.monotonic_s() - began_s == pytest.approx(5, abs=0.1)
        await stage.end(shard)
        assert stage.lane.in_flight == 0
        await stage.shard()
        await stage.until(stage.ended(order_id))
        assert len(stage.provider.sent) == 1


@virtual
async def test_a_shard_that_is_fenced_ends_and_calls_nobody_any_more() -> None:
    async with Stage() as stage:
        first = await stage.shard()
        stage.provider.hangs.add(PHONE)
        in_doubt = stage.buy()
        await stage.until(lambda: bool(stage.provider.truth.deliveries))
        await stage.shard()
        other = stage.buy(phone="+233201234567")
        assert isinstance(await stage.dies(first), FencedError)
        await stage.until(stage.ended(in_doubt, other))
        assert sorted(reference for _, reference in stage.provider.sent) == sorted([in_doubt, other])


@virtual
async def test_what_is_remembered_is_forgotten_in_time_and_its_replay_is_stale() -> None:
    async with Stage(dedupe_window=timedelta(hours=1)) as stage:
        shard = await stage.shard()
        dated = (stage.clock.now() + timedelta(minutes=4)).isoformat()
        order_id = stage.buy(created_at=dated)
        await stage.until(stage.ended(order_id))
        await stage.goes_on(3600 + 200)
        stage.buy(order_id, created_at=dated)
        await stage.goes_on(1)
        assert shard.book.get(order_id) is not None, "remembered as long as its replay is not stale"
        await stage.goes_on(200)
        last = stage.buy()
        await stage.until(stage.ended(last))
        assert shard.book.get(order_id) is None
        stage.buy(order_id, created_at=dated)
        await stage.until(stage.dead_letters)
        assert [reason for reason, _ in stage.dead_letters()] == ["stale"]
        await stage.end(shard)
        tombstones = [record for record in stage.log.records(FULFILLMENT_STATE) if record.value is None]
        assert [record.key for record in tombstones] == [order_id.encode()]
        again = await stage.shard()
        assert again.book.get(order_id) is None
        assert again.book.get(last) is not None


@virtual
async def test_what_was_forgotten_stays_stale_though_orders_are_remembered_for_longer_now() -> None:
    async with Stage(dedupe_window=timedelta(hours=1)) as stage:
        first = await stage.shard()
        created = stage.clock.now().isoformat()
        order_id = stage.buy(created_at=created)
        await stage.until(stage.ended(order_id))
        await stage.goes_on(2 * 3600)
        last = stage.buy()
        await stage.until(stage.ended(last))
        assert first.book.get(order_id) is None
        await stage.end(first)
        # By a worker whose clock was days behind.
        known = first.book.get(last)
        assert known is not None
        old = replace(known, order_id=str(uuid4()), ended_at=stage.clock.now() - timedelta(days=3))
        stage.log.append(FULFILLMENT_STATE, 0, old.order_id.encode(), dump_order(old))
        longer = replace(stage.shared, admission=Admission(timedelta(days=2), 100_000))
        second = await stage.shard(shared=longer)
        await stage.until(stage.ended(stage.buy()))
        assert second.book.get(old.order_id) is None, "forgotten as of two days ago"
        stage.buy(order_id, created_at=created)
        await stage.until(stage.dead_letters)
        assert [reason for reason, _ in stage.dead_letters()] == ["stale"]
