"""Runs the stream, and makes it anew whenever it or its broker fails: nothing that counts is in it."""

import asyncio
from contextlib import suppress
from tempfile import TemporaryDirectory
from typing import Any

import structlog

from schemas.alerts import SILENCES
from schemas.topics import FULFILLMENT_ALERTS, FULFILLMENT_STATISTICS, MONITOR_CHANGELOG
from services import kafka
from services.health import Readiness
from services.monitor.rules import RULES, Bounds
from services.monitor.stream import Stream
from services.run import Refusal
from services.settings import Settings

_RETRY_S = 1.0
_STOP_S = 6.0

log = structlog.get_logger()


def bounds(settings: Settings) -> Bounds:
    """Refusal where a setting names a rule that is none."""
    names = {rule.name for rule in RULES}
    for setting, named, known in (
        ("ALERT_DURATIONS", settings.alert_durations, names),
        ("ALERTS_SILENCED", settings.alerts_silenced, names.union(SILENCES)),
    ):
        for name in named:
            if name not in known:
                raise Refusal(f"setting {setting}: {name} is none of {', '.join(sorted(known))}")
    return Bounds(
        success_rate_1m=settings.alert_success_rate_1m,
        success_rate_5m=settings.alert_success_rate_5m,
        success_rate_1h=settings.alert_success_rate_1h,
        success_rate_attempts=settings.alert_success_rate_attempts,
        orders_waiting_s=settings.alert_orders_waiting,
        acts_overdue_s=settings.alert_retries_late,
        in_doubt_s=settings.alert_in_doubt,
        reviews=settings.alert_reviews,
        dead_letters=settings.alert_dead_letters,
        lag_records=settings.alert_lag_records,
        no_orders_s=settings.alert_no_orders,
        balance_mb=settings.alert_balance_mb,
        durations_s=settings.alert_durations,
    )


class Monitor:
    def __init__(self, settings: Settings, readiness: Readiness) -> None:
        self._settings = settings
        self._readiness = readiness
        self._bounds = bounds(settings)
        self.ready = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Watch until `stop` is set."""
        while not stop.is_set():
            try:
                await self._require_topics()
                with TemporaryDirectory(prefix="monitor-") as folder:
                    await self._watch(stop, folder)
            except Refusal:
                raise
            except Exception as error:  # noqa: BLE001 - Faust's, aiokafka's, the broker's: each is answered alike
                self._readiness.down("kafka", str(error) or type(error).__name__)
                log.warning("begin_again", why=repr(error))
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), _RETRY_S)

    async def _watch(self, stop: asyncio.Event, folder: str) -> None:
        stream = Stream(self._settings, self._bounds, folder)
        app = stream.app
        ends: list[asyncio.Future[Any]] = [stream.failed, asyncio.create_task(stop.wait())]
        announcement = asyncio.create_task(self._announce(stream))
        try:
            await app.start()
            ends.append(asyncio.create_task(app.wait_until_stopped()))
            done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if app.crash_reason is not None:
                raise app.crash_reason
            for end in done:
                end.result()
        finally:
            for task in (announcement, *ends):
                task.cancel()
            try:
                await asyncio.wait_for(app.stop(), _STOP_S)
            except TimeoutError:
                log.info("kafka_does_not_answer", after_s=_STOP_S)

    async def _announce(self, stream: Stream) -> None:
        await stream.ready.wait()
        self._readiness.up("kafka")
        self.ready.set()

    async def _require_topics(self) -> None:
        """Faust waits for ever for a topic that is not there."""
        from aiokafka.admin import AIOKafkaAdminClient

        admin = AIOKafkaAdminClient(**kafka.connection(self._settings))
        await admin.start()
        try:
            existing = set(await admin.list_topics())
        finally:
            await admin.close()
        for topic in (FULFILLMENT_STATISTICS, FULFILLMENT_ALERTS, MONITOR_CHANGELOG):
            if self._settings.topic_prefix + topic not in existing:
                raise Refusal(
                    f"topic {self._settings.topic_prefix}{topic} does not exist: run `python -m services.setup`"
                )
