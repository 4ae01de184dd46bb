import asyncio
import uuid
from datetime import datetime
from typing import Any

import pytest
from aiokafka.partitioner import DefaultPartitioner

from schemas import ids
from schemas.cloudevents import decode_order
from services.gateway.server import Gateway
from tests.gateway.conftest import BUNDLE, Client, Log, Stand, View, new_key

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_purchase_is_in_the_log_when_it_is_answered(client: Client, log: Log, stand: Stand) -> None:
    answer = await client.purchase(
        {**BUNDLE, "size": "1.5GB", "phoneNumber": "0123456789", "price": 5.5, "packageId": "p-1"},
        traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    )
    assert answer.status == 202
    order = answer.json["order"]
    assert answer.json["success"] is True
    assert answer.headers["Location"] == f"/api/orders/fulfillment?orderId={order['id']}"
    created_at = datetime.fromisoformat(order.pop("created_at"))
    assert created_at.tzinfo is not None
    assert order == {
        "id": str(uuid.UUID(order["id"])),
        "network": "AT-iShare",
        "size": "1.5GB",
        "size_mb": 1500,
        "phone_number": "+233123456789",
        "price": 5.5,
        "status": "pending",
        "fulfillment_status": "pending",
    }
    [record] = await log.orders(order["id"])
    assert record.key.decode() == order["id"]
    partitions = list(range(stand.settings.partitions))
    assert record.partition == DefaultPartitioner()(record.key, partitions, partitions)
    headers = dict(record.headers)
    assert headers["ce_type"] == b"OrderCreated"
    assert headers["traceparent"].startswith(b"00-4bf92f")
    said = decode_order(record.value, record.headers)
    assert (said.order_id, said.account, said.package_id) == (order["id"], "local", "p-1")
    assert said.bundle == ("+233123456789", 1500, "AT-iShare")
    assert said.created_at == created_at


@pytest.mark.parametrize(
    ("size", "size_mb"), [("1GB", 1000), ("500MB", 500), (2, 2000), (1.5, 1500), ("100 GB", 100_000), ("0.001", 1)]
)
async def test_sizes_as_people_write_them(client: Client, size: object, size_mb: int) -> None:
    answer = await client.purchase({**BUNDLE, "size": size})
    assert (answer.status, answer.json["order"]["size_mb"]) == (202, size_mb)


async def test_the_same_key_and_body_give_the_same_order_and_answer_without_a_second_record(
    client: Client, log: Log
) -> None:
    key = new_key()
    first = await client.purchase(key=key)
    again = await client.purchase({**BUNDLE, "size": "1000MB", "phoneNumber": "0123456789"}, key=key)
    assert first.status == again.status == 202
    assert first.content == again.content
    assert first.json["order"]["id"] == ids.order_id("local", key)
    assert len(await log.orders(ids.order_id("local", key))) == 1


@pytest.mark.parametrize(
    "other", [{"size": "2GB"}, {"network": "MTN"}, {"phoneNumber": "0123456780"}, {"price": 1}, {"packageId": "p"}]
)
async def test_the_same_key_with_another_body_is_refused(client: Client, log: Log, other: dict[str, Any]) -> None:
    key = new_key()
    await client.purchase(key=key)
    assert (await client.purchase({**BUNDLE, **other}, key=key)).is_problem(422)
    assert len(await log.orders(ids.order_id("local", key))) == 1


async def test_equal_requests_at_the_same_time_make_one_order(client: Client, log: Log) -> None:
    key = new_key()
    answers = await asyncio.gather(*[client.purchase(key=key) for _ in range(8)])
    assert {answer.status for answer in answers} <= {202, 409}
    accepted = {answer.content for answer in answers if answer.status == 202}
    assert len(accepted) == 1
    for answer in answers:
        assert answer.status == 202 or (answer.is_problem(409) and 1 <= int(answer.headers["Retry-After"]) <= 30)
    assert len(await log.orders(ids.order_id("local", key))) == 1


async def test_a_claim_whose_owner_died_is_taken_over_with_the_order_as_first_made(
    client: Client, log: Log, view: View
) -> None:
    key = new_key()
    first = await client.purchase(key=key)
    # As an owner leaves it that dies between the acknowledgement and its answer.
    await view.connection.execute("UPDATE access.idempotency_keys SET done = false WHERE key = $1", key)
    assert (await client.purchase(key=key)).is_problem(409)
    assert (await client.purchase({**BUNDLE, "size": "2GB"}, key=key)).is_problem(422)
    await view.connection.execute(
        "UPDATE access.idempotency_keys SET claimed_at = now() - interval '31 s' WHERE key = $1", key
    )
    assert (await client.purchase({**BUNDLE, "size": "2GB"}, key=key)).is_problem(422)
    again = await client.purchase(key=key)
    assert again.content == first.content
    one, other = await log.orders(ids.order_id("local", key))
    assert (one.key, one.value, one.headers, one.partition) == (other.key, other.value, other.headers, other.partition)


async def test_a_key_is_remembered_by_its_order_when_its_claim_is_gone(client: Client, log: Log, view: View) -> None:
    key = new_key()
    await view.add(ids.order_id("local", key))
    row = await view.connection.fetchrow("SELECT created_at FROM orders WHERE id = $1", ids.order_id("local", key))
    again = await client.purchase(key=key)
    assert again.status == 202
    assert datetime.fromisoformat(again.json["order"]["created_at"]) == row["created_at"]
    assert (await client.purchase({**BUNDLE, "size": "2GB"}, key=key)).is_problem(422)
    assert await log.orders(ids.order_id("local", key)) == []


async def test_claims_are_forgotten_after_a_day(client: Client, gateway: Gateway, view: View) -> None:
    old, young = new_key(), new_key()
    await client.purchase(key=old)
    await client.purchase(key=young)
    await view.connection.execute(
        "UPDATE access.idempotency_keys SET created_at = now() - interval '25 h' WHERE key = $1", old
    )
    await gateway.claims.forget()
    left = await view.connection.fetch("SELECT key FROM access.idempotency_keys WHERE key = ANY($1)", [old, young])
    assert [row["key"] for row in left] == [young]


async def test_without_a_key_postgres_is_not_touched(client: Client, view: View) -> None:
    async with view.connection.transaction():
        await view.connection.execute("LOCK TABLE access.idempotency_keys, access.api_keys, orders")
        answer = await asyncio.wait_for(client.purchase(), 2)
        assert answer.status == 202


async def test_a_database_that_hangs_delays_a_purchase_but_a_little(client: Client, log: Log, view: View) -> None:
    key = new_key()
    loop = asyncio.get_running_loop()
    async with view.connection.transaction():
        await view.connection.execute("LOCK TABLE access.idempotency_keys")
        started = loop.time()
        answer = await client.purchase(key=key)
        assert answer.status == 202
        assert loop.time() - started < 2
    assert len(await log.orders(ids.order_id("local", key))) == 1


async def test_an_idempotency_key_of_255_characters_is_taken(client: Client) -> None:
    assert (await client.purchase(key="~" * 255)).status == 202
