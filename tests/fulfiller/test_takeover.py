"""A new owner believes nothing but the log, and refuses a log that is not the one it was."""

import itertools
from collections.abc import Callable
from datetime import timedelta

import pytest

from schemas.commands import RetryFulfillment
from schemas.topics import FULFILLMENT_COMMANDS, FULFILLMENT_EVENTS, FULFILLMENT_STATE, ORDERS_EVENTS
from services.fulfiller.log import FencedError, LogError, Reader, Source
from services.fulfiller.order import State
from services.fulfiller.positions import GENESIS_KEY, POSITIONS_KEY, Genesis
from services.fulfiller.providers.port import Outcome, OutcomeClass
from services.fulfiller.recover import recover
from services.fulfiller.takeover import RefusedError, UnreadableStateError
from tests.fulfiller.stage import PHONE, Stage, virtual
from tests.memory_log import Fate


async def with_orders(stage: Stage, count: int = 3) -> list[str]:
    """So many delivered by a first owner, who is gone."""
    shard = await stage.shard()
    order_ids = [stage.buy() for _ in range(count)]
    await stage.until(stage.ended(*order_ids))
    await stage.end(shard)
    return order_ids


# --- what is found in doubt -------------------------------------------------------------------------------------------


@virtual
async def test_a_delivery_whose_reply_nobody_heard_is_found() -> None:
    async with Stage() as stage:
        shard = await stage.shard()
        stage.provider.hangs.add(PHONE)
        order_id = stage.buy()
        await stage.until(lambda: stage.provider.truth.deliveries)
        await stage.crash(shard)
        again = await stage.shard()
        await stage.goes_on(0.001)
        assert again.doubtful_count == 1
        began_s = stage.clock.monotonic_s()
        await stage.until(stage.ended(order_id))
        assert stage.clock.monotonic_s() - began_s < 1, "asked about at once"
        assert stage.types(order_id) == ["Requested", "Attempted", "Succeeded"]


@virtual
async def test_a_call_that_arrives_after_the_takeover_is_waited_for() -> None:
    async with Stage() as stage:
        shard = await stage.shard()
        stage.provider.arrives_late_s[PHONE] = 25.0
        order_id = stage.buy()
        await stage.until(lambda: stage.provider.sent)
        await stage.crash(shard)
        await stage.shard()
        await stage.until(stage.ended(order_id))
        assert len(stage.provider.sent) == 1
        # Not found at once proves nothing while a call may be under way.
        assert stage.types(order_id) == ["Requested", "Attempted", "Uncertain", "Succeeded"]
        uncertain = stage.events(order_id)[2]
        waited_s = (uncertain.at - stage.provider.sent[0][0]).total_seconds()
        assert waited_s >= stage.provider.profile.call_timeout_s


@virtual
async def test_a_call_that_was_never_made_is_made_once_that_is_proven() -> None:
    async with Stage() as stage:
        shard = await stage.shard()
        stage.provider.arrives_late_s[PHONE] = 10**9
        order_id = stage.buy()
        await stage.until(lambda: stage.provider.sent)
        await stage.crash(shard)
        stage.provider.arrives_late_s.clear()
        fence_s = stage.clock.monotonic_s()
        await stage.shard()
        await stage.until(stage.ended(order_id))
        assert stage.state(order_id) is State.DELIVERED
        profile = stage.provider.profile
        second_s = (stage.provider.sent[1][0] - stage.provider.sent[0][0]).total_seconds()
        assert second_s >= fence_s + profile.call_timeout_s + profile.not_found_final_s


@virtual
async def test_a_failure_of_an_earlier_attempt_is_no_proof_about_the_one_in_doubt() -> None:
    async with Stage() as stage:
        shard = await stage.shard()
        stage.provider.will(OutcomeClass.DECLINED_TRANSIENT)
        order_id = stage.buy()
        await stage.until(lambda: stage.state(order_id) is State.WAITING)
        stage.provider.arrives_late_s[PHONE] = 60.0
        stage.command(RetryFulfillment, order_id)
        await stage.until(lambda: len(stage.provider.sent) == 2)
        await stage.crash(shard)
        await stage.shard()
        await stage.until(stage.ended(order_id))
        assert len(stage.provider.sent) == 2
        assert stage.state(order_id) is State.DELIVERED


@virtual
async def test_a_failure_counts_only_once_no_call_can_be_under_way_that_the_answer_did_not_see() -> None:
    async with Stage() as stage:
        shard = await stage.shard()
        stage.provider.hangs.add(PHONE)
        stage.provider.will(OutcomeClass.UNKNOWN)
        order_id = stage.buy()
        await stage.until(lambda: not stage.provider.truth.script[PHONE])
        await stage.crash(shard)
        stage.provider.hangs.clear()
        stage.provider.answers = [Outcome(OutcomeClass.DECLINED_TRANSIENT, transaction_id="T-strange")] * 3
        await stage.shard()
        await stage.until(stage.ended(order_id))
        types = stage.types(order_id)
        assert types == ["Requested", "Attempted", "Uncertain", "StatusChecked", "Failed", "Attempted", "Succeeded"]


