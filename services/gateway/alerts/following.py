"""Follows fulfillment.alerts from its beginning, and looks whether those fall silent who could raise one."""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from schemas.alerts import Alert, read_alert
from schemas.topics import FULFILLMENT_ALERTS, FULFILLMENT_STATISTICS, MONITOR_CHANGELOG, ORDERS_EVENTS
from services import kafka
from services.closing import Closing
from services.gateway import metrics
from services.gateway.alerts.board import Board, Shown
from services.gateway.alerts.silence import KINDS, Silence
from services.gateway.writer import started
from services.settings import Settings

log = structlog.get_logger()

_POLL_MS: Final = 1000
_LOOK_EVERY_S: Final = 5.0
_RETRY_S: Final = 2.0
_STOP_S: Final = 1.0


class Following:
    """In memory: days of alerts are a few hundred records, and they are to be had while PostgreSQL is away."""

    def __init__(self, settings: Settings, on_change: Callable[[], None]) -> None:
        self._settings = settings
        self._on_change = on_change
        self._standing: list[str] = []
        self._alerts = TopicPartition(settings.topic_prefix + FULFILLMENT_ALERTS, 0)
        self._silenced = frozenset(settings.alerts_silenced)
        self._board: Board | None = None
        self._own = Board()
        self._silences = [Silence(kind, settings.alert_silent) for kind in KINDS]
        self._looked_at_s = 0.0
        self._closing = Closing()

    @property
    def known(self) -> bool:
        """Whether the topic has been read to its end once."""
        return self._board is not None

    def firing(self) -> list[Alert]:
        return self._own.firing() + (self._board.firing() if self._board else [])

    def cleared(self) -> list[Shown]:
        return self._own.cleared() + (self._board.cleared() if self._board else [])

    def silent(self) -> list[Alert]:
        """What was raised here."""
        return self._own.firing()

    async def run(self) -> None:
        """For ever; what is known stays so while Kafka is away."""
        while True:
            consumer = AIOKafkaConsumer(**kafka.consumer_arguments(self._settings))
            try:
                await started(consumer)
                await self._follow(consumer)
            except (KafkaError, TimeoutError, OSError) as error:
                log.info("alerts_not_followed", why=str(error) or type(error).__name__)
            finally:
                self._closing.later(consumer.stop())
                await self._closing.wait(_STOP_S)
            await asyncio.sleep(_RETRY_S)

    async def _follow(self, consumer: Any) -> None:
        """Anew from the beginning: what was made anew meanwhile is another topic."""
        board = Board()
        # With aiokafka's own time limits: cancelled from outside, it loses the connection that it is making.
        consumer.assign([self._alerts])
        consumer.seek(self._alerts, (await consumer.beginning_offsets([self._alerts]))[self._alerts])
        end = (await consumer.end_offsets([self._alerts]))[self._alerts]
        while True:
            if self._board is not board and await consumer.position(self._alerts) >= end:
                self._board = board
            await self._look(consumer)
            self._show()
            for records in (await consumer.getmany(timeout_ms=_POLL_MS)).values():
                for record in records:
                    _take(board, record)

    async def _look(self, consumer: Any) -> None:
        if time.monotonic() - self._looked_at_s < min(_LOOK_EVERY_S, self._settings.alert_silent / 4):
            return
        self._looked_at_s = time.monotonic()
        ends = await self._ends(consumer)
        for silence in self._silences:
            change = silence.look(ends, time.time())
            if change is not None:
                self._own.take(change)
                if change.name not in self._silenced:
                    _say(change)

    async def _ends(self, consumer: Any) -> Mapping[str, int]:
        partitions = {ORDERS_EVENTS: self._settings.partitions, FULFILLMENT_STATISTICS: 1, MONITOR_CHANGELOG: 1}
        wanted = {
            TopicPartition(self._settings.topic_prefix + topic, number): topic
            for topic, count in partitions.items()
            for number in range(count)
        }
        ends = dict.fromkeys(partitions, 0)
        for partition, end in (await consumer.end_offsets(list(wanted))).items():
            ends[wanted[partition]] += end
        return ends

    def _show(self) -> None:
        standing = [alert.id for alert in self.firing()]
        if standing != self._standing:
            self._standing = standing
            self._on_change()
        metrics.alert_firing.clear()
        for alert in self.firing():
            metrics.alert_firing.labels(alert.name, alert.severity, alert.subject).set(1)


def _take(board: Board, record: Any) -> None:
    try:
        board.take(read_alert(record.value or b""))
    except ValueError:
        log.warning("no_alert", offset=record.offset, size=len(record.value or b""))


def _say(alert: Alert) -> None:
    said = {"alert": alert.name, "severity": alert.severity.value, "since": alert.since.isoformat()}
    if alert.type == "AlertRaised":
        log.error("alert_raised", **said, advice=alert.advice, link=alert.link)
    else:
        log.info("alert_cleared", **said)
