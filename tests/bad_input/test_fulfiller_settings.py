"""A fulfiller that is told wrong, or finds nothing as it should be: one clear line, or it waits and says why."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiokafka import AIOKafkaProducer

from schemas.topics import FULFILLMENT_STATE
from services import kafka
from services.fulfiller.positions import GENESIS_KEY
from services.settings import Settings
from services.setup.patience import Patience
from services.setup.setup import set_up_kafka
from tests.processes import Processes, Service, environment
from tests.waiting import until

FULFILLER = ["services.fulfiller"]


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    with Processes(tmp_path) as processes:
        yield processes


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PARTITIONS", "zero"),
        ("RETRY_DELAYS", "5m,soon"),
        ("VERIFY_DELAYS", "1s"),
        ("MAX_ATTEMPTS", "0"),
        ("AT_ISHARE_API_URL", "ftp://provider/v1"),
        ("ENVIRONMENT", "prod"),
        ("HEALTH_PORT", "65536"),
    ],
)
async def test_a_wrong_setting_is_one_line(processes: Processes, name: str, value: str) -> None:
    service = processes.start(FULFILLER, {"PATH": os.defpath, name: value})
    assert await service.ended() == 1
    (line,) = service.log.splitlines()
    assert line.startswith("setting ")
    assert name in line


async def test_a_port_that_is_taken_is_one_line(processes: Processes, unused_tcp_port_factory: Any) -> None:
    port = unused_tcp_port_factory()
    env = {"PATH": os.defpath, "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1", "HEALTH_PORT": str(port)}
    first = processes.start(FULFILLER, env)
    await until(lambda: "Connection refused" in first.log, "the first to try")
    second = processes.start(FULFILLER, env)
    assert await second.ended() == 1
    (line,) = second.log.splitlines()
    assert str(port) in line
    await first.stop()


async def test_a_broker_that_is_away_is_waited_for(processes: Processes) -> None:
    env = {"PATH": os.defpath, "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1", "HEALTH_PORT": "0"}
    service = processes.start(FULFILLER, env)
    await _says(service, "kafka", "not reached")
    await service.stop()


async def test_topics_that_are_not_there_are_waited_for(settings: Settings, processes: Processes) -> None:
    service = processes.start(FULFILLER, environment(settings))
    await _says(service, "kafka", "run `python -m services.setup`")
    assert "fulfiller ready" not in service.log
    await set_up_kafka(settings, Patience())
    await service.ready()
    await service.stop()


async def test_another_number_of_partitions_is_refused(topics: Settings, processes: Processes) -> None:
    service = processes.start(FULFILLER, environment(topics.model_copy(update={"partitions": topics.partitions - 1})))
    await _says(service, "partition 0", "setting PARTITIONS")
    assert "fulfiller ready" not in service.log
    await service.stop()


async def test_a_state_without_its_genesis_is_refused(topics: Settings, processes: Processes) -> None:
    producer = AIOKafkaProducer(**kafka.connection(topics))
    await producer.start()
    try:
        await producer.send_and_wait(topics.topic_prefix + FULFILLMENT_STATE, None, GENESIS_KEY, partition=0)
    finally:
        await producer.stop()
    service = processes.start(FULFILLER, environment(topics))
    await _says(service, "partition 0", "recover")
    assert "fulfiller ready" not in service.log
    await service.stop()


async def _says(service: Service, dependency: str, why: str) -> None:
    """Wait until `/readyz` says so."""

    async def said() -> bool:
        assert service.exit_code is None, service.log[-2000:]
        try:
            async with aiohttp.ClientSession() as session, session.get(f"{service.url}/readyz") as response:
                dependencies = (await response.json())["dependencies"]
        except (StopIteration, aiohttp.ClientError):
            return False
        return response.status == 503 and why in dependencies.get(dependency, "")

    await until(said, f"{dependency} to say {why!r}")
