"""Fulfillers come and go, the broker and the database are killed and come back, while orders stream in."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from services.sandbox.faults import magic_number
from tests.backend import Backend, start
from tests.conftest import TEMPLATE, make_template
from tests.stand import Stand
from tests.stand import stand as stand_on
from tests.survival.conftest import Stands

pytestmark = [pytest.mark.survival, pytest.mark.timeout(240)]

FAULTS = {
    "busy": 0.05,
    "deliver_then_500": 0.05,
    "deliver_then_reset": 0.05,
    "late_1s": 0.05,
    "deliver_then_hang": 0.02,
}
"""Shares of all sends."""
CUSTOMERS = 4


class Stream:
    """Orders that come for as long as the stream is open."""

    def __init__(self) -> None:
        self.orders: list[str] = []
        self._grown = asyncio.Condition()

    async def add(self, orders: list[str]) -> None:
        async with self._grown:
            self.orders += orders
            self._grown.notify_all()

    async def grows_by(self, count: int) -> None:
        """Wait until so many more orders were accepted."""
        target = len(self.orders) + count
        async with self._grown, asyncio.timeout(60):
            await self._grown.wait_for(lambda: len(self.orders) >= target)


@asynccontextmanager
async def streaming(stand: Stand) -> AsyncIterator[Stream]:
    stream = Stream()

    async def produce() -> None:
        while True:
            await stream.add(await stand.orders([stand.new_phone() for _ in range(5)]))
            await asyncio.sleep(0.1)  # the pace of the customers; nothing waits for it

    producing = asyncio.create_task(produce())
    try:
        yield stream
    finally:
        producing.cancel()
        await asyncio.gather(producing, return_exceptions=True)


@asynccontextmanager
async def shopping(stand: Stand, url: str) -> AsyncIterator[Stream]:
    """Customers who buy over HTTP, one order after another, each repeated with its key until it is accepted."""
    stream = Stream()

    async def shop(customer: int) -> None:
        for number in range(10_000):
            answer = await stand.bought(url, f"{customer}-{number}", within_s=90)
            await stream.add([answer.order["id"]])

    customers = [asyncio.create_task(shop(customer)) for customer in range(CUSTOMERS)]
    try:
        yield stream
    finally:
        for customer in customers:
            customer.cancel()
        for ended in await asyncio.gather(*customers, return_exceptions=True):
            if not isinstance(ended, asyncio.CancelledError):
                raise AssertionError("a customer went away") from (ended if isinstance(ended, Exception) else None)


async def test_two_fulfillers_become_one_and_two_again(stands: Stands) -> None:
    async with stands("come_and_go") as stand:
        await stand.sandbox.faults(shares=FAULTS, latency_s=0.1)
        stand.projector()
        one, two = stand.fulfiller(LOG_FORMAT="json"), stand.fulfiller()
        await asyncio.gather(one.ready(), two.ready())
        async with streaming(stand) as stream:
            await stream.grows_by(60)
            await two.stop()
            await stream.grows_by(60)
            three = stand.fulfiller()
            await three.ready()
            await stream.grows_by(60)
            one.kill()
            await stream.grows_by(60)
            four = stand.fulfiller()
            await four.ready()
            await stream.grows_by(60)
            three.kill()
            four.kill()
            await stand.fulfiller().ready()
            await stream.grows_by(30)
        assert len(stream.orders) >= 300
        # One that is declined three times in a row is a final failure, and rightly.
        await stand.reached(stream.orders, "delivered", "failed", within_s=90)
        await stand.proven()
        rebuild = stand.start("services.projector", "rebuild")
        assert await rebuild.ended(within_s=30) == 0, rebuild.log
        await stand.proven()


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """A broker and a database that nobody else needs while they are away."""
    with start(tmp_path_factory.mktemp("own_backend")) as backend:
        asyncio.run(make_template(backend.postgres_url))
        yield backend


async def test_the_broker_is_killed_and_restarted(own: Backend, tmp_path: Path) -> None:
    async with stand_on(own, TEMPLATE, tmp_path) as stand:
        gateway, fulfiller, projector = stand.gateway(), stand.fulfiller(), stand.projector()
        url, _, _ = await asyncio.gather(gateway.ready(), fulfiller.ready(), projector.ready())
        held = await stand.orders([magic_number("hold"), magic_number("hold_first")] * 2)
        await stand.sandbox.reached("held", len(held))
        async with shopping(stand, url) as stream:
            await stream.grows_by(20)
            own.kafka.kill()
            # The answers come while nobody can write them down.
            await stand.sandbox.release()
            refused = await stand.purchase(url, "in-between")
            assert refused.status == 503
            own.kafka.start()
            await stream.grows_by(20)
        await stand.bought(url, "in-between", refused.body["phoneNumber"])
        await stand.reached([*held, *stream.orders], "delivered", within_s=90)
        evidence = await stand.proven(within_s=90)
        assert all(evidence.ledger[order].sends == 1 for order in held)
        assert {service.exit_code for service in (gateway, fulfiller, projector)} == {None}


async def test_postgresql_is_killed_and_restarted(own: Backend, tmp_path: Path) -> None:
    async with stand_on(own, TEMPLATE, tmp_path) as stand:
        gateway, fulfiller, projector = stand.gateway(), stand.fulfiller(), stand.projector()
        url, _, _ = await asyncio.gather(gateway.ready(), fulfiller.ready(), projector.ready())
        async with shopping(stand, url) as stream:
            await stream.grows_by(20)
            own.postgres.kill()
            # Purchases and deliveries go on: they need Kafka alone.
            await stream.grows_by(20)
            without = await stand.bought(url, "without-a-database")
            await stand.sandbox.reached("deliveries", 1, without.order["id"])
            own.postgres.start()
            await stream.grows_by(20)
        again = await stand.bought(url, "without-a-database", without.body["phoneNumber"])
        assert again.order["id"] == without.order["id"]
        await stand.reached([*stream.orders, without.order["id"]], "delivered")
        await stand.proven()
        assert {service.exit_code for service in (gateway, fulfiller, projector)} == {None}
