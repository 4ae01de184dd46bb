"""The webhook's receiver may be dead, slow, or picky: it gets every alert in order, and holds nobody up."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest
from aiohttp import web
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from schemas.alerts import read_alert
from schemas.topics import FULFILLMENT_ALERTS
from services import kafka
from services.monitor.webhook import ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER, signature
from services.settings import Settings
from tests.monitor.statistics import troubled_hours
from tests.monitor.watched import Watched
from tests.waiting import until


class Receiver:
    """Answers as it is told to, and keeps what it takes."""

    def __init__(self) -> None:
        self.answer: Callable[[str], Awaitable[int]] = self.well
        self.asked: list[str] = []
        self.taken: list[tuple[str, bytes]] = []
        self.secret = Settings.model_validate({"alert_webhook_secret": "s3cret"}).alert_webhook_secret

    async def well(self, _alert_id: str) -> int:
        return 200

    async def away(self, _alert_id: str) -> int:
        return 503

    async def handle(self, request: web.Request) -> web.Response:
        body, headers = await request.read(), request.headers
        assert self.secret is not None
        wanted = signature(self.secret, headers[ID_HEADER], headers[TIMESTAMP_HEADER], body)
        alert_id = headers[ID_HEADER] if headers[SIGNATURE_HEADER] == wanted else "forged"
        self.asked.append(alert_id)
        status = await self.answer(alert_id)
        if status == 200:
            self.taken.append((alert_id, body))
        return web.Response(status=status)


@pytest.fixture
async def receiver(watched: Watched) -> AsyncIterator[Receiver]:
    """Which the monitors of this test post to."""
    receiver = Receiver()
    app = web.Application()
    app.add_routes([web.post("/hook", receiver.handle)])
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    hooked = {"alert_webhook_url": url, "alert_webhook_secret": "s3cret", "alerts_silenced": ("reviews",)}
    watched.settings = Settings.model_validate(watched.settings.model_dump() | hooked)
    yield receiver
    await runner.cleanup()


async def test_a_dead_webhook_holds_nothing_up_and_gets_all_of_it_in_order(
    watched: Watched, receiver: Receiver
) -> None:
    receiver.answer = receiver.away
    monitor = watched.monitor()
    await monitor.said("webhook_follows")
    await watched.write(troubled_hours(3))
    sent = await watched.proven()
    await monitor.said("webhook_refused")
    assert receiver.taken == []
    receiver.answer = receiver.well
    wanted = [one for one in sent if one.name != "reviews"]
    await until(lambda: len(receiver.taken) >= len(wanted), "the webhook to have them all")
    assert [(alert_id, read_alert(body)) for alert_id, body in receiver.taken] == [(one.id, one) for one in wanted]
    assert "s3cret" not in monitor.log
    assert "alert=reviews" not in monitor.log
    await monitor.stop()


async def test_a_receiver_that_knows_us_not_is_mentioned_and_has_all_of_it_once_that_is_mended(
    watched: Watched, receiver: Receiver
) -> None:
    async def unauthorized(_alert_id: str) -> int:
        return 401

    receiver.answer = unauthorized
    monitor = watched.monitor()
    url = await monitor.ready()
    await monitor.said("webhook_follows")
    await watched.write(troubled_hours(3, 150))
    wanted = [one for one in await watched.proven() if one.name != "reviews"]
    await until(lambda: len(receiver.asked) > 5, "more posts than a wrong one gets")
    assert set(receiver.asked) == {wanted[0].id}
    async with aiohttp.ClientSession() as session, session.get(f"{url}/readyz") as answer:
        assert answer.status == 200
        assert (await answer.json())["dependencies"] == {
            "kafka": "ok",
            "webhook": f"{wanted[0].name} waits: status 401",
        }
        receiver.answer = receiver.well
    await until(lambda: len(receiver.taken) == len(wanted), "all of them to be taken")
    async with aiohttp.ClientSession() as session:

        async def well() -> bool:
            async with session.get(f"{url}/readyz") as answer:
                return bool((await answer.json())["dependencies"]["webhook"] == "ok")

        await until(well, "the webhook to be well")
    await monitor.stop()


async def test_one_that_is_found_wrong_does_not_hold_the_others_for_ever(watched: Watched, receiver: Receiver) -> None:
    wrong: set[str] = set()

    async def picky(alert_id: str) -> int:
        wrong.update(() if wrong else {alert_id})
        return 422 if alert_id in wrong else 200

    receiver.answer = picky
    monitor = watched.monitor()
    await monitor.said("webhook_follows")
    await watched.write(troubled_hours(3))
    wanted = [one for one in await watched.proven() if one.name != "reviews"]
    await until(lambda: len(receiver.taken) == len(wanted) - 1, "all but one to be taken", 60)
    assert [alert_id for alert_id, _ in receiver.taken] == [one.id for one in wanted[1:]]
    assert receiver.asked.count(wanted[0].id) == 5
    await monitor.said("webhook_gave_up")
    await monitor.stop()


async def test_killed_before_it_knew_that_an_alert_was_taken_it_posts_it_again_under_its_id(
    watched: Watched, receiver: Receiver
) -> None:
    """The receiver hangs over the first one: nobody knows whether it has it."""
    go_on = asyncio.Event()

    async def hang(_alert_id: str) -> int:
        await go_on.wait()
        return 200

    receiver.answer = hang
    first = watched.monitor()
    await first.said("webhook_follows")
    await watched.write(troubled_hours(3, 150))
    wanted = [one for one in await watched.proven() if one.name != "reviews"]
    await until(lambda: receiver.asked, "the first post")
    first.kill()
    receiver.answer = receiver.well
    go_on.set()
    second = watched.monitor()
    await until(lambda: len(receiver.taken) > len(wanted), "all of them, the first twice", 60)
    ids = [one.id for one in wanted]
    assert [alert_id for alert_id, _ in receiver.taken] == [ids[0], *ids]
    await second.stop()


async def test_where_the_next_one_is_no_more_it_goes_on_with_the_first_that_is(
    watched: Watched, receiver: Receiver
) -> None:
    """A receiver was dead for longer than alerts are kept."""
    receiver.answer = receiver.away
    first = watched.monitor()
    await first.said("webhook_follows")
    await watched.write(troubled_hours(3, 150))
    sent = await watched.proven()
    await first.said("webhook_refused")
    first.kill()
    admin = AIOKafkaAdminClient(**kafka.connection(watched.settings))
    await admin.start()
    alerts = TopicPartition(watched.settings.topic_prefix + FULFILLMENT_ALERTS, 0)
    gone = 6  # the first that is posted is among them
    await admin.delete_records({alerts: RecordsToDelete(before_offset=gone)})
    await admin.close()
    receiver.answer = receiver.well
    second = watched.monitor()
    wanted = [one.id for one in sent[gone:] if one.name != "reviews"]
    assert wanted
    await until(lambda: len(receiver.taken) == len(wanted), "what is left to be taken", 30)
    assert [alert_id for alert_id, _ in receiver.taken] == wanted
    await second.stop()
