"""A fulfiller is frozen for longer than its session, another takes over, and the zombie wakes."""

import asyncio

import pytest

from schemas.topics import FULFILLMENT_EVENTS
from services.sandbox.faults import magic_number
from tests.evidence import Logged, read_topics
from tests.processes import Service
from tests.stand import Stand
from tests.survival.conftest import Stands
from tests.survival.scenarios import Ran, side_by_side

pytestmark = [pytest.mark.survival, pytest.mark.timeout(240)]


async def _events(stand: Stand) -> list[Logged]:
    return (await read_topics(stand.settings, [FULFILLMENT_EVENTS]))[FULFILLMENT_EVENTS]


async def _wake(stand: Stand, zombie: Service, orders: list[str]) -> None:
    """It finds itself fenced, commits nothing, makes no further call; and is then of use again."""
    sends, events = await stand.sandbox.sends(), await _events(stand)
    assert "ProducerFenced" not in zombie.log
    zombie.thaw()
    await zombie.said("ProducerFenced")
    await zombie.said("partitions_assigned", 2)
    assert await stand.sandbox.sends() == sends
    assert await _events(stand) == events
    later = await stand.orders([stand.new_phone() for _ in range(10)])
    await stand.reached([*orders, *later], "delivered")
    await stand.proven()
    assert sends.items() <= (await stand.sandbox.sends()).items()


async def _with_calls_under_way(stand: Stand) -> None:
    stand.projector()
    zombie = stand.fulfiller()
    await zombie.ready()
    orders = await stand.orders([magic_number("hold")] * 4)
    await stand.sandbox.reached("held", len(orders))
    zombie.freeze()
    unread = await stand.orders([stand.new_phone() for _ in range(4)])
    heir = stand.fulfiller()
    await heir.said("partition_taken", stand.settings.partitions)
    await stand.reached([*orders, *unread], "delivered")
    # Their answers reach the zombie's sockets, and are there when it wakes.
    assert await stand.sandbox.release() == len(orders)
    await _wake(stand, zombie, [*orders, *unread])


async def _between_intent_and_call(stand: Stand) -> None:
    """The worst moment: the intent is written, the next thing that it does is the call."""
    stand.projector()
    zombie = stand.fulfiller("fulfiller.intent_committed:stop")
    await zombie.ready()
    orders = await stand.orders([stand.new_phone() for _ in range(4)])
    await zombie.froze_at("fulfiller.intent_committed")
    assert not await stand.sandbox.sends()
    heir = stand.fulfiller()
    await heir.said("partition_taken", stand.settings.partitions)
    await stand.reached(orders, "delivered")
    await _wake(stand, zombie, orders)


async def _between_reply_and_commit(stand: Stand) -> None:
    """It wakes with an outcome that another has written already."""
    stand.projector()
    zombie = stand.fulfiller("fulfiller.outcome_uncommitted:stop")
    await zombie.ready()
    orders = await stand.orders([stand.new_phone() for _ in range(4)])
    await zombie.froze_at("fulfiller.outcome_uncommitted")
    heir = stand.fulfiller()
    await heir.said("partition_taken", stand.settings.partitions)
    await stand.reached(orders, "delivered")
    await _wake(stand, zombie, orders)


async def _all_at_once(stand: Stand) -> None:
    """Two zombies and an heir wake and sleep in turns: whoever owns a partition, an order is sent once."""
    stand.projector()
    workers = [stand.fulfiller(), stand.fulfiller()]
    await asyncio.gather(*(worker.ready() for worker in workers))
    orders = await stand.orders([magic_number("hold"), stand.new_phone()] * 4)
    await stand.sandbox.reached("held", 4)
    for worker in workers:
        worker.freeze()
    heir = stand.fulfiller()
    await heir.said("partition_taken", stand.settings.partitions)
    await stand.reached(orders, "delivered")
    heir.freeze()
    for worker in workers:
        worker.thaw()
    await stand.sandbox.release()
    orders += await stand.orders([stand.new_phone() for _ in range(10)])
    await stand.reached(orders, "delivered")
    heir.thaw()
    orders += await stand.orders([stand.new_phone() for _ in range(10)])
    await stand.reached(orders, "delivered")
    await stand.proven()
    sends = await stand.sandbox.sends()
    assert all(sends[order] == 1 for order in orders)


SCENARIOS = {
    "with calls under way": _with_calls_under_way,
    "between intent and call": _between_intent_and_call,
    "between reply and commit": _between_reply_and_commit,
    "in turns": _all_at_once,
}


@pytest.fixture(scope="module")
def ran(stands: Stands) -> Ran:
    return side_by_side(stands, SCENARIOS)


@pytest.mark.parametrize("when", SCENARIOS)
def test_a_frozen_fulfiller_wakes(when: str, ran: Ran) -> None:
    ran.held(when)
