"""The log on Apache Kafka, by aiokafka."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import KafkaError, ProducerFenced

from schemas.topics import (
    FULFILLMENT_COMMANDS,
    FULFILLMENT_DEAD_LETTER,
    FULFILLMENT_EVENTS,
    FULFILLMENT_PROVIDERS,
    FULFILLMENT_STATE,
    ORDERS_EVENTS,
    is_retry_topic,
)
from services.closing import Closing
from services.fulfiller.log import (
    Bounds,
    FencedError,
    Log,
    LogError,
    Membership,
    OnPartitions,
    Outgoing,
    Reader,
    Record,
    Source,
    Writer,
)
from services.fulfiller.transactions import Transactions
from services.kafka import connection, consumer_arguments
from services.settings import Settings

TRANSACTION_TIMEOUT_MS: Final = 10_000
WATCHDOG_S: Final = 12.0
"""Much is tried again for ever; after this long we no longer wait, and count it as failed."""
SWEEP_S: Final = 1.0
MAX_POLL_RECORDS: Final = 1000
MIN_REBALANCE_TIMEOUT_MS: Final = 30_000
OWNED: Final = frozenset({FULFILLMENT_STATE, FULFILLMENT_EVENTS, FULFILLMENT_DEAD_LETTER})
FORWARDED: Final = frozenset({ORDERS_EVENTS, FULFILLMENT_COMMANDS, FULFILLMENT_PROVIDERS})

log = structlog.get_logger()


class KafkaWriter(Writer):
    def __init__(self, client: AIOKafkaClient, transactions: Transactions, prefix: str, closing: Closing) -> None:
        self._client = client
        self._transactions = transactions
        self._prefix = prefix
        self._closing = closing

    async def commit(self, records: Sequence[Outgoing]) -> None:
        by_partition: dict[tuple[str, int], list[Outgoing]] = {}
        for record in records:
            by_partition.setdefault(record[:2], []).append(record)
        async with _as_log_errors("the transaction failed"):
            await self._transactions.commit(
                {TopicPartition(self._prefix + topic, number): its for (topic, number), its in by_partition.items()}
            )

    async def keep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            async with _as_log_errors("a transaction was left without its end"):
                await self._transactions.sweep()

    async def prove(self) -> None:
        async with _as_log_errors("whose identity it is was not told"):
            await self._transactions.prove()

    async def close(self) -> None:
        self._closing.later(_close(self._client, self._transactions))


async def _close(client: AIOKafkaClient, transactions: Transactions) -> None:
    await transactions.close()
    await client.close()


@asynccontextmanager
async def _as_log_errors(what: str) -> AsyncIterator[None]:
    """FencedError where somebody else has the identity, LogError for all else, a watchdog's end among it."""
    try:
        async with asyncio.timeout(WATCHDOG_S):
            yield
    except ProducerFenced as error:
        raise FencedError(repr(error)) from error
    except (KafkaError, TimeoutError, OSError) as error:
        raise LogError(f"{what}: {error!r}") from error


class KafkaReader(Reader):
    def __init__(self, consumer: AIOKafkaConsumer, prefix: str, closing: Closing) -> None:
        self._consumer = consumer
        self._prefix = prefix
        self._closing = closing
        self._sources: dict[TopicPartition, Source] = {}

    def _tp(self, source: Source) -> TopicPartition:
        return TopicPartition(self._prefix + source.topic, source.partition)

    async def bounds(self, sources: Iterable[Source]) -> Mapping[Source, Bounds]:
        partitions = {source: self._tp(source) for source in sources}
        try:
            # Side by side: in one request aiokafka would learn of one unknown topic after another, each in its time.
            ends = await asyncio.gather(*(self._consumer.end_offsets([tp]) for tp in partitions.values()))
            end = {tp: offset for found in ends for tp, offset in found.items()}
            begin = await self._consumer.beginning_offsets(list(partitions.values()))
        except (KafkaError, OSError) as error:
            raise LogError(f"offsets could not be had: {error!r}") from error
        return {source: Bounds(begin[tp], end[tp]) for source, tp in partitions.items()}

    def assign(self, offsets: Mapping[Source, int]) -> None:
        self._sources = {self._tp(source): source for source in offsets}
        self._consumer.unsubscribe()
        self._consumer.assign(list(self._sources))
        for source, offset in offsets.items():
            self._consumer.seek(self._tp(source), offset)

    async def poll(self, timeout_s: float) -> Mapping[Source, Sequence[Record]]:
        try:
            # Never cancelled, never wrapped in a timeout: aiokafka loses what it had fetched.
            fetched = await self._consumer.getmany(timeout_ms=int(timeout_s * 1000), max_records=MAX_POLL_RECORDS)
        except (KafkaError, OSError) as error:
            raise LogError(f"reading failed: {error!r}") from error
        return {self._sources[tp]: records for tp, records in fetched.items()}

    async def position(self, source: Source) -> int:
        try:
            async with asyncio.timeout(WATCHDOG_S):
                position: int = await self._consumer.position(self._tp(source))
        except (KafkaError, TimeoutError, OSError) as error:
            raise LogError(f"a position could not be had: {error!r}") from error
        return position

    def end(self, source: Source) -> int | None:
        end: int | None = self._consumer.last_stable_offset(self._tp(source))
        return end

    def hidden(self, source: Source) -> int:
        stable = self._consumer.last_stable_offset(self._tp(source))
        high_water = self._consumer.highwater(self._tp(source))
        return 0 if stable is None or high_water is None else int(max(high_water - stable, 0))

    def pause(self, source: Source) -> None:
        self._consumer.pause(self._tp(source))

    def resume(self, source: Source) -> None:
        self._consumer.resume(self._tp(source))

    async def close(self) -> None:
        self._closing.later(self._consumer.stop())


