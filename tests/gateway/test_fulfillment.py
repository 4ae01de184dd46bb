import asyncio
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest

from schemas.cloudevents import json_value
from schemas.fulfillment import Cause, CommandRejected, OnBehalf
from schemas.topics import FULFILLMENT_COMMANDS
from services.gateway.server import Gateway
from services.partition import home_partition
from tests.gateway.conftest import Answer, Client, Log, Stand, View
from tests.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def sent_command(log: Log, order_id: str) -> dict[str, Any]:
    [command] = await until(lambda: log.commands(order_id), "the command", 5)
    return dict(command)


async def test_the_status_is_the_whole_row(client: Client, view: View) -> None:
    now = datetime.now(UTC)
    order_id = await view.add(
        status="success",
        state="delivered",
        attempt_number=1,
        reference="r",
        api_response={"status": "ok"},
        fulfilled_at=now,
        sequence=3,
        price=5,
    )
    answer = await client.status(order_id.upper())
    assert (answer.status, answer.json["success"], answer.headers["ETag"]) == (200, True, '"3"')
    row = answer.json["fulfillment"]
    columns = await view.connection.fetch(
        "SELECT column_name FROM information_schema.columns WHERE table_name = 'fulfillment_logs'"
        " AND table_schema = 'public'"
    )
    assert set(row) == {column["column_name"] for column in columns}
    assert row["order_id"] == order_id
    assert row["api_response"] == {"status": "ok"}
    assert row["price"] == 5
    assert datetime.fromisoformat(row["fulfilled_at"]) == now
    assert row["retry_after"] is None


