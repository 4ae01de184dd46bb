"""Migrations, topics and genesis records, on a real broker and database."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from pydantic import SecretStr

from schemas.topics import FULFILLMENT_EVENTS, FULFILLMENT_STATE, ORDERS_EVENTS, table
from services import kafka
from services.local.ports import free_port
from services.run import Refusal
from services.settings import Environment, Settings
from services.setup.setup import set_up
from tests.lost_topics import lose
from tests.processes import Processes, environment
from tests.waiting import until


@pytest.fixture
async def empty(settings: Settings, postgres: str) -> AsyncIterator[Settings]:
    """Settings that lead to a database without a table."""
    name = f"empty_{uuid.uuid4().hex}"
    connection = await asyncpg.connect(postgres)
    await connection.execute(f"CREATE DATABASE {name}")
    url = SecretStr(f"{postgres.rpartition('/')[0]}/{name}")
    yield settings.model_copy(update={"database_url": url})
    await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await connection.close()


@pytest.fixture
async def admin(settings: Settings) -> AsyncIterator[Any]:
    client = AIOKafkaAdminClient(**kafka.connection(settings))
    await client.start()
    yield client
    await client.close()


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    with Processes(tmp_path) as processes:
        yield processes


async def genesis(settings: Settings) -> dict[int, list[Any]]:
    """The genesis records of each partition."""
    partitions = [TopicPartition(settings.topic_prefix + FULFILLMENT_STATE, p) for p in range(settings.partitions)]
    consumer = AIOKafkaConsumer(**kafka.connection(settings), enable_auto_commit=False)
    await consumer.start()
    consumer.assign(partitions)
    await consumer.seek_to_beginning()
    ends = await consumer.end_offsets(partitions)
    found: dict[int, list[Any]] = {tp.partition: [] for tp in partitions}
    while any([await consumer.position(tp) < ends[tp] for tp in partitions]):
        for tp, records in (await consumer.getmany(timeout_ms=100)).items():
            found[tp.partition] += [json.loads(record.value) for record in records if record.key == b"genesis"]
    await consumer.stop()
    return found


async def write(settings: Settings, topic: str, partition: int, key: bytes = b"x") -> None:
    producer = AIOKafkaProducer(**kafka.connection(settings))
    await producer.start()
    await producer.send_and_wait(settings.topic_prefix + topic, b"{}", key=key, partition=partition)
    await producer.stop()


async def test_everything_is_made_once(empty: Settings, admin: Any) -> None:
    first = await set_up(empty)
    wanted = {empty.topic_prefix + topic.name for topic in table(empty.partitions, empty.delays_s)}
    assert set(first.topics.created) == wanted
    assert "20260101000000_view.sql" in first.migrations
    assert first.genesis.written == (0, 1, 2, 3)
    (record,) = (await genesis(empty))[2]
    assert (record["version"], record["partitions"]) == (1, empty.partitions)
    assert record["cluster_id"] == first.topics.cluster_id == (await admin.describe_cluster())["cluster_id"]

    second = await set_up(empty)
    assert second.migrations == []
    assert (second.topics.created, set(second.topics.existing), second.topics.differing) == ((), wanted, ())
    assert (second.genesis.written, second.genesis.present, second.genesis.lost) == ((), (0, 1, 2, 3), ())
    assert [len(records) for records in (await genesis(empty)).values()] == [1] * 4


async def test_a_new_delay_gets_its_topic(topics: Settings) -> None:
    report = await set_up(topics.model_copy(update={"retry_delays": (7.0, 2.0)}))
    assert report.topics.created == (f"{topics.topic_prefix}fulfillment.retry.7s",)


async def test_other_partitions_are_refused(topics: Settings) -> None:
    with pytest.raises(Refusal, match=r"orders\.events has 4 partitions, not 3: set PARTITIONS"):
        await set_up(topics.model_copy(update={"partitions": 3}))


async def test_what_an_operator_changed_is_left_and_said(topics: Settings, admin: Any) -> None:
    name = topics.topic_prefix + ORDERS_EVENTS
    config = {"retention.ms": "1000000", "message.timestamp.type": "LogAppendTime", "retention.bytes": "-1"}
    await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, configs=config)])

    async def seen() -> bool:
        # The controller answers; the broker that is asked later hears of it from there.
        (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
        ((*_, entries),) = answer.resources
        return {entry[0]: entry[1] for entry in entries}["retention.ms"] == config["retention.ms"]

    await until(seen, "the broker to know")
    report = await set_up(topics)
    assert report.topics.differing == (f"topic {name}: retention.ms is 1000000, not -1",)
    assert f"  left as it is: topic {name}: retention.ms is 1000000, not -1" in report.lines()


async def test_state_that_was_lost_is_not_taken_for_new(topics: Settings) -> None:
    await write(topics, FULFILLMENT_EVENTS, 1)
    await lose(topics, FULFILLMENT_STATE)
    report = await set_up(topics)
    assert (report.genesis.written, report.genesis.lost) == ((0, 2, 3), (1,))
    assert "python -m services.fulfiller recover" in report.lines()[-1]
    assert (await genesis(topics))[1] == []


async def test_an_interrupted_setup_goes_on(topics: Settings) -> None:
    """State may hold something else already: the genesis record is looked for among it."""
    await lose(topics, FULFILLMENT_STATE)
    await set_up(topics)
    await write(topics, FULFILLMENT_STATE, 3)
    report = await set_up(topics)
    assert (report.genesis.written, report.genesis.present) == ((), (0, 1, 2, 3))


# --- production ------------------------------------------------------------------------------------------------------


def in_production(settings: Settings, **changes: Any) -> Settings:
    return settings.model_copy(update={"environment": Environment.PRODUCTION} | changes)


async def test_too_few_replicas_are_refused(settings: Settings) -> None:
    with pytest.raises(Refusal, match="REPLICATION_FACTOR: 1 can lose orders"):
        await set_up(in_production(settings, replication_factor=1))


async def test_a_cluster_that_is_too_small_is_said_so(settings: Settings) -> None:
    with pytest.raises(Refusal, match=r"orders\.events could not be created: .*3"):
        await set_up(in_production(settings))


async def test_unsafe_topics_are_refused(topics: Settings) -> None:
    with pytest.raises(Refusal, match=r"can lose orders: 1 replicas \(needs 3\), min\.insync\.replicas 1 \(needs 2\)"):
        await set_up(in_production(topics))


async def test_unsafe_topics_are_allowed_when_told_so(settings: Settings) -> None:
    report = await set_up(in_production(settings, replication_factor=1, allow_unsafe_topics=True))
    assert report.genesis.written == (0, 1, 2, 3)


# --- as a command ----------------------------------------------------------------------------------------------------


async def test_the_command_says_what_it_did(empty: Settings, processes: Processes) -> None:
    command = processes.start(["services.setup"], environment(empty))
    assert await command.ended(60) == 0
    assert "topics: 12 created, 0 found" in command.log
    assert "genesis: 4 written, 0 found" in command.log


async def test_no_broker_is_one_line(empty: Settings) -> None:
    away = empty.model_copy(update={"kafka_bootstrap_servers": f"127.0.0.1:{free_port()}"})
    with pytest.raises(Refusal, match=r"Kafka \(KAFKA_BOOTSTRAP_SERVERS 127.* cannot be reached after 1 s"):
        await set_up(away, patience_s=1)


async def test_no_database_is_one_line(settings: Settings) -> None:
    url = SecretStr(f"postgresql://fulfillment:fulfillment@127.0.0.1:{free_port()}/fulfillment")
    with pytest.raises(Refusal, match=r"PostgreSQL \(DATABASE_URL\) cannot be reached after 1 s"):
        await set_up(settings.model_copy(update={"database_url": url}), patience_s=1)


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("DATABASE_URL", "postgresql://fulfillment:wrong@", "setting DATABASE_URL: password authentication failed"),
        ("PARTITIONS", "many", "setting PARTITIONS: "),
        ("PARTITIONS", "0", "setting PARTITIONS: "),
        ("RETRY_DELAYS", "soon", "setting RETRY_DELAYS"),
    ],
)
async def test_a_wrong_setting_is_one_line(
    settings: Settings, processes: Processes, name: str, value: str, line: str
) -> None:
    if name == "DATABASE_URL":
        value += settings.database_url.get_secret_value().rpartition("@")[2]
    command = processes.start(["services.setup"], environment(settings) | {name: value})
    assert await command.ended(60) == 1
    (said,) = command.log.splitlines()
    assert said.startswith(line)


async def test_a_database_that_comes_late_is_waited_for(settings: Settings, backend: Any) -> None:
    await asyncio.to_thread(backend.postgres.stop)
    work = asyncio.create_task(set_up(settings))
    await asyncio.to_thread(backend.postgres.start)
    assert (await work).genesis.written == (0, 1, 2, 3)
