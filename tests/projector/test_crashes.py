"""The projector, the broker and the database are killed: nothing is lost and nothing doubled."""

import asyncio
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.fulfillment import Trigger
from services.settings import Settings
from tests.backend import Backend
from tests.processes import Processes, environment
from tests.projector.conftest import Database, Log, projecting
from tests.projector.events import Story
from tests.waiting import until


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    with Processes(tmp_path) as processes:
        yield processes


def stories(count: int) -> list[Story]:
    return [Story(str(uuid.uuid4())) for _ in range(count)]


@pytest.mark.parametrize("point", ["projector.before_commit", "projector.after_commit"])
async def test_killed_about_its_commit(
    topics: Settings, log: Log, database: Database, processes: Processes, point: str
) -> None:
    told = stories(30)
    victim = processes.start(["services.projector"], environment(topics) | {"CRASHPOINTS": f"{point}:kill:2"})
    await victim.ready()
    await log.events(told[0].requested().events)
    await database.until_sequence(told[0].order_id, 1)
    for one in told[1:]:
        await log.events(one.requested().attempted().succeeded().events)
    await victim.died_at(point)
    survivor = processes.start(["services.projector"], environment(topics))
    await survivor.ready()
    await log.events(told[0].attempted().succeeded().events[1:])
    for one in told:
        row = await database.until_sequence(one.order_id, 3)
        assert row["status"] == "success"
    assert await database.fetch("SELECT FROM quarantine") == []
    await survivor.stop()


async def test_asked_to_end_it_ends_well(topics: Settings, processes: Processes) -> None:
    service = processes.start(["services.projector"], environment(topics))
    await service.ready()
    await service.stop()


async def test_the_database_is_killed_and_comes_back(
    topics: Settings, log: Log, database_url: str, backend: Backend
) -> None:
    told = stories(20)
    async with projecting(topics) as (_, readiness):
        await log.events(event for one in told for event in one.requested().events)
        await asyncio.to_thread(backend.postgres.kill)
        await log.events(event for one in told for event in one.attempted().failed().events[1:])
        await until(lambda: dict(readiness)["postgres"] != "ok", "the projector to say that PostgreSQL is away")
        await asyncio.to_thread(backend.postgres.start)
        await log.events(event for one in told for event in one.attempted(Trigger.RETRY).succeeded().events[3:])
        await until(lambda: bool(readiness), "the projector to be ready again")
        await until(lambda: _successes(database_url, 20), "20 successes")


async def test_the_broker_is_killed_and_comes_back(
    topics: Settings, log: Log, database_url: str, backend: Backend
) -> None:
    told = stories(20)
    async with projecting(topics) as (_, readiness):
        await log.events(event for one in told for event in one.requested().attempted().events)
        await asyncio.to_thread(backend.kafka.kill)
        await until(lambda: dict(readiness)["kafka"] != "ok", "the projector to say that Kafka is away")
        await asyncio.to_thread(backend.kafka.start)
        await log.events(event for one in told for event in one.succeeded().events[2:])
        await until(lambda: _successes(database_url, 20), "20 successes")
        await until(lambda: bool(readiness), "the projector to be ready again")


async def test_it_waits_for_a_database_that_is_not_there_yet(
    topics: Settings, log: Log, database_url: str, backend: Backend, processes: Processes
) -> None:
    told = Story(str(uuid.uuid4())).requested().attempted().succeeded()
    await log.events(told.events)
    await asyncio.to_thread(backend.postgres.stop)
    service = processes.start(["services.projector"], environment(topics))
    await service.said("postgres_unreachable")
    await asyncio.to_thread(backend.postgres.start)
    await service.ready()
    await until(lambda: _successes(database_url, 1), "a success")
    await service.stop()


async def test_a_wrong_password_is_one_line(topics: Settings, processes: Processes) -> None:
    url = topics.database_url.get_secret_value().replace(":fulfillment@", ":wrong@")
    service = processes.start(["services.projector"], environment(topics) | {"DATABASE_URL": url})
    assert await service.ended(30) == 1
    assert service.log.splitlines()[-1].startswith("setting DATABASE_URL: password authentication failed")
    assert "Traceback" not in service.log


async def _successes(database_url: str, count: int) -> bool:
    import asyncpg

    connection = await asyncpg.connect(database_url)
    try:
        seen = await connection.fetchval("SELECT count(*) FROM fulfillment_logs WHERE status = 'success'")
        return bool(seen == count)
    finally:
        await connection.close()
