"""GET /api/admin/fulfillment/vitals over a real topic."""

import time
from datetime import UTC, datetime

import pytest
from aiokafka import AIOKafkaProducer

from schemas.statistics import Count, Part, Standing, Stands, Statistics
from schemas.topics import FULFILLMENT_STATISTICS, MONITOR_CHANGELOG
from services import kafka
from services.gateway import keys
from services.gateway.access import Role
from services.settings import Settings
from tests.gateway.alerts.test_alerts import write
from tests.gateway.conftest import Client, Stand, View
from tests.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="session")


def told(position: int, *, lag: int, overdue_s: float, delivered: int) -> bytes:
    """As a projector tells it now, of what was delivered just before."""
    now_s = int(time.time())
    count = Count(bucket=now_s // 10 * 10 - 10, network="AT-iShare", provider="at-ishare", delivered=delivered)
    part = Part(
        topic="fulfillment.events",
        partition=0,
        start=position,
        end=position + 1,
        counts=(count,),
        lag_records=lag,
    )
    standing = Standing(network="AT-iShare", provider="at-ishare", overdue_s=overdue_s)
    said = Statistics(at=datetime.fromtimestamp(now_s, UTC), parts=(part,), stands=Stands(networks=(standing,)))
    return said.model_dump_json(exclude_none=True).encode()


async def tell(settings: Settings, *statistics: bytes) -> None:
    """A monitor reads them, so that nobody misses one."""
    await write(settings, FULFILLMENT_STATISTICS, statistics)
    async with AIOKafkaProducer(**kafka.connection(settings), acks="all") as producer:
        await producer.send_and_wait(settings.topic_prefix + MONITOR_CHANGELOG, b"{}", key=b"watch", partition=0)


async def test_what_the_projectors_tell_is_shown(stand: Stand, client: Client, view: View) -> None:
    headers = {"Authorization": f"Bearer {await keys.create(view.connection, Role.VIEWER, None)}"}
    await until(lambda: stand.gateway.vitals.following.course, "the statistics")
    await tell(stand.settings, b"{}", told(0, lag=12, overdue_s=3.25, delivered=120))

    async def shown() -> dict[str, object] | None:
        answer = await client.request("GET", "/api/admin/fulfillment/vitals", headers=headers)
        assert answer.status == 200, answer.content
        return dict(answer.json) if answer.json["points"] else None

    said = await until(shown, "a point")
    assert said["everyS"] == 10
    assert said["rates"] == [{"provider": "at-ishare", "perS": 2.0}]
    (point, *_) = said["points"]
    assert (point["lagRecords"], point["overdueS"], point["waitingS"], point["inDoubtS"]) == (12, 3.2, 0.0, 0.0)
    refused = await client.request("GET", "/api/admin/fulfillment/vitals?from=now", headers=headers)
    assert refused.status == 400
