"""The record that says that a partition of fulfillment.state was made by setup and never lost.

A shard that finds none refuses to run rather than believe that it is new.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from schemas.strict_json import dumps
from schemas.topics import FULFILLMENT_EVENTS, FULFILLMENT_STATE
from services import kafka
from services.settings import Settings

KEY = b"genesis"


@dataclass(frozen=True)
class Genesis:
    """Partitions by what was found or done about their genesis record."""

    written: tuple[int, ...]
    present: tuple[int, ...]
    lost: tuple[int, ...]
    """Without a genesis although fulfillment.events holds events: state is gone, and only `recover` mends it."""


async def ensure_genesis(settings: Settings, cluster_id: str, *, just_made: bool = False) -> Genesis:
    """Write the record where the partition is new. `just_made`: the topics are, so nothing needs to be looked for."""
    everywhere = range(settings.partitions)
    present, events = (set[int](), set[int]()) if just_made else await _look(settings)
    written = [p for p in everywhere if p not in present and p not in events]
    if written:
        # A topic just made has no leaders for a moment: asking for its ends waits for them, and quietly.
        await _high_watermarks(settings, _partitions(settings, FULFILLMENT_STATE))
        await _write(settings, cluster_id, written)
    return Genesis(
        written=tuple(written),
        present=tuple(sorted(present)),
        lost=tuple(p for p in everywhere if p not in present and p in events),
    )


async def _look(settings: Settings) -> tuple[set[int], set[int]]:
    """Partitions that have a genesis record; partitions that have events."""
    state, events = _partitions(settings, FULFILLMENT_STATE), _partitions(settings, FULFILLMENT_EVENTS)
    consumer = AIOKafkaConsumer(**kafka.consumer_arguments(settings))
    await consumer.start()
    try:
        # The high watermark, not the last committed offset: an event in an open transaction is an event too.
        ends = await _high_watermarks(settings, events)
        present = {tp.partition for tp in state if await _has_genesis(consumer, tp)}
    finally:
        await consumer.stop()
    return present, {tp.partition for tp in events if ends[tp] > 0}


def _partitions(settings: Settings, topic: str) -> list[TopicPartition]:
    return [TopicPartition(settings.topic_prefix + topic, p) for p in range(settings.partitions)]


async def _high_watermarks(settings: Settings, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
    consumer = AIOKafkaConsumer(**kafka.connection(settings))
    await consumer.start()
    try:
        ends: dict[TopicPartition, int] = await consumer.end_offsets(partitions)
        return ends
    finally:
        await consumer.stop()


async def _has_genesis(consumer: Any, partition: TopicPartition) -> bool:
    """It is the first record, or near: compaction moves nothing in front of it."""
    consumer.assign([partition])
    end = (await consumer.end_offsets([partition]))[partition]
    await consumer.seek_to_beginning(partition)
    while await consumer.position(partition) < end:
        for record in (await consumer.getmany(timeout_ms=200)).get(partition, ()):
            if record.key == KEY and record.value is not None:
                return True
    return False


async def _write(settings: Settings, cluster_id: str, partitions: Iterable[int]) -> None:
    value = dumps(
        {"version": 1, "cluster_id": cluster_id, "partitions": settings.partitions, "at": datetime.now(UTC).isoformat()}
    )
    producer = AIOKafkaProducer(**kafka.connection(settings), acks="all", enable_idempotence=True)
    await producer.start()
    try:
        topic = settings.topic_prefix + FULFILLMENT_STATE
        await asyncio.gather(*[await producer.send(topic, value, key=KEY, partition=p) for p in partitions])
    finally:
        await producer.stop()
