"""Creates the topics, and holds those that exist against what they must be."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaConnectionError, TopicAlreadyExistsError, for_code

from schemas.topics import Topic, table
from services import kafka
from services.run import Refusal
from services.settings import Environment, Settings
from services.setup.patience import Patience

_SAFE_REPLICAS = 3
_SAFE_IN_SYNC = 2
_UNCLEAN = "unclean.leader.election.enable"
_IN_SYNC = "min.insync.replicas"
_STAMPED_BY = "message.timestamp.type"


@dataclass(frozen=True)
class Topics:
    """What was found and done; names carry the prefix."""

    cluster_id: str
    created: tuple[str, ...]
    existing: tuple[str, ...]
    differing: tuple[str, ...]
    """Settings of existing topics that are not ours, a line each."""


@asynccontextmanager
async def admin_client(settings: Settings, patience: Patience) -> AsyncIterator[Any]:
    """An admin client that is connected. Refusal where no broker answers in time."""

    async def connect() -> Any:
        client = AIOKafkaAdminClient(**kafka.connection(settings))
        try:
            await client.start()
        except BaseException:
            await client.close()
            raise
        return client

    what = f"Kafka (KAFKA_BOOTSTRAP_SERVERS {settings.kafka_bootstrap_servers})"
    client = await patience.attempt(connect, (KafkaConnectionError, OSError, TimeoutError), what)
    try:
        yield client
    finally:
        await client.close()


async def ensure_topics(settings: Settings, admin: Any) -> Topics:
    """Create what is missing, in one request. Refusal, naming the topic, where one must not be used as it is."""
    wanted = _wanted(settings)
    if _must_be_safe(settings) and settings.replicas < _SAFE_REPLICAS:
        raise Refusal(
            f"setting REPLICATION_FACTOR: {settings.replicas} can lose orders; production needs {_SAFE_REPLICAS} "
            "(ALLOW_UNSAFE_TOPICS=true overrides)"
        )
    created, existing = await _create(admin, wanted, settings.replicas)
    differing = await _check(settings, admin, existing) if existing else []
    cluster = await admin.describe_cluster()
    return Topics(
        cluster_id=cluster["cluster_id"],
        created=tuple(topic.name for topic in created),
        existing=tuple(topic.name for topic in existing),
        differing=tuple(differing),
    )


def _must_be_safe(settings: Settings) -> bool:
    return settings.environment is Environment.PRODUCTION and not settings.allow_unsafe_topics


def _wanted(settings: Settings) -> list[Topic]:
    safety = {}
    if settings.replicas >= _SAFE_REPLICAS:
        safety = {_IN_SYNC: str(_SAFE_IN_SYNC), _UNCLEAN: "false"}
    return [
        replace(topic, name=settings.topic_prefix + topic.name, config={**topic.config, **safety})
        for topic in table(settings.partitions, settings.delays_s)
    ]


async def _create(admin: Any, wanted: Sequence[Topic], replicas: int) -> tuple[list[Topic], list[Topic]]:
    answer = await admin.create_topics(
        [NewTopic(topic.name, topic.partitions, replicas, topic_configs=dict(topic.config)) for topic in wanted]
    )
    topics = {topic.name: topic for topic in wanted}
    created, existing = [], []
    for name, code, *message in answer.topic_errors:
        error = for_code(code)
        if code == 0:
            created.append(topics[name])
        elif error is TopicAlreadyExistsError:
            existing.append(topics[name])
        elif error.retriable:
            raise error(f"topic {name} could not be created: {message}")
        else:
            raise Refusal(f"topic {name} could not be created: {' '.join(map(str, message)) or error.description}")
    return created, existing


async def _check(settings: Settings, admin: Any, existing: Sequence[Topic]) -> list[str]:
    described = {topic["topic"]: topic for topic in await admin.describe_topics([topic.name for topic in existing])}
    config = await _config(admin, existing)
    differing = []
    for topic in existing:
        partitions = described[topic.name]["partitions"]
        if len(partitions) != topic.partitions:
            raise Refusal(
                f"topic {topic.name} has {len(partitions)} partitions, not {topic.partitions}: set PARTITIONS to what "
                "the topics were made with; it cannot be changed while their orders count"
            )
        if _must_be_safe(settings):
            _refuse_unsafe(topic.name, min(len(partition["replicas"]) for partition in partitions), config[topic.name])
        differing += [
            f"topic {topic.name}: {name} is {config[topic.name].get(name)}, not {value}"
            for name, value in topic.config.items()
            if config[topic.name].get(name) != value
        ]
    return differing


def _refuse_unsafe(name: str, replicas: int, config: dict[str, str]) -> None:
    faults = []
    if replicas < _SAFE_REPLICAS:
        faults.append(f"{replicas} replicas (needs {_SAFE_REPLICAS})")
    if int(config.get(_IN_SYNC, "1")) < _SAFE_IN_SYNC:
        faults.append(f"{_IN_SYNC} {config.get(_IN_SYNC)} (needs {_SAFE_IN_SYNC})")
    if config.get(_UNCLEAN) == "true":
        faults.append(f"{_UNCLEAN} true (needs false)")
    if config.get(_STAMPED_BY) != "LogAppendTime":
        # An order's age would be its producer's word, and one record dated far ahead would make every order forgotten.
        faults.append(f"{_STAMPED_BY} {config.get(_STAMPED_BY)} (needs LogAppendTime)")
    if faults:
        raise Refusal(f"topic {name} can lose orders: {', '.join(faults)}. ALLOW_UNSAFE_TOPICS=true overrides")


async def _config(admin: Any, topics: Iterable[Topic]) -> dict[str, dict[str, str]]:
    """Every setting of each topic, the broker's defaults among them."""
    answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic.name) for topic in topics])
    config: dict[str, dict[str, str]] = {}
    for answer in answers:
        for code, message, _kind, name, entries in answer.resources:
            if code:
                raise Refusal(f"the settings of topic {name} cannot be read: {message or for_code(code).description}")
            config[name] = {entry[0]: entry[1] for entry in entries}
    return config