class KafkaMembership(Membership):
    def __init__(self, settings: Settings, closing: Closing) -> None:
        self._topic = settings.topic_prefix + ORDERS_EVENTS
        self._closing = closing
        session_ms = int(settings.session_timeout_s * 1000)
        self._consumer = AIOKafkaConsumer(
            **consumer_arguments(settings)
            | {
                "group_id": f"{settings.topic_prefix}fulfiller",
                "partition_assignment_strategy": (RangePartitionAssignor,),
                "session_timeout_ms": session_ms,
                "heartbeat_interval_ms": max(session_ms // 5, 500),
                "rebalance_timeout_ms": max(session_ms, MIN_REBALANCE_TIMEOUT_MS),
                "max_poll_interval_ms": 300_000,
                # It never reads a record, so that where it would start says nothing.
                "auto_offset_reset": "latest",
            }
        )

    async def join(self, on_revoked: OnPartitions, on_assigned: OnPartitions) -> None:
        try:
            await self._consumer.start()
        except (KafkaError, OSError) as error:
            self._closing.later(self._consumer.stop())
            raise LogError(f"the group could not be joined: {error!r}") from error
        self._consumer.subscribe([self._topic], listener=_Listener(self._consumer, on_revoked, on_assigned))

    async def poll(self) -> None:
        try:
            await self._consumer.getmany(timeout_ms=0)
        except (KafkaError, OSError) as error:
            raise LogError(f"the group was not reached: {error!r}") from error

    async def commit(self, offsets: Mapping[int, int]) -> None:
        try:
            async with asyncio.timeout(WATCHDOG_S):
                await self._consumer.commit(
                    {TopicPartition(self._topic, partition): offset for partition, offset in offsets.items()}
                )
        except (KafkaError, TimeoutError, OSError) as error:
            raise LogError(f"not a member now: {error!r}") from error

    async def leave(self) -> None:
        self._closing.later(self._consumer.stop())


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka has no types
    def __init__(self, consumer: AIOKafkaConsumer, on_revoked: OnPartitions, on_assigned: OnPartitions) -> None:
        self._consumer = consumer
        self._on_revoked = on_revoked
        self._on_assigned = on_assigned

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        await self._on_revoked(frozenset(tp.partition for tp in revoked))

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        partitions = list(assigned)
        self._consumer.pause(*partitions)
        await self._on_assigned(frozenset(tp.partition for tp in partitions))


class KafkaLog(Log):
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._prefix = settings.topic_prefix
        self._closing = Closing()

    async def cluster_id(self) -> str:
        admin = AIOKafkaAdminClient(**connection(self._settings))
        try:
            async with asyncio.timeout(WATCHDOG_S):
                await admin.start()
                described = await admin.describe_cluster()
        except (KafkaError, TimeoutError, OSError) as error:
            raise LogError(f"the cluster was not reached: {error!r}") from error
        finally:
            self._closing.later(admin.close())
        return str(described["cluster_id"])

    async def topics(self) -> frozenset[str]:
        consumer = await self._start(AIOKafkaConsumer(**consumer_arguments(self._settings)))
        try:
            names = await consumer.topics()
        except (KafkaError, OSError) as error:
            raise LogError(f"topics could not be listed: {error!r}") from error
        finally:
            self._closing.later(consumer.stop())
        return frozenset(name[len(self._prefix) :] for name in names if name.startswith(self._prefix))

    async def open_writer(self, partition: int) -> Writer:
        client = AIOKafkaClient(**connection(self._settings))
        transactions = Transactions(client, f"{self._prefix}fulfiller-{partition}", TRANSACTION_TIMEOUT_MS)
        try:
            async with _as_log_errors(f"the identity of partition {partition} was not given"):
                await client.bootstrap()
                await transactions.take(*self._written_by(partition, await client.fetch_all_metadata()))
        except BaseException:
            self._closing.later(_close(client, transactions))
            raise
        return KafkaWriter(client, transactions, self._prefix, self._closing)

    def _written_by(self, partition: int, cluster: Any) -> tuple[list[TopicPartition], list[TopicPartition]]:
        """Where a partition's owner writes: alone, and as others do, who forward what is not theirs."""
        own, shared = [], []
        for name in cluster.topics():
            topic = name.removeprefix(self._prefix)
            if not name.startswith(self._prefix):
                continue
            if topic in OWNED or is_retry_topic(topic):
                own.append(TopicPartition(name, partition))
            elif topic in FORWARDED:
                shared += [TopicPartition(name, number) for number in cluster.partitions_for_topic(name)]
        return own, shared

    async def open_reader(self) -> Reader:
        consumer = await self._start(AIOKafkaConsumer(**consumer_arguments(self._settings)))
        return KafkaReader(consumer, self._prefix, self._closing)

    def membership(self) -> Membership:
        return KafkaMembership(self._settings, self._closing)

    async def _start(self, client: Any) -> Any:
        try:
            async with asyncio.timeout(WATCHDOG_S):
                await client.start()
        except (KafkaError, TimeoutError, OSError) as error:
            self._closing.later(client.stop())
            raise LogError(f"Kafka was not reached: {error!r}") from error
        return client

    async def close(self, timeout_s: float) -> None:
        """Wait for what is being closed."""
        await self._closing.wait(timeout_s)
