"""One connection's view: batches that follow upon others, and those that do not."""

import uuid
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from schemas.fulfillment import FulfillmentEvent
from services.projector.batch import Batch
from services.projector.projection import Place, Quarantined
from services.projector.view import Overtaken, View
from tests.projector.events import Story, created

PARTITION = ("fulfillment.events", 0)


class Hand:
    """Applies batches by hand, each from where the last one ended."""

    def __init__(self, connection: Any, *, fills: bool) -> None:
        self.view = View(connection, max_attempts=3, fills=fills)
        self.at = 0

    async def apply(self, events: list[FulfillmentEvent], **others: Any) -> list[Quarantined]:
        placed = [(event, Place(*PARTITION, self.at + number, 0)) for number, event in enumerate(events)]
        batch = Batch(placed, [], others.get("created", {}), others.get("dead_letters", []))
        end = self.at + max(1, len(events))
        quarantined = await self.view.apply(batch, {PARTITION: (self.at, end)})
        self.at = end
        return quarantined


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(database_url)
    await connection.execute("INSERT INTO positions VALUES ('fulfillment.events', 0, 0)")
    yield connection
    await connection.close()


@pytest.fixture(params=[False, True], ids=["live", "fills"])
def hand(request: pytest.FixtureRequest, connection: Any) -> Hand:
    return Hand(connection, fills=request.param)


def new_order() -> str:
    return str(uuid.uuid4())


async def row(connection: Any, order_id: str) -> Any:
    return await connection.fetchrow("SELECT * FROM fulfillment_logs WHERE order_id = $1", order_id)


async def test_first_events_overrule_a_received_order(hand: Hand, connection: Any) -> None:
    order = created(new_order(), account="before")
    await hand.apply([], created={order.order_id: order})
    assert (await row(connection, order.order_id))["account"] == "before"
    await hand.apply(Story(order.order_id).requested(account="after").attempted().events)
    found = await row(connection, order.order_id)
    assert (found["state"], found["account"], found["sequence"]) == ("attempting", "after", 2)


async def test_a_beginning_that_comes_again_is_seen_whatever_is_remembered(hand: Hand, connection: Any) -> None:
    told = Story(new_order()).requested().attempted().succeeded()
    other = Story(new_order()).requested()
    assert await hand.apply(told.events) == []
    (entry,) = await hand.apply([told.events[0], *other.events])
    assert entry.why == "a repetition: event 3 was applied already"
    found = await row(connection, told.order_id)
    assert (found["status"], found["quarantined"]) == ("success", True)
    assert (await row(connection, other.order_id))["sequence"] == 1


async def test_an_order_goes_on_from_the_row_that_another_left(hand: Hand, connection: Any) -> None:
    told = Story(new_order()).requested().attempted().failed()
    await hand.apply(told.events)
    heir = Hand(connection, fills=False)
    heir.at = hand.at
    await heir.apply(told.attempted().succeeded().events[3:])
    found = await row(connection, told.order_id)
    assert (found["status"], found["attempt_number"], found["sequence"]) == ("success", 2, 5)
    with pytest.raises(Overtaken):
        await hand.apply(told.rejected().events[5:])
    assert (await row(connection, told.order_id))["sequence"] == 5


async def test_what_cannot_be_stored_leaves_all_as_it_was(hand: Hand, connection: Any) -> None:
    good = Story(new_order()).requested()
    vast = Story(new_order()).requested().events[0].model_copy(update={"size_mb": 2**40})
    with pytest.raises(asyncpg.DataError):
        await hand.apply([*good.events, vast])
    assert await connection.fetchval("SELECT count(*) FROM orders") == 0
    assert await connection.fetchval("SELECT next_offset FROM positions") == 0
    await hand.apply(good.events)
    assert (await row(connection, good.order_id))["sequence"] == 1


async def test_a_batch_from_where_another_projector_went_on_leaves_all_as_it_was(hand: Hand, connection: Any) -> None:
    told = Story(new_order()).requested()
    await connection.execute("UPDATE positions SET next_offset = 7")
    with pytest.raises(Overtaken):
        await hand.apply(told.events)
    assert await connection.fetchval("SELECT count(*) FROM orders") == 0
    assert await connection.fetchval("SELECT next_offset FROM positions") == 7
