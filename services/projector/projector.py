"""Keeps the view up with the log: reads committed records, applies them in batches, begins again on any doubt."""

from __future__ import annotations  # asyncpg's classes take parameters in its stubs alone

import asyncio
import time
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import asyncpg
import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError

from schemas.topics import FULFILLMENT_DEAD_LETTER
from services import kafka, postgres
from services.health import Readiness
from services.projector import metrics
from services.projector.batch import TOPICS
from services.projector.gathering import gather
from services.projector.spacing import BATCH_RECORDS, Spacing
from services.projector.statistics import Publisher
from services.projector.view import Overtaken, Partition, View
from services.projector.writer import Writer
from services.run import Refusal
from services.settings import Settings

log = structlog.get_logger()

_POLL_MS = 200
_RETRY_S = 1.0
_GROUP_COMMIT_S = 5.0
_MONITOR_S = 5.0
_MONITOR_TIMEOUT_S = 3.0
_STOP_S = 4.0

_OTHER_SCHEMA = (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError, asyncpg.InvalidSchemaNameError)


class Projector(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka publishes no types
    """One member of the projectors' group. `run` ends when asked to, or with a Refusal."""

    def __init__(self, settings: Settings, readiness: Readiness) -> None:
        self._settings = settings
        self._readiness = readiness
        self._prefix = settings.topic_prefix
        self._pool: asyncpg.Pool[Any] | None = None
        self._view: View | None = None
        self._writer: Writer | None = None
        self._assigned: set[TopicPartition] | None = None
        self._placed = False
        self._committed_at = 0.0
        self._spacing = Spacing()
        self._lags: dict[Partition, int] = {}
        """Of the partitions that are this projector's, as they were last looked at."""
        self._statistics = Publisher(settings, self._stands_at, self._lags.get)
        self.ready = asyncio.Event()
        """Set once the view has been followed for the first time."""

    async def run(self, stop: asyncio.Event) -> None:
        """Follow the log until `stop` is set."""
        publishing = asyncio.create_task(self._statistics.run())
        try:
            while not stop.is_set():
                try:
                    await self._follow(stop)
                except (KafkaError, OSError) as error:
                    self._readiness.down("kafka", str(error))
                    log.warning("kafka_unreachable", error=str(error))
                    await _pause(stop)
        finally:
            publishing.cancel()
            with suppress(asyncio.CancelledError):
                await publishing
            await self._drop_database()

    async def _follow(self, stop: asyncio.Event) -> None:
        consumer = AIOKafkaConsumer(
            **kafka.consumer_arguments(self._settings),
            group_id=f"{self._prefix}projector",
            partition_assignment_strategy=[RangePartitionAssignor],
            session_timeout_ms=round(self._settings.session_timeout_s * 1000),
            heartbeat_interval_ms=round(self._settings.session_timeout_s * 1000 / 5),
            rebalance_timeout_ms=max(30_000, round(self._settings.session_timeout_s * 1000)),
        )
        self._consumer = consumer
        self._assigned = None
        try:
            await consumer.start()
            await self._require_topics()
            consumer.subscribe([self._prefix + topic for topic in TOPICS], listener=self)
            self._readiness.up("kafka")
            monitor = asyncio.create_task(self._monitor())
            try:
                while not stop.is_set():
                    await self._turn(stop)
            finally:
                monitor.cancel()
                with suppress(asyncio.CancelledError):
                    await monitor
            await self._commit_to_group(at_once=True)
        finally:
            await _within(_STOP_S, consumer.stop())

    async def _require_topics(self) -> None:
        existing = await self._consumer.topics()
        missing = [self._prefix + topic for topic in TOPICS if self._prefix + topic not in existing]
        if missing:
            raise Refusal(f"topic {missing[0]} does not exist: run `python -m services.setup`")

    # --- membership: the listener only notes, because it runs in the middle of a rebalance ------------------------

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:  # noqa: ARG002 - all are, always
        self._assigned = None
        self._placed = False
        self._lags.clear()
        metrics.LAG.clear()
        metrics.HIDDEN.clear()

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Nothing is read before the view has said from where."""
        for partition in assigned:
            self._consumer.seek(partition, 0)
            self._consumer.pause(partition)
        self._assigned = set(assigned)
        self._placed = False

    # --- the loop -------------------------------------------------------------------------------------------------

    async def _turn(self, stop: asyncio.Event) -> None:
        if not self._placed and not await self._place():
            # Polled all the same, or the group takes this member for dead; whatever comes is read again later.
            await self._poll(_POLL_MS)
            if self._view is None:
                await _pause(stop)
            return
        await asyncio.sleep(self._spacing.wait_s(time.monotonic()))
        records = await gather(self._poll, _POLL_MS, self._prefix)
        if records and self._placed:
            self._spacing.took(len(records), time.monotonic())
            await self._apply_or_begin_again(records)
        await self._commit_to_group()

    async def _poll(self, timeout_ms: int) -> list[Any]:
        try:
            polled = await self._consumer.getmany(timeout_ms=timeout_ms, max_records=BATCH_RECORDS)
        except (NoOffsetForPartitionError, OffsetOutOfRangeError) as error:
            log.info("begin_again", why=str(error))
            self._placed = False
            return []
        return [record for records in polled.values() for record in records]

    async def _place(self) -> bool:
        """Go to where the view stands in every partition that is ours. False while that cannot be had."""
        partitions = self._assigned
        if partitions is None:
            return False
        try:
            if self._view is None:
                await self._reach_database()
            assert self._view is not None  # noqa: S101 - what the line above returns with
            positions = await self._view.positions((tp.topic, tp.partition) for tp in partitions)
        except postgres.UNREACHABLE as error:
            await self._lose_database(error)
            return False
        except _OTHER_SCHEMA as error:
            raise _wrong_schema(error) from None
        await self._seek(partitions, positions)
        self._statistics.placed(positions)
        self._writer = Writer(self._view, positions, self._prefix, applied=self._statistics.told.note)
        self._placed = partitions is self._assigned
        if self._placed:
            self._consumer.resume(*partitions)
            self._readiness.up("postgres")
            self.ready.set()
            log.info("following", partitions=len(partitions))
        return self._placed

    async def _seek(self, partitions: set[TopicPartition], positions: Mapping[Partition, int]) -> None:
        starts = await self._consumer.beginning_offsets(partitions)
        ends = await self._consumer.end_offsets(partitions)
        if partitions is not self._assigned:
            return
        for tp in partitions:
            position = positions[tp.topic, tp.partition]
            if position > ends[tp]:
                raise Refusal(
                    f"the view has applied {tp.topic} partition {tp.partition} up to {position}, but it ends at "
                    f"{ends[tp]}: the topic was made anew; run `python -m services.projector rebuild`"
                )
            if position < starts[tp] and position > 0 and not tp.topic.endswith(FULFILLMENT_DEAD_LETTER):
                log.error("records_lost", topic=tp.topic, partition=tp.partition, first=position, last=starts[tp] - 1)
            self._consumer.seek(tp, max(position, starts[tp]))

    async def _apply_or_begin_again(self, records: Sequence[Any]) -> None:
        assert self._writer is not None  # noqa: S101 - records are applied only where `_place` has been
        began = time.perf_counter()
        try:
            await self._writer.apply(records)
        except Overtaken as why:
            log.info("begin_again", why=str(why))
            self._placed = False
        except postgres.UNREACHABLE as error:
            await self._lose_database(error)
        except _OTHER_SCHEMA as error:
            raise _wrong_schema(error) from None
        metrics.BATCH_SECONDS.observe(time.perf_counter() - began)
        metrics.BATCH_RECORDS.observe(len(records))

    # --- the database ---------------------------------------------------------------------------------------------

    async def _reach_database(self) -> None:
        self._pool = await postgres.pool(self._settings, min_size=1, max_size=1)
        connection = await self._pool.acquire()
        # Rows and positions are lost together or not at all, and then read from the log again.
        await connection.execute("SET synchronous_commit = off")
        # Frozen in mid-transaction, this one keeps the rows from its heir for no longer than the group waits for it.
        await connection.execute(f"SET idle_in_transaction_session_timeout = '{self._settings.session_timeout_s} s'")
        # Few rows among many, whatever the statistics say: rows are found by their index, and nothing is planned twice.
        await connection.execute("SET plan_cache_mode = force_generic_plan")
        # A plan is kept from when the tables were empty, and then it would be to read them from end to end.
        await connection.execute("SET enable_seqscan = off")
        self._view = View(connection, max_attempts=self._settings.max_attempts)

    async def _lose_database(self, error: BaseException) -> None:
        self._readiness.down("postgres", str(error) or type(error).__name__)
        log.warning("postgres_unreachable", error=str(error) or type(error).__name__)
        await self._drop_database()

    async def _drop_database(self) -> None:
        self._placed = False
        self._view = None
        if self._pool is not None:
            self._pool.terminate()
            self._pool = None

    def _stands_at(self) -> Mapping[Partition, int]:
        return self._writer.positions if self._placed and self._writer is not None else {}

    # --- what others see ------------------------------------------------------------------------------------------

    async def _commit_to_group(self, *, at_once: bool = False) -> None:
        """For lag tools alone: the positions that count are the view's."""
        now = time.monotonic()
        if not self._placed or self._writer is None or (now - self._committed_at < _GROUP_COMMIT_S and not at_once):
            return
        self._committed_at = now
        offsets = {TopicPartition(*partition): offset for partition, offset in self._writer.positions.items()}
        if not offsets:
            return
        try:
            await _within(_STOP_S, self._consumer.commit(offsets))
        except KafkaError as error:
            log.info("group_commit_failed", error=str(error))

    async def _monitor(self) -> None:
        while True:
            try:
                async with asyncio.timeout(_MONITOR_TIMEOUT_S):
                    await self._measure()
                self._readiness.up("kafka")
            except (KafkaError, TimeoutError) as error:
                self._readiness.down("kafka", str(error) or "no answer")
            await asyncio.sleep(_MONITOR_S)

    async def _measure(self) -> None:
        partitions = self._assigned or set()
        ends = await self._consumer.end_offsets(partitions) if partitions else {}
        for tp, end in ends.items():
            if self._assigned is not partitions:  # a rebalance: measured again soon
                return
            position = await self._consumer.position(tp)
            if self._assigned is not partitions:
                return
            self._lags[tp.topic, tp.partition] = max(0, end - position)
            metrics.LAG.labels(*tp).set(max(0, end - position))
            high = self._consumer.highwater(tp) or end
            metrics.HIDDEN.labels(*tp).set(max(0, high - end))


def _wrong_schema(error: Exception) -> Refusal:
    return Refusal(f"the database's schema is not this version's ({error}): run `python -m services.setup`")


async def _within(limit_s: float, act: Awaitable[None]) -> None:
    """Give up on what aiokafka would try for ever."""
    try:
        await asyncio.wait_for(act, limit_s)
    except TimeoutError:
        log.info("kafka_does_not_answer", after_s=limit_s)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        # Nobody cancelled us: aiokafka did so to a fetch of its own that waited to try again, and lets it out.
        log.info("kafka_client_close_failed")


async def _pause(stop: asyncio.Event) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), _RETRY_S)
