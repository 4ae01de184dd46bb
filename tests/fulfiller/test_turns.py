"""What a shard does with many orders at once, with too many, and with what it finds at a takeover."""

import pytest
from structlog.testing import capture_logs

from schemas.commands import CancelFulfillment
from schemas.topics import ORDERS_EVENTS
from services.fulfiller.log import Source
from services.fulfiller.order import State
from services.fulfiller.outage import FAULTS_TO_SUSPEND
from services.fulfiller.providers.port import OutcomeClass
from tests.fulfiller.stage import Stage, virtual

MANY = 100


@virtual
async def test_one_transaction_takes_all_that_is_ready() -> None:
    async with Stage(max_in_flight=MANY) as stage:
        order_ids = [stage.buy() for _ in range(MANY)]
        await stage.shard()
        await stage.until(stage.ended(*order_ids))
        # The orders and their intents, their outcomes, and a few turns about them.
        assert stage.log.commits <= 10


@virtual
async def test_what_is_read_is_committed_though_no_slot_is_free_and_calls_are_under_way() -> None:
    async with Stage(max_in_flight=1) as stage:
        stage.provider.latency_s = 20
        order_ids = [stage.buy()]
        shard = await stage.shard()
        await stage.goes_on(5)
        order_ids += [stage.buy() for _ in range(MANY - 1)]
        await stage.goes_on(5)
        assert stage.provider.under_way.total() == 1
        assert [stage.types(order_id) for order_id in order_ids[1:]] == [["Requested"]] * (MANY - 1)
        assert stage.types(order_ids[0]) == ["Requested", "Attempted"], "committed while the call is under way"
        assert shard.position == MANY
        stage.provider.latency_s = 0.01
        await stage.until(stage.ended(*order_ids))


@virtual
async def test_at_the_cap_only_orders_wait_to_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.fulfiller.shard.MAX_QUEUED", 20)
    monkeypatch.setattr("services.fulfiller.shard.POLL_S", 0.2)
    async with Stage(max_in_flight=1) as stage:
        stage.provider.latency_s = 20
        first = [stage.buy() for _ in range(50)]
        await stage.shard()
        await stage.until(lambda: all(map(stage.types, first)))
        await stage.goes_on(1)
        second = [stage.buy() for _ in range(50)]
        stage.command(CancelFulfillment, first[-1])
        await stage.goes_on(5)
        assert not any(map(stage.types, second)), "orders.events is not read on"
        assert stage.state(first[-1]) is State.CANCELLED, "commands are"
        stage.provider.latency_s = 0.01
        await stage.until(stage.ended(*first, *second))


@virtual
async def test_orders_of_a_suspended_provider_do_not_count_towards_the_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.fulfiller.shard.MAX_QUEUED", 20)
    async with Stage(max_in_flight=1) as stage:
        stage.provider.truth.available_mb = 0
        stage.provider.will(OutcomeClass.SUSPENDED)
        first = [stage.buy() for _ in range(50)]
        await stage.shard()
        await stage.until(lambda: stage.lane.suspended_because is not None and all(map(stage.types, first)))
        second = [stage.buy() for _ in range(50)]
        await stage.until(lambda: all(map(stage.types, second)), within_s=120)
        stage.provider.truth.available_mb = 10**6
        await stage.until(stage.ended(*first, *second))


@virtual
async def test_business_refusals_suspend_nobody_and_questions_go_on_while_suspended() -> None:
    async with Stage(max_in_flight=FAULTS_TO_SUSPEND * 2) as stage:
        await stage.shard()
        stage.provider.will(*[OutcomeClass.DECLINED_PERMANENT] * FAULTS_TO_SUSPEND * 2)
        refused = [stage.buy() for _ in range(FAULTS_TO_SUSPEND * 2)]
        await stage.until(stage.ended(*refused))
        assert stage.lane.suspended_because is None

        stage.provider.will(OutcomeClass.UNKNOWN, delivers=True)
        unknown = stage.buy()
        await stage.until(lambda: stage.state(unknown) is State.UNKNOWN)
        stage.provider.truth.available_mb = 0
        stage.provider.will(OutcomeClass.SUSPENDED)
        waiting = stage.buy()
        await stage.until(lambda: stage.lane.suspended_because is not None)
        await stage.until(stage.ended(unknown), within_s=60)
        assert stage.lane.suspended_because is not None
        stage.provider.truth.available_mb = 10**6
        await stage.until(stage.ended(waiting))


# --- at a takeover ----------------------------------------------------------------------------------------------------


@virtual
async def test_a_takeover_does_what_came_due_meanwhile() -> None:
    async with Stage() as stage:
        shard = await stage.shard()
        stage.provider.will(OutcomeClass.DECLINED_TRANSIENT, phone="+233244000001")
        stage.provider.will(OutcomeClass.UNKNOWN, phone="+233244000002", delivers=True)
        waiting, unknown = stage.buy(phone="+233244000001"), stage.buy(phone="+233244000002")
        await stage.until(lambda: (stage.state(waiting), stage.state(unknown)) == (State.WAITING, State.UNKNOWN))
        await stage.end(shard)
        await stage.goes_on(1000)
        await stage.shard()
        await stage.until(stage.ended(waiting, unknown), within_s=5)


@virtual
async def test_a_log_that_forgot_what_was_not_read_is_gone_on_with_and_that_is_said() -> None:
    async with Stage() as stage:
        shard = await stage.shard()
        known = stage.buy()
        await stage.until(stage.ended(known))
        await stage.end(shard)
        lost, kept = stage.buy(), stage.buy()
        stage.log.expire(Source(ORDERS_EVENTS, 0), begin=2)
        with capture_logs() as logged:
            await stage.shard()
            await stage.until(stage.ended(kept))
        assert [(line["topic"], line["missed"]) for line in logged if line["event"] == "input_expired_unread"] == [
            (ORDERS_EVENTS, 1)
        ]
        assert stage.types(lost) == []
