import asyncio
import time
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.gateway import keys
from services.gateway.access import Role
from services.gateway.reads import stream
from services.gateway.reads.stand import Stand as Position
from services.gateway.server import Gateway
from tests.gateway.conftest import FULFILLMENT, Client
from tests.gateway.reads.conftest import STREAM, Hand, Reader, parsed
from tests.projector.events import NOON, Story
from tests.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="session")


class Message:
    def __init__(self, lines: list[str]) -> None:
        fields = dict(line.split(": ", 1) for line in lines)
        self.id, self.event, self.retry = fields["id"], fields["event"], fields.get("retry")
        self.logs = parsed(fields["data"]).get("logs", [])

    @property
    def ids(self) -> set[str]:
        return {row["order_id"] for row in self.logs}


async def message(response: Any) -> Message:
    lines: list[str] = []
    async with asyncio.timeout(10):
        while (line := (await response.content.readline()).decode()) != "\r\n":
            assert line, "the stream has ended"
            if not line.startswith(":"):
                lines.append(line.rstrip("\r\n"))
    return Message(lines)


async def test_what_changes_is_told_as_it_is_now(viewer: Reader, hand: Hand) -> None:
    async with viewer.opened(STREAM) as response:
        assert (response.status, response.headers["Content-Type"]) == (200, "text/event-stream")
        first = await message(response)
        assert (first.event, first.logs, first.retry) == ("ready", [], "1000")
        story = await hand.open()
        told = await message(response)
        assert (told.event, told.ids, told.logs[0]["state"]) == ("changed", {story.order_id}, "attempting")
        received = await hand.received()
        assert (await message(response)).ids == {received}
        refused = await hand.refused()
        last = await message(response)
        while last.logs[0]["state"] != "rejected":
            last = await message(response)
        assert last.ids == {refused}


async def test_in_brief_only_ids_sequences_and_times_are_told(viewer: Reader, hand: Hand) -> None:
    async with viewer.opened(f"{STREAM}?rows=brief") as response:
        assert (await message(response)).event == "ready"
        story = await hand.open()
        while (told := await message(response)).event != "changed":
            story = await hand.open()  # the view was emptied for this test, which is told first
        assert told.logs == [
            {"order_id": story.order_id, "sequence": len(story.events), "created_at": NOON.isoformat()}
        ]


async def test_who_comes_back_is_told_what_was_missed(viewer: Reader, hand: Hand) -> None:
    async with viewer.opened(STREAM) as response:
        begun = (await message(response)).id
    delivered, refused, received = await hand.delivered(), await hand.refused(), await hand.received()
    async with viewer.opened(STREAM, {"Last-Event-ID": begun}) as response:
        missed = await message(response)
        assert (missed.event, missed.ids) == ("changed", {delivered, refused, received})
    async with viewer.opened(f"{STREAM}?since={begun}") as response:
        assert (await message(response)).ids == {delivered, refused, received}
    async with viewer.opened(f"{STREAM}?since={begun}", {"Last-Event-ID": missed.id}) as response:
        assert (await message(response)).ids <= {received}
    async with viewer.opened(STREAM, {"Last-Event-ID": missed.id}) as response:
        assert (await message(response)).ids <= {received}


async def test_who_missed_too_much_or_comes_from_elsewhere_begins_anew(
    viewer: Reader, hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with viewer.opened(STREAM) as response:
        begun = (await message(response)).id
    monkeypatch.setattr(stream, "MAX_ORDERS", 2)
    for _ in range(3):
        await hand.delivered()
    for last in (begun, "99.99.99.99_0.0.0.0", "0_0"):
        async with viewer.opened(STREAM, {"Last-Event-ID": last}) as response:
            assert (await message(response)).event == "reset"


async def test_a_revoked_key_ends_the_stream(client: Client, hand: Hand) -> None:
    token = await keys.create(hand.connection, Role.VIEWER, "gone")
    async with Reader(client, token).opened(STREAM) as response:
        await message(response)
        await keys.revoke(hand.connection, token.partition(".")[0])
        async with asyncio.timeout(10):
            assert await response.content.read() == b""


async def test_a_key_s_expiry_is_its_stream_s_end(client: Client, hand: Hand) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=3)
    token = await keys.create(hand.connection, Role.VIEWER, "brief", expires_at=soon)
    async with Reader(client, token).opened(STREAM) as response:
        await message(response)
        async with asyncio.timeout(30):
            while await response.content.readline():
                pass
    assert datetime.now(UTC) >= soon
    async with Reader(client, token).opened(STREAM) as response:
        assert response.status == 401


async def test_a_revocation_that_nobody_heard_of_ends_the_stream(viewer: Reader, gateway: Gateway) -> None:
    """Once the database is back everybody comes again, and is asked who it is."""
    async with viewer.opened(STREAM) as response:
        await message(response)
        gateway.database.on_return()
        async with asyncio.timeout(10):
            assert await response.content.read() == b""


async def test_a_slow_listener_is_sent_away_and_holds_up_nobody(gateway: Gateway) -> None:
    feed = gateway.reads.feed
    with feed.listening() as slow, feed.listening() as quick:
        for number in range(70):
            said = stream.Message(Position((number,), (0,)), "changed", b"", b"")
            for queue in (slow, quick):
                stream._put(queue, said)  # noqa: SLF001 - what the feed does with a queue
            assert quick.get_nowait() is not None
        left = [slow.get_nowait() for _ in range(slow.qsize())]
        assert left[0] is None


async def test_a_wait_is_over_within_50_ms_of_the_commit(client: Client, gateway: Gateway, hand: Hand) -> None:
    """The median of several, on a machine that has other things to do."""
    took_ms = []
    for _ in range(11):
        story = Story(str(uuid.uuid4())).requested(account="local").attempted()
        await hand.tell(story)
        params, headers = {"orderId": story.order_id}, {"Prefer": "wait=20"}
        asked = asyncio.create_task(client.request("GET", FULFILLMENT, params=params, headers=headers))
        order_id = story.order_id
        await until(lambda: gateway.changes.is_watched(order_id), "the wait", 5)  # noqa: B023 - awaited at once
        story.succeeded()
        del story.events[:2]
        await hand.tell(story)
        committed = time.perf_counter()
        answer = await asked
        took_ms.append(1000 * (time.perf_counter() - committed))
        assert answer.json["fulfillment"]["status"] == "success"
    assert sorted(took_ms)[5] <= 50, took_ms
