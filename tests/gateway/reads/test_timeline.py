import uuid
from typing import Any

import pytest

from schemas.fulfillment import Cause
from services.gateway import keys
from services.gateway.access import Role
from tests.gateway.conftest import Client, Stand
from tests.gateway.reads.conftest import Hand, Reader
from tests.projector.events import Story, behalf

pytestmark = pytest.mark.asyncio(loop_scope="session")


def events(order_id: str) -> str:
    return f"/api/orders/{order_id}/events"


async def test_every_event_with_its_place(viewer: Reader, hand: Hand, stand: Stand) -> None:
    story = Story(str(uuid.uuid4())).requested().attempted().failed().attempted().succeeded()
    records = await hand.tell(story, cause=Cause(topic="orders.events", partition=3, offset=77))
    answer = await viewer.get(events(story.order_id.upper()))
    assert (answer.status, answer.json["orderId"]) == (200, story.order_id)
    created, *told = answer.json["events"]
    prefix = stand.settings.topic_prefix
    assert (created["type"], created["topic"], created["partition"], created["offset"]) == (
        "OrderCreated",
        f"{prefix}orders.events",
        3,
        77,
    )
    assert [(event["topic"], event["partition"], event["offset"]) for event in told] == [
        (record.topic, record.partition, record.offset) for record in records
    ]
    assert [event["type"] for event in told] == [event.type for event in story.events]
    assert [event["sequence"] for event in told] == [1, 2, 3, 4, 5]
    assert told[2]["error_code"] == "BUSY"
    assert told[4]["api_response"] == {"status": "success"}
    again = await viewer.get(events(story.order_id), {"If-None-Match": answer.headers["ETag"]})
    assert (again.status, again.content) == (304, b"")


async def test_what_could_not_be_applied_and_what_was_refused_are_told_apart(
    viewer: Reader, hand: Hand, stand: Stand
) -> None:
    torn = Story(str(uuid.uuid4())).requested().attempted().succeeded()
    del torn.events[1]
    await hand.tell(torn)
    said = (await viewer.get(events(torn.order_id))).json["events"]
    assert [event["type"] for event in said] == ["FulfillmentRequested", "Quarantined"]
    assert "a gap" in said[1]["why"]
    refused = (await viewer.get(events(await hand.refused()))).json["events"]
    assert [event["type"] for event in refused] == ["DeadLetter"]
    assert refused[0]["topic"] == f"{stand.settings.topic_prefix}fulfillment.dead-letter"
    assert refused[0]["why"].startswith("stale")
    assert (await viewer.get(events(await hand.received()))).json["events"] == []


async def test_a_purchaser_sees_its_own_orders_without_what_is_for_operators(
    client: Client, viewer: Reader, hand: Hand, tokens: dict[Role, str]
) -> None:
    story = Story(str(uuid.uuid4())).requested(account="acme").attempted().failed(command=behalf())
    await hand.tell(story)
    others = await hand.delivered(account="globex")

    async def ask(order_id: str) -> Any:
        headers = {"Authorization": f"Bearer {tokens[Role.PURCHASER]}"}
        return await client.request("GET", events(order_id), headers=headers)

    mine = await ask(story.order_id)
    assert mine.status == 200
    assert all("api_response" not in event and "command" not in event for event in mine.json["events"])
    assert b"ama" not in mine.content
    assert (await ask(others)).is_problem(404)
    assert b"the customer called" in (await viewer.get(events(story.order_id))).content


@pytest.mark.parametrize("order_id", ["x", "%00", "..%2F..", "6f1c1a539a445d0e8f6d2b8f3f6f0a51", "é", "a" * 3000])
async def test_what_is_no_order(viewer: Reader, order_id: str) -> None:
    assert (await viewer.get(events(order_id))).is_problem(400)


async def test_an_unknown_order_and_an_unknown_parameter(viewer: Reader) -> None:
    assert (await viewer.get(events(str(uuid.uuid4())))).is_problem(404)
    assert (await viewer.get(events(str(uuid.uuid4())), limit="3")).is_problem(400)


async def test_a_revoked_key_sees_nothing(client: Client, hand: Hand) -> None:
    token = await keys.create(hand.connection, Role.VIEWER, "gone")
    reader = Reader(client, token)
    order_id = await hand.delivered()
    assert (await reader.get(events(order_id))).status == 200
    await keys.revoke(hand.connection, token.partition(".")[0])
    while (answer := await reader.get(events(order_id))).status == 200:
        pass  # until the gateway has been told
    assert answer.is_problem(401)
