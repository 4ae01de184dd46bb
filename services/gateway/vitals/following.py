"""Follows fulfillment.statistics from an hour ago."""

import asyncio
import time
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from schemas.statistics import read_statistics
from schemas.topics import FULFILLMENT_STATISTICS
from services import kafka
from services.closing import Closing
from services.gateway.vitals.course import KEPT_S, Course
from services.gateway.writer import started
from services.settings import Settings

log = structlog.get_logger()

_POLL_MS: Final = 1000
_AT_ONCE: Final = 100
"""Records; requests are answered in between."""
_RETRY_S: Final = 2.0
_STOP_S: Final = 1.0


class Following:
    """`course` is None until the topic has been read to its end once; what is known stays so while Kafka is away."""

    def __init__(self, settings: Settings) -> None:
        self.course: Course | None = None
        self._settings = settings
        self._statistics = TopicPartition(settings.topic_prefix + FULFILLMENT_STATISTICS, 0)
        self._closing = Closing()

    async def run(self) -> None:
        """For ever."""
        while True:
            consumer = AIOKafkaConsumer(**kafka.consumer_arguments(self._settings))
            try:
                await started(consumer)
                await self._follow(consumer)
            except (KafkaError, TimeoutError, OSError) as error:
                log.info("statistics_not_followed", why=str(error) or type(error).__name__)
            finally:
                self._closing.later(consumer.stop())
                await self._closing.wait(_STOP_S)
            await asyncio.sleep(_RETRY_S)

    async def _follow(self, consumer: Any) -> None:
        course, tp = Course(), self._statistics
        consumer.assign([tp])
        found = (await consumer.offsets_for_times({tp: int(1000 * (time.time() - KEPT_S))}))[tp]
        end = (await consumer.end_offsets([tp]))[tp]
        consumer.seek(tp, end if found is None else found.offset)
        while True:
            if self.course is not course and await consumer.position(tp) >= end:
                self.course = course
            for records in (await consumer.getmany(timeout_ms=_POLL_MS, max_records=_AT_ONCE)).values():
                for record in records:
                    _take(course, record)
            await asyncio.sleep(0)


def _take(course: Course, record: Any) -> None:
    try:
        course.add(read_statistics(record.value or b""), record.timestamp / 1000)
    except ValueError:
        log.warning("no_statistics", offset=record.offset, size=len(record.value or b""))
