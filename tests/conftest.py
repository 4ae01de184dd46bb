"""One broker and one database server a test run; a topic prefix and a database of its own a test."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from pydantic import SecretStr

from services.kafka import connection
from services.settings import Settings
from services.setup.migrations import migrate
from services.setup.patience import Patience
from services.setup.setup import set_up_kafka
from tests.backend import Backend, start
from tests.rules_report import RulesReport
from tests.second_tries import SecondTries

TEMPLATE = "template_fulfillment"


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # where tests run side by side, the one that hears of all of them
        config.pluginmanager.register(RulesReport(config))
        config.pluginmanager.register(SecondTries())


@pytest.fixture(scope="session")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    with start(Path(tmp_path_factory.mktemp("backend"))) as backend:
        yield backend


@pytest.fixture(scope="session")
def kafka(backend: Backend) -> str:
    """Its bootstrap servers."""
    return backend.bootstrap_servers


@pytest.fixture(scope="session")
def postgres(backend: Backend) -> str:
    """The URL of its superuser, on the database that is there from the start."""
    return backend.postgres_url


@pytest.fixture(scope="session")
def migrated(postgres: str) -> str:
    """The name of a database with every migration applied, to be copied."""
    asyncio.run(make_template(postgres))
    return TEMPLATE


async def make_template(postgres: str) -> None:
    await _execute(postgres, f"CREATE DATABASE {TEMPLATE}")
    await migrate(Settings(database_url=SecretStr(_of(postgres, TEMPLATE))), Patience())


@asynccontextmanager
async def copied(postgres: str, template: str) -> AsyncIterator[str]:
    """The URL of a database that is a copy, for as long as it is needed."""
    name = f"test_{uuid.uuid4().hex}"
    await _execute(postgres, f"CREATE DATABASE {name} TEMPLATE {template}")
    yield _of(postgres, name)
    await _execute(postgres, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def database_url(postgres: str, migrated: str) -> AsyncIterator[str]:
    async with copied(postgres, migrated) as url:
        yield url


def new_prefix() -> str:
    return f"t{uuid.uuid4().hex[:12]}."


@pytest.fixture
def prefix() -> str:
    return new_prefix()


@pytest.fixture
def settings(kafka: str, database_url: str, prefix: str) -> Settings:
    """Of this test's own topics and database; the topics are yet to be made."""
    return quick_settings(kafka, database_url, prefix)


def quick_settings(kafka: str, database_url: str, prefix: str) -> Settings:
    """Any free port, delays of seconds, and no limit to what a key may ask."""
    return Settings(
        port=0,
        health_port=0,
        kafka_bootstrap_servers=kafka,
        database_url=SecretStr(database_url),
        topic_prefix=prefix,
        session_timeout_s=6,
        retry_delays=(1, 2, 3),
        verify_delays=(1, 2, 3),
        at_ishare_timeout_s=2,
        at_ishare_not_found_final_s=2,
        rate_limit_per_s=0,
    )


@pytest.fixture
async def topics(settings: Settings) -> AsyncIterator[Settings]:
    """The settings, once their topics are there."""
    await set_up_kafka(settings, Patience())
    yield settings
    await remove_topics(settings)


async def remove_topics(settings: Settings) -> None:
    """So that the broker has no more to see to than the tests that are under way."""
    admin = AIOKafkaAdminClient(**connection(settings))
    await admin.start()
    try:
        await admin.delete_topics([n for n in await admin.list_topics() if n.startswith(settings.topic_prefix)])
    finally:
        await admin.close()


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def _of(url: str, database: str) -> str:
    return f"{url.rpartition('/')[0]}/{database}"
