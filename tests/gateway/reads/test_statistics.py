from datetime import timedelta

import pytest

from tests.gateway.reads.conftest import STATS, Hand, Reader
from tests.projector.events import NOON

pytestmark = pytest.mark.asyncio(loop_scope="session")
DAY = {"from": "2026-01-31", "to": "2026-02-01"}


async def test_totals_rates_attempts_networks_and_failures(viewer: Reader, hand: Hand) -> None:
    for _ in range(3):
        await hand.delivered(network="MTN", latency_s=4)
    await hand.delivered(network="Telecel", attempts=2, latency_s=4)
    await hand.failed(network="Telecel", code="GONE")
    await hand.open()
    await hand.received()
    await hand.delivered(made=NOON + timedelta(days=1))
    said = (await viewer.get(STATS, **DAY)).json
    totals = said["totals"]
    assert {name: totals[name] for name in ("total", "success", "failed", "processing", "pending")} == {
        "total": 7,
        "success": 4,
        "failed": 1,
        "processing": 1,
        "pending": 1,
    }
    assert totals["successRate"] == 57.14
    assert totals["attempts"] == {"total": 7, "perOrder": 1.0}
    assert totals["latencyS"]["p50"] == pytest.approx(4, rel=0.2)
    of = {row["network"]: row for row in said["networks"]}
    assert sorted(of) == ["AT-iShare", "MTN", "Telecel"]
    assert (of["MTN"]["total"], of["MTN"]["successRate"], of["Telecel"]["attempts"]["total"]) == (3, 100, 3)
    assert said["failures"] == [{"errorCode": "GONE", "orders": 1}]
    assert (said["from"], said["to"]) == ("2026-01-31T00:00:00+00:00", "2026-02-01T00:00:00+00:00")
    alone = (await viewer.get(STATS, **DAY, network="mtn")).json
    assert (alone["totals"]["total"], [row["network"] for row in alone["networks"]]) == (3, ["MTN"])


@pytest.mark.parametrize(("bucket", "expected"), [("minute", [1, 1, 2]), ("hour", [2, 2]), ("day", [4])])
async def test_buckets_of_time(viewer: Reader, hand: Hand, bucket: str, expected: list[int]) -> None:
    for seconds in (0, 60, 3600, 3659):
        await hand.delivered(made=NOON + timedelta(seconds=seconds))
    period = {"from": "2026-01-31T12:00:30Z", "to": "2026-01-31T13:00:01Z"}
    said = (await viewer.get(STATS, **period, bucket=bucket)).json
    assert [row["total"] for row in said["buckets"]] == expected
    assert said["totals"]["total"] == 4
    assert said["buckets"][0]["start"].startswith("2026-01-31T00" if bucket == "day" else "2026-01-31T12:00")


async def test_they_follow_an_order_through_its_life(viewer: Reader, hand: Hand) -> None:
    story = await hand.open()
    assert (await viewer.get(STATS, **DAY)).json["totals"]["processing"] == 1
    story.succeeded()
    del story.events[:2]
    await hand.tell(story)
    totals = (await viewer.get(STATS, **DAY)).json["totals"]
    assert (totals["processing"], totals["success"], totals["total"]) == (0, 1, 1)


async def test_nothing_is_nothing(viewer: Reader, hand: Hand) -> None:
    answer = await viewer.get(STATS, **DAY)
    totals = answer.json["totals"]
    assert (totals["total"], totals["successRate"], totals["latencyS"]) == (0, None, None)
    assert (await viewer.get(STATS, {"If-None-Match": answer.headers["ETag"]}, **DAY)).status == 304
    assert (await viewer.get(STATS)).json["bucket"] == "hour"