@virtual
async def test_owners_that_die_one_after_another_deliver_once() -> None:
    async with Stage(max_in_flight=20) as stage:
        stage.provider.latency_s = 0.8
        order_ids = [stage.buy() for _ in range(30)]
        for _ in range(6):
            shard = await stage.shard()
            await stage.goes_on(0.5)
            await stage.crash(shard)
        await stage.shard()
        await stage.until(stage.ended(*order_ids))
        assert {stage.state(one) for one in order_ids} == {State.DELIVERED}


# --- what is refused --------------------------------------------------------------------------------------------------


def no_genesis(stage: Stage) -> None:
    stage.log.create(FULFILLMENT_STATE)


def other_partitions(stage: Stage) -> None:
    value = Genesis(cluster_id="memory", partitions=9, at="now").model_dump_json().encode()
    stage.log.append(FULFILLMENT_STATE, 0, GENESIS_KEY, value)


def other_cluster(stage: Stage) -> None:
    value = Genesis(cluster_id="other", partitions=1, at="now").model_dump_json().encode()
    stage.log.append(FULFILLMENT_STATE, 0, GENESIS_KEY, value)


def state_lost(stage: Stage) -> None:
    stage.log.create(FULFILLMENT_STATE)
    stage.make_genesis()


def one_order_s_state_lost(stage: Stage) -> None:
    key = next(record.key for record in stage.log.records(FULFILLMENT_STATE) if record.key != GENESIS_KEY)
    stage.log.append(FULFILLMENT_STATE, 0, key, None)


def orders_made_anew(stage: Stage) -> None:
    stage.log.create(ORDERS_EVENTS)


def orders_made_anew_and_filled(stage: Stage) -> None:
    stage.log.create(ORDERS_EVENTS)
    for _ in range(10):
        stage.buy()


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (no_genesis, "no genesis"),
        (other_partitions, "setting PARTITIONS"),
        (other_cluster, "made for cluster other"),
        (state_lost, "the state was lost"),
        (one_order_s_state_lost, "the state was lost"),
        (orders_made_anew, "the topic was made anew"),
        (orders_made_anew_and_filled, "the topic was made anew"),
    ],
)
@virtual
async def test_a_log_that_is_not_the_one_it_was_is_refused(harm: Callable[[Stage], None], why: str) -> None:
    async with Stage() as stage:
        await with_orders(stage)
        harm(stage)
        with pytest.raises(RefusedError, match=why):
            await stage.shard()


