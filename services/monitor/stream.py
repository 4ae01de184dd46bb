"""The Faust app: feeds the watch with statistics, keeps what it knows in a table, and sends what changes.

The table holds one value: the watch with the offset that it has seen. Faust commits offsets and writes changelogs
apart, so after a kill either may be ahead; here only the offset inside the value counts, and the stream is sought to
it. Changes go out before the value that includes them: a kill between repeats them, with the same ids.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final

import faust
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from faust.types import TP
from pydantic import ValidationError

from schemas.alerts import Alert, read_alert
from schemas.cloudevents import binary_headers
from schemas.topics import FULFILLMENT_ALERTS, FULFILLMENT_STATISTICS, MONITOR, MONITOR_TABLE
from services import kafka
from services.monitor import metrics
from services.monitor.rules import Bounds
from services.monitor.watch import Entry, Watch
from services.settings import Settings

log = structlog.get_logger()

_KEY: Final = b"watch"
_KEEP_EVERY_S: Final = 5.0
_SEEK_AGAIN_S: Final = 5.0
_LOOK_S: Final = 5.0


class StatisticsLostError(Exception):
    """The statistics end before what has been read of them: they are another topic's."""


class Stream:
    """One member of the monitors' group: it works where the one partition is its own, and stands by elsewhere."""

    def __init__(self, settings: Settings, bounds: Bounds, folder: str) -> None:
        """`folder`: Faust insists on one, and leaves nothing in it that is needed again."""
        self._settings = settings
        self._bounds = bounds
        prefix = settings.topic_prefix
        self._statistics = TP(prefix + FULFILLMENT_STATISTICS, 0)
        self._alerts = prefix + FULFILLMENT_ALERTS
        self._watch: Watch | None = None
        self._sent: set[str] = set()
        self._told: list[Alert] = []
        self._sought: tuple[int, float] | None = None
        self._is_placed = False
        self._looked: int | None = None
        """Up to where the statistics had been read when it was last looked."""
        self._kept_at = 0.0
        self._keeping: asyncio.TimerHandle | None = None
        self.ready = asyncio.Event()
        """Set once the group has said whose the partition is."""
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Has the exception where the stream cannot go on; it is made anew then."""
        self.app = faust.App(prefix + MONITOR, **_configuration(settings), datadir=folder)
        source = self.app.topic(self._statistics.topic, key_serializer="raw", value_serializer="raw", internal=False)
        self._table: Any = self.app.Table(MONITOR_TABLE, partitions=1, key_type=bytes, value_type=bytes)
        self._target: Any = self.app.topic(self._alerts, key_serializer="raw", value_serializer="raw")
        self.app.agent(source, name="watch")(self._follow)
        self.app.timer(_SEEK_AGAIN_S)(self._seek_again)
        self.app.timer(_LOOK_S)(self._look_for_the_end)
        self.app.on_partitions_revoked.connect(self._on_revoked, weak=False)
        self.app.on_rebalance_complete.connect(self._on_rebalanced, weak=False)

    async def _on_revoked(self, *_: Any, **__: Any) -> None:
        self._watch = None
        self._is_placed = False

    async def _on_rebalanced(self, *_: Any, **__: Any) -> None:
        """The table has been read to its end."""
        self._watch = None
        self._sought = self._looked = None
        self._is_placed = True
        metrics.FIRING.clear()
        self.ready.set()

    async def _follow(self, stream: Any) -> None:
        try:
            async for event in stream.events():
                message = event.message
                await self._take(Entry(message.offset, message.timestamp, message.value))
        except Exception as error:  # noqa: BLE001 - whoever awaits it raises it
            if not self.failed.done():
                self.failed.set_exception(error)
        finally:
            self._keep_no_more()

    async def _take(self, entry: Entry) -> None:
        watch = self._watch if self._watch is not None else await self._load()
        if entry.offset <= watch.offset:
            return
        if entry.offset > watch.offset + 1 and not await self._is_next(entry.offset, watch.offset + 1):
            return
        self._sought = None
        changes = watch.see(entry, self._bounds, self._told)
        for alert in changes:
            await self._send(alert)
        if self._watch is not watch:  # a rebalance meanwhile: another monitor goes on from what the table has
            return
        self._keep_no_more()
        if changes or time.monotonic() - self._kept_at >= _KEEP_EVERY_S:
            self._keep(watch)
        else:  # with the event, which Faust wants to find about a table's change and does not hold itself
            arguments = (watch, watch.offset, faust.current_event())
            self._keeping = asyncio.get_running_loop().call_later(_KEEP_EVERY_S, self._keep_the_last, *arguments)
        self._show(watch)

    def _keep(self, watch: Watch) -> None:
        self._kept_at = time.monotonic()
        self._table[_KEY] = watch.model_dump_json().encode()

    def _keep_no_more(self) -> None:
        if self._keeping is not None:
            self._keeping.cancel()

    def _keep_the_last(self, watch: Watch, offset: int, _: Any) -> None:
        """Where nothing has come after it: what is never kept looks as if nobody had read it."""
        if self._watch is watch and watch.offset == offset:
            self._keep(watch)

    async def _is_next(self, offset: int, wanted: int) -> bool:
        """Whether nothing before this one is left in the log; else go back to what is wanted."""
        if self._sought is None or time.monotonic() - self._sought[1] > _SEEK_AGAIN_S:
            starts = await self.app.consumer.earliest_offsets(self._statistics)
            first = max(wanted, starts[self._statistics])
            if offset <= first:
                return True
            log.info("statistics_sought", offset=first)
            self._sought = (first, time.monotonic())
            await self.app.consumer.seek(self._statistics, first)
        return offset <= self._sought[0]

    async def _seek_again(self) -> None:
        """What Faust had fetched when it was told to go back makes it pass over what lies before that."""
        if self._sought is not None and time.monotonic() - self._sought[1] > _SEEK_AGAIN_S:
            self._sought = (self._sought[0], time.monotonic())
            await self.app.consumer.seek(self._statistics, self._sought[0])

    async def _look_for_the_end(self) -> None:
        """Faust passes over what lies before the offset that it read last or that its group committed.

        In a topic that was made anew too, and the group's offset may outlive the topic.
        """
        if not self._is_at_work():
            return
        try:
            end = (await self.app.consumer.highwaters(self._statistics))[self._statistics]
            start = (await self.app.consumer.earliest_offsets(self._statistics))[self._statistics]
        except KafkaError as error:
            log.info("end_not_known", why=repr(error))
            return
        if not self._is_at_work():
            return
        watch = self._watch
        if watch is not None and end <= watch.offset:
            self.failed.set_exception(StatisticsLostError(f"they end at {end}, read to {watch.offset}"))
            return
        read = (watch or _read_watch(self._table.get(_KEY))).offset
        wanted = max(start, read + 1 if read < end else 0)
        if wanted < end and read == self._looked:
            log.info("statistics_passed_over", offset=wanted, end=end)
            await self.app.consumer.seek(self._statistics, wanted)
        self._looked = read

    def _is_at_work(self) -> bool:
        return self._is_placed and not self.failed.done() and self._statistics in self.app.consumer.assignment()

    async def _load(self) -> Watch:
        kept = self._table.get(_KEY)
        told = await _all_of(self._settings, self._alerts)
        self._sent = {alert.id for alert in told}
        watch = _read_watch(kept)
        ends = await self.app.consumer.highwaters(self._statistics)
        if watch.offset >= ends[self._statistics]:
            log.error("statistics_made_anew", offset=watch.offset, end=ends[self._statistics])
            watch = Watch()
        self._watch = watch
        self._told = told if watch.windows.began is None else []
        log.info("watching", offset=watch.offset, firing=len(watch.firing()))
        return watch

    async def _send(self, alert: Alert) -> None:
        if alert.id in self._sent:
            return
        value = alert.model_dump_json(exclude_none=True).encode()
        headers = binary_headers(alert.type, alert.id, b"/monitor", alert.at)
        await (await self._target.send(key=f"{alert.name}/{alert.subject}".encode(), value=value, headers=headers))
        self._sent.add(alert.id)
        metrics.CHANGES.labels(alert.name, alert.type).inc()
        if alert.name in self._settings.alerts_silenced:
            return
        said = alert.model_dump(
            mode="json", exclude={"type", "version", "name"}, exclude_none=True, exclude_defaults=True
        )
        if alert.type == "AlertRaised":
            log.warning("alert_raised", alert=alert.name, **said)
        else:
            log.info("alert_cleared", alert=alert.name, **said)

    def _show(self, watch: Watch) -> None:
        metrics.RECORDS.inc()
        metrics.REPEATED.set(watch.windows.repeated)
        metrics.LATE.set(watch.windows.late)
        metrics.BEYOND.set(watch.windows.beyond)
        metrics.UNREADABLE.set(watch.unreadable)
        metrics.EVENT_TIME.set(watch.windows.at)
        metrics.FIRING.clear()
        for rule, subject, _ in watch.firing():
            metrics.FIRING.labels(rule.name, rule.severity, subject).set(1)


def _configuration(settings: Settings) -> Mapping[str, Any]:
    servers = settings.kafka_bootstrap_servers.split(",")
    arguments = kafka.connection(settings)
    context = arguments.get("ssl_context")
    credentials: faust.types.CredentialsT | None = None
    if settings.kafka_security_protocol.startswith("SASL"):
        credentials = faust.SASLCredentials(
            username=arguments["sasl_plain_username"],
            password=arguments["sasl_plain_password"],
            ssl_context=context,
            mechanism=settings.kafka_sasl_mechanism,
        )
    elif context is not None:
        credentials = faust.SSLCredentials(context=context)
    return {
        "broker": [f"kafka://{server.strip()}" for server in servers],
        "broker_credentials": credentials,
        "broker_session_timeout": settings.session_timeout_s,
        "broker_heartbeat_interval": settings.session_timeout_s / 5,
        "broker_request_timeout": max(20.0, settings.session_timeout_s + 5),
        "broker_rebalance_timeout": max(30.0, settings.session_timeout_s),
        "consumer_auto_offset_reset": "earliest",
        # Topics that were deleted and made again are seen so soon.
        "consumer_metadata_max_age_ms": 10_000,
        "processing_guarantee": "at_least_once",
        "autodiscover": False,
        # Every topic is made by services.setup; Faust asks for none.
        "topic_allow_declare": False,
        "topic_disable_leader": True,
        "topic_partitions": 1,
        "table_standby_replicas": 1,
        "stream_wait_empty": False,
        # Recovery begins after a pause that suits hundreds of partitions.
        "stream_recovery_delay": 0.0,
        "producer_acks": -1,
        "store": "memory://",
        "web_enabled": False,
        "loghandlers": [],
        "worker_redirect_stdouts": False,
    }


def _read_watch(kept: bytes | None) -> Watch:
    """A new one where another version wrote it, say: the statistics have it all."""
    if kept is None:
        return Watch()
    try:
        return Watch.model_validate_json(kept)
    except ValidationError as error:
        log.error("kept_watch_unreadable", why=str(error.errors(include_input=False)[:1]))  # noqa: TRY400 - it says all
        return Watch()


async def _all_of(settings: Settings, topic: str) -> list[Alert]:
    """Every alert that has been sent, by whichever monitor."""
    consumer = AIOKafkaConsumer(**kafka.consumer_arguments(settings))
    told: list[Alert] = []
    await consumer.start()
    try:
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        end = (await consumer.end_offsets([partition]))[partition]
        while await consumer.position(partition) < end:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                told.extend(one for one in (_alert_in(record.value) for record in records) if one)
    finally:
        await consumer.stop()
    return told


def _alert_in(value: bytes | None) -> Alert | None:
    try:
        return read_alert(value or b"")
    except ValueError:
        return None
