"""A real Kafka and a real PostgreSQL for the tests, which may stop, kill and start them.

TEST_BACKEND says where from: `local` (the packages that `make run` uses, the default) or `testcontainers` (images).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.local.kafka import Kafka
from services.local.postgres import Postgres
from tests.containers import ContainerisedKafka, ContainerisedPostgres, engine_answers

NO_DOCKER = "not run: no Docker"


@dataclass(frozen=True)
class Backend:
    kafka: Kafka | ContainerisedKafka
    postgres: Postgres | ContainerisedPostgres

    @property
    def bootstrap_servers(self) -> str:
        return self.kafka.bootstrap_servers

    @property
    def postgres_url(self) -> str:
        return self.postgres.url


@contextmanager
def start(data_dir: Path) -> Iterator[Backend]:
    """Both, from where TEST_BACKEND says; stopped on leaving, whatever the tests did to them."""
    source = os.environ.get("TEST_BACKEND", "local")
    if source == "testcontainers":
        if not engine_answers():
            pytest.skip(NO_DOCKER)
        with from_containers() as backend:
            yield backend
    elif source == "local":
        with from_packages(data_dir) as backend:
            yield backend
    else:
        pytest.exit(
            f"TEST_BACKEND: {source} is neither local nor testcontainers", returncode=pytest.ExitCode.USAGE_ERROR
        )


@contextmanager
def from_packages(data_dir: Path) -> Iterator[Backend]:
    """Side by side, with their data below `data_dir`."""
    backend = Backend(Kafka(data_dir / "kafka"), Postgres(data_dir / "postgres"))
    servers = (backend.kafka, backend.postgres)
    for server in servers:
        server.begin()
    try:
        for server in servers:
            server.await_ready()
        yield backend
    finally:
        for server in reversed(servers):
            server.stop()


@contextmanager
def from_containers() -> Iterator[Backend]:
    backend = Backend(kafka := ContainerisedKafka(), postgres := ContainerisedPostgres())
    servers = (kafka, postgres)
    try:
        for server in servers:
            server.begin()
        for server in servers:
            server.await_ready()
        yield backend
    finally:
        for server in reversed(servers):
            server.remove()
