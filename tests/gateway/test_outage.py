"""PostgreSQL away: purchases go on. Kafka away: a clear refusal within seconds. Either back: as if nothing had been."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from schemas import ids
from services.gateway import keys
from services.gateway.access import Role
from services.gateway.keys import GOOD_WHILE_AWAY_S, KeyCache
from services.gateway.problem import UNAVAILABLE, Problem
from services.local.ports import free_port
from tests.backend import Backend
from tests.gateway.conftest import Client, Log, Stand, View, new_key, standing
from tests.gateway.test_access import ELSEWHERE, bearer
from tests.processes import Processes, environment
from tests.waiting import until

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.usefixtures("mended")]


@pytest.fixture
def mended(backend: Backend) -> Iterator[None]:
    """What the test killed runs again afterwards, whatever became of the test."""
    yield
    for server in (backend.postgres, backend.kafka):
        if server.process.exit_code is not None:
            server.start()


async def test_postgres_killed_and_back(stand: Stand, client: Client, view: View, backend: Backend) -> None:
    known = await keys.create(view.connection, Role.PURCHASER, "acme")
    never_seen = await keys.create(view.connection, Role.PURCHASER, "acme")
    order_id = await view.add()
    assert (await client.purchase(None, None, **ELSEWHERE, **bearer(known))).status == 202
    now_s = 0.0
    cache = KeyCache(stand.gateway.database, clock_s=lambda: now_s)
    assert await cache.caller(known) is not None
    backend.postgres.kill()
    await until(lambda: not stand.gateway.database.up, "the loss to be noticed", 3)

    ready = await client.request("GET", "/readyz")
    assert ready.status == 200
    assert ready.json["degraded"] is True
    assert ready.json["dependencies"]["kafka"] == "ok"
    assert ready.json["dependencies"]["postgres"] != "ok"

    assert (await client.purchase()).status == 202
    key = new_key()
    started = asyncio.get_running_loop().time()
    for _ in range(5):
        answer = await client.purchase(None, key, **bearer(known))
        assert (answer.status, answer.json["order"]["id"]) == (202, ids.order_id("acme", key))
    assert asyncio.get_running_loop().time() - started < 2
    unknown = await client.purchase(None, None, **ELSEWHERE, **bearer(never_seen))
    assert unknown.is_problem(503)
    assert unknown.headers["Retry-After"]
    now_s = GOOD_WHILE_AWAY_S - 1
    assert await cache.caller(known) is not None
    now_s = GOOD_WHILE_AWAY_S + 1
    with pytest.raises(Problem) as refusal:
        await cache.caller(known)
    assert refusal.value.kind is UNAVAILABLE
    for answer in (await client.status(order_id), await client.act("retry", order_id)):
        assert answer.is_problem(503)
        assert "database" in answer.json["detail"]

    backend.postgres.start()
    await until(lambda: stand.gateway.database.up, "PostgreSQL", 10)
    assert (await client.purchase(None, None, **ELSEWHERE, **bearer(never_seen))).status == 202
    assert (await client.status(order_id)).status == 200
    first, second = await client.purchase(None, key, **bearer(known)), await client.purchase(None, key, **bearer(known))
    assert first.content == second.content
    assert first.json["order"]["id"] == ids.order_id("acme", key)


async def test_who_waits_while_postgres_goes_and_comes_hears_of_the_change(
    stand: Stand, client: Client, view: View, backend: Backend
) -> None:
    order_id = await view.add(status="processing", state="attempting", attempt_number=1)
    asked = asyncio.create_task(client.act("trigger", order_id, Prefer="wait=30"))
    await until(lambda: stand.gateway.changes.is_watched(order_id), "somebody who waits")
    # Nobody is told of it: the gateway looks again because it has been cut off.
    await view.connection.execute(
        "UPDATE fulfillment_logs SET status = 'success', state = 'delivered' WHERE order_id = $1", order_id
    )
    backend.postgres.kill()
    backend.postgres.start()
    assert (await asyncio.wait_for(asked, 15)).status == 200


async def test_a_gateway_ends_in_time_though_kafka_is_gone(stand: Stand, backend: Backend, tmp_path: Path) -> None:
    with Processes(tmp_path) as processes:
        service = processes.start(["services.gateway"], environment(stand.settings))
        async with aiohttp.ClientSession(await service.ready()) as session:
            backend.kafka.kill()
            asked = asyncio.create_task(Client(session, 0).purchase())
            await service.said("kafka_away", within_s=10)
            await service.stop()
            assert (await asked).is_problem(503)


async def test_kafka_killed_and_back(stand: Stand, client: Client, backend: Backend) -> None:
    assert (await client.purchase()).status == 202
    backend.kafka.kill()
    loop = asyncio.get_running_loop()
    started = loop.time()
    key = new_key()
    first = await client.purchase(key=key)
    assert first.is_problem(503)
    assert loop.time() - started < 8
    assert first.headers["Retry-After"]
    assert "may or may not" in first.json["detail"]
    started = loop.time()
    second = await client.purchase(key=key)
    assert second.is_problem(503)
    assert loop.time() - started < 1
    assert "not accepted" in second.json["detail"]
    ready = await client.request("GET", "/readyz")
    assert (ready.status, ready.json["ready"]) == (503, False)
    assert (await client.request("GET", "/livez")).status == 200

    backend.kafka.start()
    await until(lambda: bool(stand.gateway.kafka), "Kafka", 30)
    again = await client.purchase(key=key)
    assert (again.status, again.json["order"]["id"]) == (202, ids.order_id("local", key))
    async with Log.reading(stand.settings) as log:
        assert len({record.value for record in await log.orders(ids.order_id("local", key))}) == 1


async def test_a_gateway_starts_while_everything_is_away(stand: Stand) -> None:
    nowhere = stand.settings.model_copy(
        update={
            "kafka_bootstrap_servers": f"127.0.0.1:{free_port()}",
            "database_url": type(stand.settings.database_url)(f"postgresql://a:b@127.0.0.1:{free_port()}/c"),
        }
    )
    async with standing(nowhere) as alone:
        ready = await alone.client.request("GET", "/readyz")
        assert ready.status == 503
        assert all(state != "ok" for state in ready.json["dependencies"].values())
        assert (await alone.client.purchase()).is_problem(503)
        assert (await alone.client.purchase(key="k")).is_problem(503)
        assert (await alone.client.request("GET", "/livez")).status == 200
