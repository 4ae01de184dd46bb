"""GET /api/admin/alerts over a real topic, while the database is away, and the gateway's own alerts."""

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from schemas.alerts import Alert
from schemas.topics import FULFILLMENT_ALERTS, FULFILLMENT_STATISTICS
from services import kafka
from services.gateway import keys
from services.gateway.access import Role
from services.settings import Settings
from services.setup.patience import Patience
from services.setup.setup import set_up_kafka
from tests.conftest import new_prefix
from tests.gateway.alerts.test_board import alert
from tests.gateway.conftest import Answer, Client, Stand, View, standing
from tests.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def write(settings: Settings, topic: str, values: Sequence[bytes]) -> None:
    producer = AIOKafkaProducer(**kafka.connection(settings), acks="all")
    await producer.start()
    try:
        for value in values:
            await producer.send_and_wait(settings.topic_prefix + topic, value, partition=0)
    finally:
        await producer.stop()


class Reader:
    def __init__(self, client: Client, token: str) -> None:
        self._client = client
        self._headers = {"Authorization": f"Bearer {token}"}

    async def answer(self, **headers: str) -> Answer:
        return await self._client.request("GET", "/api/admin/alerts", headers=self._headers | headers)

    async def shown(self) -> list[dict[str, Any]]:
        answer = await self.answer()
        assert answer.status == 200, answer.content
        assert answer.json["firing"] == sum(one["clearedAt"] is None for one in answer.json["alerts"])
        return list(answer.json["alerts"])

    async def names(self) -> list[str]:
        return [one["name"] for one in await self.shown()]


def said(alert: Alert) -> bytes:
    return alert.model_dump_json(exclude_none=True).encode()


async def test_what_stands_comes_first_then_what_is_over(stand: Stand, client: Client, view: View) -> None:
    viewer = Reader(client, await keys.create(view.connection, Role.VIEWER, None))
    await until(lambda: stand.gateway.alerts.following.known, "the alerts")
    assert await viewer.shown() == []
    now, order = datetime.now(UTC), str(uuid.uuid4())
    old, recent = (now - timedelta(hours=hours) for hours in (30, 2))
    critical = alert("AlertRaised", "success_rate_1m", severity="critical", at=old, orders=(order,), since=old)
    log = [
        critical,
        alert("AlertRaised", "dead_letters", at=old),
        alert("AlertCleared", "dead_letters", at=old),
        alert("AlertRaised", "reviews", at=recent),
        alert("AlertCleared", "reviews", at=recent),
        alert("AlertRaised", at=recent),
    ]
    await write(stand.settings, FULFILLMENT_ALERTS, [b"{}", b"\xff", *map(said, log), said(log[0])])

    async def all_there() -> bool:
        return await viewer.names() == ["success_rate_1m", "lag", "reviews"]

    await until(all_there, "three alerts")
    first, _, cleared = await viewer.shown()
    assert first == {
        "id": critical.id,
        "name": "success_rate_1m",
        "severity": "critical",
        "subject": "all",
        "since": old.isoformat().replace("+00:00", "Z"),
        "raisedAt": old.isoformat().replace("+00:00", "Z"),
        "clearedAt": None,
        "figure": 1.0,
        "bound": 1.0,
        "unit": "s",
        "advice": "look",
        "link": "docs/alerts.md#lag",
        "orders": [order],
        "silenced": False,
        "by": "monitor",
    }
    assert cleared["clearedAt"] == recent.isoformat().replace("+00:00", "Z")
    answer = await viewer.answer()
    assert (await viewer.answer(**{"If-None-Match": answer.headers["ETag"]})).status == 304
    metrics = (await client.request("GET", "/metrics")).content.decode()
    assert 'gateway_alert_firing{alert="success_rate_1m",severity="critical",subject="all"} 1.0' in metrics
    assert 'alert="reviews"' not in metrics
    asked = await client.request("GET", "/api/admin/alerts?firing=1", headers=viewer._headers)  # noqa: SLF001 - its key
    assert asked.is_problem(400)


async def test_nobody_speaks_of_the_orders_that_come(stand: Stand, view: View) -> None:
    """Neither a projector nor a monitor runs here."""
    settings = stand.settings.model_copy(update={"topic_prefix": new_prefix(), "alert_silent": 1.0})
    await set_up_kafka(settings, Patience())
    async with standing(settings) as alone:
        viewer = Reader(alone.client, await keys.create(view.connection, Role.VIEWER, None))
        await until(lambda: alone.gateway.alerts.following.known and alone.gateway.database.up, "the alerts")

        async def monitoring() -> str:
            return str((await alone.client.request("GET", "/readyz")).json["monitoring"])

        assert await monitoring() == "ok"

        async def silent(name: str) -> bool:
            await alone.client.purchase()
            return await viewer.names() == [name]

        await until(lambda: silent("statistics_silent"), "no statistics to be an alert")
        (shown,) = await viewer.shown()
        assert (shown["by"], shown["severity"], shown["clearedAt"]) == ("gateway", "critical", None)
        assert (await monitoring()).startswith("statistics_silent: Orders come")

        async def spoken() -> bool:
            await write(settings, FULFILLMENT_STATISTICS, [b"{}"])
            return [(one["name"], one["clearedAt"] is None) for one in await viewer.shown()] == [
                ("monitor_silent", True),
                ("statistics_silent", False),
            ]

        await until(spoken, "statistics, which no monitor reads")