@virtual
async def test_what_a_fenced_one_has_read_is_no_reason_to_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what its heir writes it may have seen the events, and not yet the state."""
    async with Stage() as stage:
        await with_orders(stage)
        one_order_s_state_lost(stage)
        open_reader = stage.log.open_reader

        async def open_reader_late() -> Reader:
            await stage.log.open_writer(0)
            return await open_reader()

        monkeypatch.setattr(stage.log, "open_reader", open_reader_late)
        with pytest.raises(FencedError):
            await stage.shard()


@pytest.mark.parametrize(
    ("topic", "key", "value"),
    [
        (FULFILLMENT_STATE, b"11111111-1111-4111-8111-111111111111", b'{"invented": "later"}'),
        (FULFILLMENT_STATE, None, b"{}"),
        (FULFILLMENT_STATE, POSITIONS_KEY, b'{"version": 2}'),
        (FULFILLMENT_EVENTS, b"k", b'{"type": "InventedLater"}'),
    ],
)
@virtual
async def test_what_a_newer_version_wrote_is_left_to_it(topic: str, key: bytes | None, value: bytes) -> None:
    async with Stage() as stage:
        await with_orders(stage)
        stage.log.append(topic, 0, key, value)
        with pytest.raises(UnreadableStateError):
            await stage.shard()
        stage.log.create(FULFILLMENT_EVENTS)
        stage.log.create(FULFILLMENT_STATE)


# --- what goes on -----------------------------------------------------------------------------------------------------


@virtual
async def test_nothing_is_acted_on_twice_by_owners_in_turn() -> None:
    async with Stage() as stage:
        order_ids = [*await with_orders(stage), *await with_orders(stage), *await with_orders(stage, 0)]
        assert len(stage.provider.sent) == len(order_ids)
        assert all(stage.types(one) == ["Requested", "Attempted", "Succeeded"] for one in order_ids)


@virtual
async def test_a_lost_state_is_made_anew_from_the_events() -> None:
    async with Stage() as stage:
        shard = await stage.shard()
        stage.provider.will(OutcomeClass.DECLINED_TRANSIENT)
        waiting = stage.buy()
        await stage.until(lambda: stage.state(waiting) is State.WAITING)
        delivered = stage.buy()
        stage.log.append(FULFILLMENT_COMMANDS, 0, None, b"junk")
        await stage.until(stage.ended(delivered))
        in_doubt = stage.buy(phone="+233201234567")
        stage.provider.hangs.add("+233201234567")
        await stage.until(lambda: len(stage.provider.sent) == 3)
        await stage.goes_on(1)
        await stage.crash(shard)
        before = {one: stage.order(one) for one in (waiting, delivered, in_doubt)}
        stage.log.create(FULFILLMENT_STATE)
        with pytest.raises(RefusedError):
            await stage.shard()
        assert await recover(stage.log, partitions=1, cluster_id="memory") == 3
        assert {one: stage.order(one) for one in before} == before
        sent, letters = len(stage.provider.sent), len(stage.dead_letters())
        await stage.shard()
        await stage.until(stage.ended(waiting, delivered, in_doubt))
        assert len(stage.provider.sent) == sent + 1
        assert len(stage.dead_letters()) == letters, "what was set aside is not set aside again"


@virtual
async def test_a_recovery_that_is_cut_short_anywhere_leaves_a_partition_that_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.fulfiller.recover.BATCH", 1)
    async with Stage() as stage:
        shard = await stage.shard()
        orders = [stage.buy() for _ in range(2)]
        await stage.until(stage.ended(*orders))
        await stage.end(shard)
        for written in itertools.count():
            stage.log.fates.extend([Fate.WRITTEN] * written + [Fate.ABORTED])
            try:
                await recover(stage.log, partitions=1, cluster_id="memory")
            except LogError:
                if written:
                    with pytest.raises(RefusedError, match="no genesis"):
                        await stage.shard()
            else:
                break
        stage.log.fates.clear()
        assert written == 5, "a commit for each record but the last two"
        await stage.shard()


@virtual
async def test_an_id_that_was_used_again_long_after_does_not_hinder_a_recovery() -> None:
    async with Stage(dedupe_window=timedelta(hours=1)) as stage:
        shard = await stage.shard()
        order_id = stage.buy()
        await stage.until(stage.ended(order_id))
        await stage.goes_on(2 * 3600)
        await stage.until(stage.ended(stage.buy()))
        stage.buy(order_id)
        await stage.until(lambda: len(stage.events(order_id)) == 6)
        await stage.end(shard)
        before = stage.order(order_id)
        stage.log.create(FULFILLMENT_STATE)
        assert await recover(stage.log, partitions=1, cluster_id="memory") == 2
        assert stage.order(order_id) == before
        assert stage.provider.faults, "nobody but the provider can know the reference still"
        stage.provider.faults.clear()
        stage.log.create(FULFILLMENT_EVENTS)  # whose numbers begin twice
        stage.log.create(FULFILLMENT_STATE)


@virtual
async def test_a_command_that_was_followed_is_not_followed_again_after_a_recovery() -> None:
    async with Stage() as stage:
        shard = await stage.shard()
        stage.provider.will(OutcomeClass.DECLINED_PERMANENT, OutcomeClass.DECLINED_PERMANENT)
        order_id = stage.buy()
        await stage.until(stage.ended(order_id))
        stage.command(RetryFulfillment, order_id)
        await stage.until(lambda: len(stage.events(order_id)) == 5)
        await stage.end(shard)
        stage.log.create(FULFILLMENT_STATE)
        await recover(stage.log, partitions=1, cluster_id="memory")
        await stage.shard()
        await stage.goes_on(60)
        assert stage.types(order_id) == ["Requested", "Attempted", "Failed", "Attempted", "Failed"]


@virtual
async def test_a_suspended_provider_is_met_by_the_next_owner_too() -> None:
    async with Stage() as stage:
        stage.lane.observe(Outcome(OutcomeClass.SUSPENDED, code="BAD_CREDENTIALS"), 0)
        stage.provider.truth.available_mb = 0
        shard = await stage.shard()
        order_id = stage.buy()
        await stage.goes_on(30)
        await stage.crash(shard)
        await stage.shard()
        stage.provider.truth.available_mb = 10_000
        await stage.until(stage.ended(order_id))
        assert len(stage.provider.sent) == 1


@virtual
async def test_a_state_that_begins_late_is_read_all_the_same() -> None:
    async with Stage() as stage:
        order_ids = await with_orders(stage, 5)
        end = len(stage.log.records(ORDERS_EVENTS, 0))
        stage.log.expire(Source(ORDERS_EVENTS, 0), end - 1)
        later = await with_orders(stage)
        assert stage.ended(*order_ids, *later)()