async def test_the_seeds_curl_line_works_as_it_stands(client: Client, view: View) -> None:
    order_id = await view.add()
    url = f"http://localhost:{client.port}/"
    curl = await asyncio.create_subprocess_exec(
        "curl",
        "-sS",
        f"{url}api/orders/fulfillment?orderId={order_id}",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await curl.communicate()
    assert f'"order_id":"{order_id}"'.encode() in output


async def test_an_etag_spares_the_body(client: Client, view: View) -> None:
    order_id = await view.add(sequence=2)
    answer = await client.status(order_id, **{"If-None-Match": '"2"'})
    assert (answer.status, answer.content, answer.headers["ETag"]) == (304, b"", '"2"')
    assert (await client.status(order_id, **{"If-None-Match": '"1"'})).status == 200


async def test_a_status_can_be_waited_for(client: Client, gateway: Gateway, view: View) -> None:
    order_id = await view.add()
    asked = asyncio.create_task(client.status(order_id, Prefer="wait=20"))
    await watched(gateway, order_id)
    await view.notify(order_id)  # of nothing new
    await view.change(order_id, status="processing", state="attempting")
    answer = await asyncio.wait_for(asked, 5)
    assert answer.json["fulfillment"]["status"] == "processing"
    assert answer.headers["Preference-Applied"] == "wait=20"


async def test_a_wait_goes_on_from_what_the_client_knows(client: Client, gateway: Gateway, view: View) -> None:
    order_id = await view.add(sequence=3)
    known = {"If-None-Match": '"2"', "Prefer": "wait=20"}
    assert (await asyncio.wait_for(client.status(order_id, **known), 5)).status == 200
    current = {"If-None-Match": '"3"', "Prefer": "wait=1"}
    assert (await client.status(order_id, **current)).status == 304
    asked = asyncio.create_task(client.status(order_id, **{"If-None-Match": '"3"', "Prefer": "wait=20"}))
    await watched(gateway, order_id)
    await view.change(order_id, state="held")
    assert (await asyncio.wait_for(asked, 5)).headers["ETag"] == '"4"'


async def test_nobody_waits_for_a_change_of_what_is_final(client: Client, view: View) -> None:
    order_id = await view.add(status="success", state="delivered")
    assert (await asyncio.wait_for(client.status(order_id, Prefer="wait=30"), 5)).status == 200


async def test_an_order_accepted_a_moment_ago_is_waited_for(client: Client, gateway: Gateway, view: View) -> None:
    order_id = str(uuid.uuid4())
    asked = asyncio.create_task(client.status(order_id))
    await watched(gateway, order_id)
    await view.add(order_id, state="received", sequence=0)
    assert (await asked).json["fulfillment"]["state"] == "received"


async def test_a_trigger_is_a_command_at_home_and_its_outcome_the_answer(
    client: Client, log: Log, stand: Stand, view: View
) -> None:
    order_id = await view.add(state="held")
    asked = asyncio.create_task(client.act("trigger", order_id))
    command = await sent_command(log, order_id)
    assert (command["type"], command["order_id"], command["actor"]) == ("TriggerFulfillment", order_id, "local")
    [record] = await log.records(FULFILLMENT_COMMANDS, order_id)
    assert record.partition == home_partition(order_id, stand.settings.partitions)
    assert dict(record.headers)["ce_type"] == b"TriggerFulfillment"
    assert dict(record.headers)["ce_id"] == command["command_id"].encode()
    await view.change(order_id, state="attempting", status="processing", command_id=command["command_id"])
    await view.change(order_id, state="delivered", status="success", reference=order_id)
    answer = await asked
    assert answer.status == 200
    assert answer.json["success"] is True
    assert answer.json["message"]
    assert answer.json["fulfillment"] == {"orderId": order_id, "status": "success", "reference": order_id}


async def test_a_retry_that_fails_says_why_and_what_comes(client: Client, log: Log, view: View) -> None:
    order_id = await view.add(state="waiting", status="failed", attempt_number=1)
    asked = asyncio.create_task(client.act("retry", order_id))
    command = await sent_command(log, order_id)
    assert command["type"] == "RetryFulfillment"
    await view.change(
        order_id,
        command_id=command["command_id"],
        attempt_number=2,
        error_code="BUSY",
        error_message="The provider is busy",
    )
    answer = await asked
    assert answer.is_problem(400)
    said = answer.json
    assert (said["message"], said["errorCode"], said["willRetry"]) == ("The provider is busy", "BUSY", True)


async def test_a_command_that_the_fulfiller_rejects_is_a_conflict(client: Client, log: Log, view: View) -> None:
    order_id = await view.add(state="held")
    asked = asyncio.create_task(client.act("trigger", order_id))
    command = await sent_command(log, order_id)
    await view.change(order_id, command_id=command["command_id"], command_rejected="no provider serves MTN")
    answer = await asked
    assert answer.is_problem(409)
    assert answer.json["detail"] == "no provider serves MTN"


async def test_what_became_of_a_command_is_told_also_where_another_s_answer_came_after(
    client: Client, log: Log, view: View
) -> None:
    order_id = await view.add(state="held")
    asked = asyncio.create_task(client.act("trigger", order_id))
    command = await sent_command(log, order_id)
    assert command["expected_sequence"] == 1
    rejected = CommandRejected(
        order_id=order_id, sequence=2, phone_number="+233123456789", size_mb=1000, network="MTN", at=datetime.now(UTC),
        cause=Cause(topic=FULFILLMENT_COMMANDS, partition=0, offset=0), command_type="TriggerFulfillment",
        command=OnBehalf(command_id=command["command_id"], actor="user:ama", reason=""),
        why="the order changed since it was looked at",
    )  # fmt: skip
    await view.connection.execute(
        'INSERT INTO events (partition, "offset", order_id, value) VALUES (0, $1, $2, $3)',
        uuid.uuid4().int % 10**12, order_id, json_value(rejected),
    )  # fmt: skip
    await view.change(order_id, state="delivered", status="success", command_id=str(uuid.uuid4()))
    answer = await asked
    assert answer.is_problem(409)
    assert answer.json["detail"] == rejected.why


async def test_what_takes_longer_than_the_client_waits_is_202(client: Client, view: View) -> None:
    order_id = await view.add(state="waiting", status="failed", attempt_number=1)
    answer = await asyncio.wait_for(client.act("retry", order_id, Prefer="wait=0"), 4)
    assert (answer.status, answer.json["success"], answer.json["fulfillment"]["orderId"]) == (202, True, order_id)


@pytest.mark.usefixtures("silence")
@pytest.mark.parametrize(
    ("action", "state", "status", "attempt", "expected"),
    [
        ("trigger", "delivered", "success", 1, 200),
        ("trigger", "attempting", "processing", 1, 202),
        ("trigger", "created", "pending", 0, 202),
        ("trigger", "failed", "failed", 3, 409),
        ("retry", "delivered", "success", 1, 409),
        ("retry", "attempting", "processing", 1, 409),
        ("retry", "failed", "failed", 3, 409),
        ("retry", "settling", "failed", 3, 409),
    ],
)
async def test_what_needs_no_command_sends_none(
    client: Client, view: View, *, action: str, state: str, status: str, attempt: int, expected: int
) -> None:
    order_id = await view.add(state=state, status=status, attempt_number=attempt, reference="r")
    answer: Answer = await asyncio.wait_for(client.act(action, order_id), 4)
    if expected == 409:
        assert answer.is_problem(409)
    else:
        assert answer.status == expected
        assert answer.json["fulfillment"]["status"] == status


async def test_a_running_order_is_waited_for_on_request(client: Client, gateway: Gateway, view: View) -> None:
    order_id = await view.add(state="attempting", status="processing", attempt_number=1)
    asked = asyncio.create_task(client.act("trigger", order_id, Prefer="wait=20"))
    await watched(gateway, order_id)
    await view.change(order_id, state="delivered", status="success", reference="r")
    assert (await asyncio.wait_for(asked, 5)).status == 200


async def watched(gateway: Gateway, order_id: str) -> None:
    await until(lambda: gateway.changes.is_watched(order_id), "somebody who waits")
