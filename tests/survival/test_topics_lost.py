"""A topic is deleted and made anew: the fulfiller refuses to believe that it is new, and what can be mended is."""

from dataclasses import replace

import pytest

from schemas.topics import FULFILLMENT_EVENTS, FULFILLMENT_STATE, ORDERS_EVENTS
from services.sandbox.faults import magic_number
from services.setup.patience import Patience
from services.setup.setup import set_up_kafka
from tests.checker import assert_sound
from tests.evidence import read_topics
from tests.lost_topics import lose
from tests.processes import Service
from tests.stand import Stand
from tests.survival.conftest import Stands
from tests.survival.scenarios import Ran, side_by_side

pytestmark = [pytest.mark.survival, pytest.mark.timeout(180)]


async def _make_anew(stand: Stand, topic: str) -> None:
    """Delete it, and run the set-up as an operator would."""
    await lose(stand.settings, topic)
    await set_up_kafka(stand.settings, Patience())


async def _refuses(stand: Stand, fulfiller: Service, *words: str) -> None:
    """Every partition, naming what is wrong; it goes on saying so, and does nothing."""
    await fulfiller.said("partition_refused", stand.settings.partitions)
    assert "fulfiller ready" not in fulfiller.log
    status, said = await stand.readiness(fulfiller.url)
    assert status == 503
    refused = [why for name, why in said.items() if name.startswith("partition")]
    assert len(refused) == stand.settings.partitions
    assert all(word in why for why in refused for word in words)


async def _before(stand: Stand) -> list[str]:
    """Orders in every partition, of which some are at rest, some wait for a retry and some are in doubt."""
    stand.projector()
    fulfiller = stand.fulfiller()
    await fulfiller.ready()
    ended = await stand.orders([stand.new_phone() for _ in range(10)])
    waiting = await stand.orders([magic_number("busy", times=2)] * 3)
    unknown = await stand.orders([magic_number("found_late")] * 3)
    await stand.reached(ended, "delivered")
    await stand.sandbox.reached("sends", 16)
    fulfiller.kill()
    return [*ended, *waiting, *unknown]


async def _state_lost(stand: Stand) -> None:
    orders = await _before(stand)
    # Never read by anybody yet.
    orders += await stand.orders([stand.new_phone() for _ in range(4)])
    events = (await read_topics(stand.settings, [FULFILLMENT_EVENTS]))[FULFILLMENT_EVENTS]
    await _make_anew(stand, FULFILLMENT_STATE)
    assert not (await read_topics(stand.settings, [FULFILLMENT_STATE]))[FULFILLMENT_STATE], (
        "no genesis where events are"
    )
    fulfiller = stand.fulfiller()
    await _refuses(stand, fulfiller, "genesis", "recover")
    sends = await stand.sandbox.sends()
    assert (await read_topics(stand.settings, [FULFILLMENT_EVENTS]))[FULFILLMENT_EVENTS] == events

    recovery = stand.start("services.fulfiller", "recover")
    assert await recovery.ended(within_s=30) == 0, recovery.log
    await fulfiller.ready()
    orders += await stand.orders([stand.new_phone() for _ in range(4)])
    await stand.reached(orders, "delivered")
    await stand.proven()
    after = await stand.sandbox.sends()
    assert all(after[order] == sends[order] for order in orders[:10]), "what had ended is not touched"


async def _orders_lost(stand: Stand, *, refilled: bool) -> None:
    orders = await _before(stand)
    fulfiller = stand.fulfiller()
    await fulfiller.ready()
    await stand.reached(orders, "delivered")
    evidence = await stand.proven()
    await fulfiller.stop()
    await _make_anew(stand, ORDERS_EVENTS)
    if refilled:
        # As many records and more, so that every offset that was read is there again.
        strangers = await stand.orders([stand.new_phone() for _ in range(4 * len(orders))])
        stand.clients.accepted = [said for said in stand.clients.accepted if said.order_id not in strangers]
    fulfiller = stand.fulfiller()
    await _refuses(stand, fulfiller, ORDERS_EVENTS, "made anew")
    after = await stand.evidence()
    assert after.ledger == evidence.ledger
    assert after.of(FULFILLMENT_EVENTS) == evidence.of(FULFILLMENT_EVENTS)
    if not refilled:
        assert_sound(replace(after, topics={**after.topics, ORDERS_EVENTS: evidence.of(ORDERS_EVENTS)}))


async def _orders_empty(stand: Stand) -> None:
    await _orders_lost(stand, refilled=False)


async def _orders_refilled(stand: Stand) -> None:
    await _orders_lost(stand, refilled=True)


SCENARIOS = {
    "fulfillment.state": _state_lost,
    "orders.events": _orders_empty,
    "orders.events, and it is filled again": _orders_refilled,
}


@pytest.fixture(scope="module")
def ran(stands: Stands) -> Ran:
    return side_by_side(stands, SCENARIOS)


@pytest.mark.parametrize("topic", SCENARIOS)
def test_a_topic_is_made_anew(topic: str, ran: Ran) -> None:
    ran.held(topic)
