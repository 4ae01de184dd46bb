"""The second source of Kafka and PostgreSQL does what the first does."""

import asyncio
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from services.settings import Settings
from services.setup.setup import set_up
from tests.backend import NO_DOCKER, Backend, from_containers
from tests.containers import engine_answers


@pytest.fixture
def containers() -> Iterator[Backend]:
    if not engine_answers():
        pytest.skip(NO_DOCKER)
    with from_containers() as backend:
        yield backend


def test_containers_keep_what_they_hold_over_a_kill(containers: Backend) -> None:
    settings = Settings(
        kafka_bootstrap_servers=containers.bootstrap_servers, database_url=SecretStr(containers.postgres_url)
    )
    first = asyncio.run(set_up(settings))
    assert first.migrations
    assert first.topics.created
    for server in (containers.kafka, containers.postgres):
        server.kill()
        server.start()
    second = asyncio.run(set_up(settings))
    assert second.migrations == []
    assert second.topics.created == ()
    assert second.genesis.present == first.genesis.written
