"""What projectors tell is told once, wherever a rebalance, a broken send or a view made anew falls."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from schemas.statistics import BUCKET_S, Part, Statistics, read_statistics
from schemas.topics import FULFILLMENT_DEAD_LETTER, FULFILLMENT_STATISTICS, ORDERS_EVENTS
from services import kafka
from services.monitor.rules import Bounds
from services.monitor.watch import Entry, Watch
from services.projector.batch import sort
from services.projector.statistics import Publisher
from services.projector.untold import Told
from services.settings import Settings
from tests.evidence import read_topics
from tests.monitor.statistics import said, value
from tests.projector.conftest import projecting
from tests.projector.events import Record
from tests.waiting import until

_LETTERS = 30
_TOLD = 10
"""By a projector before this one."""


class Applying:
    """A projector that applies what the log has, and is placed anew at will."""

    def __init__(self, settings: Settings, records: Sequence[Any]) -> None:
        self._settings = settings
        self._records = records
        self._partition = settings.topic_prefix + FULFILLMENT_DEAD_LETTER, 0
        self.meanwhile: Callable[[], None] = lambda: None
        self.publisher = Publisher(settings, self._held, lambda _: None)

    def _held(self) -> dict[tuple[str, int], int]:
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()
        return {}

    def placed(self, position: int) -> None:
        self.publisher.placed({self._partition: position})

    def apply(self, start: int, end: int) -> None:
        records = self._records[start:end]
        batch = sort(records, self._settings.topic_prefix)
        self.publisher.told.note(records, batch, {self._partition: (start, end)})

    async def counted(self) -> int:
        one_partition = self._settings.model_copy(update={"partitions": 1})
        watch = Watch()
        for one in (await read_topics(one_partition, [FULFILLMENT_STATISTICS]))[FULFILLMENT_STATISTICS]:
            watch.see(Entry(one.offset, one.timestamp / 1000, one.value), Bounds())
        return watch.windows.dead_letters(3600)


@pytest.fixture
async def applying(topics: Settings) -> AsyncIterator[Applying]:
    """Of letters that are in the log, the first ones told of already."""
    producer = AIOKafkaProducer(**kafka.connection(topics), acks="all")
    consumer = AIOKafkaConsumer(**kafka.consumer_arguments(topics))
    await asyncio.gather(producer.start(), consumer.start())
    try:
        letters = TopicPartition(topics.topic_prefix + FULFILLMENT_DEAD_LETTER, 0)
        for _ in range(_LETTERS):
            await producer.send(letters.topic, b"garbage", partition=0)
        await producer.flush()
        consumer.assign([letters])
        consumer.seek(letters, 0)
        records: list[Any] = []
        while len(records) < _LETTERS:
            records += (await consumer.getmany(timeout_ms=200)).get(letters, [])
        bucket = records[0].timestamp // 1000 // BUCKET_S * BUCKET_S
        told = Part(topic=FULFILLMENT_DEAD_LETTER, partition=0, start=0, end=_TOLD, records={bucket: _TOLD})
        before = value(said(time.time(), told))
        await producer.send_and_wait(topics.topic_prefix + FULFILLMENT_STATISTICS, before, partition=0)
        yield Applying(topics, records)
    finally:
        await asyncio.gather(producer.stop(), consumer.stop())


def _taken_over(applying: Applying) -> None:
    applying.placed(20)
    applying.apply(20, 30)


def _kept_through_a_rebalance(applying: Applying) -> None:
    applying.placed(10)
    applying.apply(10, 20)
    applying.placed(20)
    applying.apply(20, 30)


def _made_anew(applying: Applying) -> None:
    applying.placed(0)
    applying.apply(0, 30)


def _placed_anew_meanwhile(applying: Applying) -> None:
    applying.placed(10)
    applying.apply(10, 15)
    applying.meanwhile = lambda: _taken_over(applying)


@pytest.mark.parametrize("story", [_taken_over, _kept_through_a_rebalance, _made_anew, _placed_anew_meanwhile])
async def test_every_record_is_told_of_once(applying: Applying, story: Callable[[Applying], None]) -> None:
    story(applying)
    publishing = asyncio.create_task(applying.publisher.run())
    try:

        async def all_of_them() -> bool:
            return await applying.counted() == _LETTERS

        await until(all_of_them, "every letter to be counted", 15)
    finally:
        publishing.cancel()


def test_no_stretch_goes_on_across_what_was_told_before() -> None:
    told, partition = Told(""), (FULFILLMENT_DEAD_LETTER, 0)
    told.seam(partition, 10)
    for start, end in ((0, 5), (5, 15), (15, 20)):
        letters = [Record(*partition, n, None, b"garbage") for n in range(start, end)]
        told.note(letters, sort(letters, ""), {partition: (start, end)})
    parts = told.take()
    assert [(part.start, part.end, sum(part.records.values())) for part in parts] == [(0, 10, 10), (10, 20, 10)]


def test_what_was_not_told_for_long_is_a_record_that_kafka_takes() -> None:
    """Most of it is later than the longest window by then."""
    told, step_ms = Told(""), 1000 * BUCKET_S
    letters = [Record(FULFILLMENT_DEAD_LETTER, 0, n, None, b"garbage", n * step_ms) for n in range(100_000)]
    told.note(letters, sort(letters, ""), {(FULFILLMENT_DEAD_LETTER, 0): (0, len(letters))})
    parts = told.take()
    assert [(part.start, part.end) for part in parts] == [(0, len(letters))]
    assert len(value(Statistics(at=said(0).at, parts=parts))) < 100_000


async def test_an_order_that_is_dated_ahead_silences_nobody(topics: Settings) -> None:
    order_id = str(uuid.uuid4())
    ahead = (datetime.now(UTC) + timedelta(minutes=3)).isoformat()
    order = {"order_id": order_id, "phone_number": "0233123456", "network": "AT-iShare", "size": "1GB"}
    producer = AIOKafkaProducer(**kafka.connection(topics))
    await producer.start()
    written = json.dumps(order | {"created_at": ahead}).encode()
    await producer.send_and_wait(topics.topic_prefix + ORDERS_EVENTS, written, order_id.encode(), partition=0)
    await producer.stop()

    async def told() -> bool:
        one_partition = topics.model_copy(update={"partitions": 1})
        records = (await read_topics(one_partition, [FULFILLMENT_STATISTICS]))[FULFILLMENT_STATISTICS]
        stands = [read_statistics(record.value or b"").stands for record in records]
        return any(one.networks for one in stands if one is not None)

    async with projecting(topics):
        await until(told, "how it stands")
