"""Every topic is read by kcat as it is: plain JSON, keys and headers that people can read."""

import asyncio
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from schemas.topics import table
from services.sandbox.faults import magic_number
from tests.backend import Backend
from tests.stand import Stand, stand

KCAT = shutil.which("kcat") or shutil.which("kafkacat")
pytestmark = pytest.mark.skipif(KCAT is None, reason="not run: no kcat")


async def read(bootstrap_servers: str, topic: str) -> list[dict[str, Any]]:
    """Every record, as kcat's own JSON envelope has it."""
    assert KCAT is not None
    process = await asyncio.create_subprocess_exec(
        *(KCAT, "-b", bootstrap_servers, "-C", "-t", topic, "-o", "beginning", "-e", "-q", "-J"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return [json.loads(line) for line in out.decode().splitlines()]


async def use_every_topic(stand: Stand) -> None:
    """An order that is delivered, one that waits, one in doubt, a command, a poisoned record."""
    fulfiller, projector, gateway = stand.fulfiller(), stand.projector(), stand.gateway()
    await fulfiller.ready()
    await projector.ready()
    url = await gateway.ready()
    orders = await stand.orders([stand.new_phone(), magic_number("try_again"), magic_number("deliver_then_500")])
    await stand.poison(b"{oops")
    await stand.reached(orders[:1], "delivered")
    await stand.reached(orders[1:2], "settling", "failed", within_s=30)
    async with stand.session.post(
        f"{url}/api/orders/fulfillment", json={"action": "retry", "orderId": orders[1]}
    ) as response:
        assert response.status == 409
    held = await stand.order(network="MTN")
    await stand.reached([held], "held")
    async with stand.session.post(
        f"{url}/api/orders/fulfillment", json={"action": "trigger", "orderId": held}
    ) as response:
        assert response.status == 409, await response.text()


async def test_kcat_reads_every_topic(backend: Backend, migrated: str, tmp_path: Path) -> None:
    async with stand(backend, migrated, tmp_path) as system:
        await use_every_topic(system)
        prefix = system.settings.topic_prefix
        topics = [topic.name for topic in table(system.settings.partitions, system.settings.delays_s)]
        records = {topic: await read(backend.bootstrap_servers, prefix + topic) for topic in topics}

    kept_for_later = {
        "fulfillment.providers",
        "fulfillment.statistics",
        "fulfillment.alerts",
        "monitor-watch-changelog",
    }
    assert {topic for topic, found in records.items() if not found} <= kept_for_later | {"fulfillment.retry.3s"}
    for topic in ("orders.events", "fulfillment.events", "fulfillment.commands", "fulfillment.retry.1s"):
        for record in records[topic]:
            if record["payload"] == "{oops":
                continue
            headers = dict(zip(record["headers"][::2], record["headers"][1::2], strict=True))
            value = json.loads(record["payload"])
            assert headers["ce_specversion"] == "1.0"
            assert headers["ce_type"] == value["type"]
            assert record["key"] == value["order_id"]
    assert {json.loads(record["payload"])["type"] for record in records["fulfillment.commands"]} == {
        "TriggerFulfillment"
    }
    (letter,) = records["fulfillment.dead-letter"]
    assert letter["payload"] == "{oops"
    assert "dead_letter_reason" in letter["headers"]
    for record in records["fulfillment.state"]:
        assert re.fullmatch(r"genesis|positions|[0-9a-f-]{36}", record["key"])
        assert record["payload"] is None or isinstance(json.loads(record["payload"]), dict)
