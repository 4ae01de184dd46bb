"""The gateway's pen: appends to Kafka's log, and says within a bounded time whether it is written."""

import asyncio
import itertools
from collections.abc import Sequence
from time import perf_counter
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError

from schemas.topics import FULFILLMENT_COMMANDS, ORDERS_EVENTS
from services import kafka
from services.closing import Closing
from services.gateway.metrics import produce_duration_seconds
from services.health import Readiness
from services.partition import home_partition
from services.run import Refusal
from services.settings import Settings

DEPENDENCY: Final = "kafka"
ACKNOWLEDGE_TIMEOUT_S: Final = 5.0

_TOPICS: Final = (ORDERS_EVENTS, FULFILLMENT_COMMANDS)
_START_TIMEOUT_S: Final = 15.0
_STOP_TIMEOUT_S: Final = 1.0
_RETRY_S: Final = 0.5
_PROBE_EVERY_S: Final = 2.0
_PROBE_TIMEOUT_S: Final = 3.0

log = structlog.get_logger()


class NotWrittenError(Exception):
    """Kafka did not acknowledge in time."""

    def __init__(self, *, maybe_written: bool) -> None:
        super().__init__("perhaps written" if maybe_written else "not written")
        self.maybe_written = maybe_written


class Writer:
    """One idempotent producer, acks=all.

    A producer that failed once is thrown away with what it still held, so that nothing is written long after its
    client was told that it perhaps was not.
    """

    def __init__(
        self, settings: Settings, readiness: Readiness, *, acknowledge_timeout_s: float = ACKNOWLEDGE_TIMEOUT_S
    ) -> None:
        self._settings = settings
        self._readiness = readiness
        self._acknowledge_timeout_s = acknowledge_timeout_s
        self._producer: AIOKafkaProducer | None = None
        self._was_up = False
        self._doubt = asyncio.Event()
        self.first_tried = asyncio.Event()
        self._closing = Closing()

    async def append(self, topic: str, order_id: str, value: bytes, headers: Sequence[tuple[str, bytes]]) -> None:
        """To the order's home partition; returns once it is acknowledged. NotWrittenError otherwise."""
        await self.append_as_it_is(
            topic, home_partition(order_id, self._settings.partitions), order_id.encode(), value, headers
        )

    async def append_as_it_is(
        self,
        topic: str,
        partition: int,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes | None]],
    ) -> None:
        """As `append`, a record of any kind."""
        producer = self._producer
        if producer is None:
            raise NotWrittenError(maybe_written=False)
        maybe_written = False
        started = perf_counter()
        try:
            async with asyncio.timeout(self._acknowledge_timeout_s):
                acknowledged = await producer.send(
                    self._settings.topic_prefix + topic,
                    value,
                    key=key,
                    partition=partition,
                    headers=list(headers),
                )
                maybe_written = True
                await acknowledged
        except (KafkaError, TimeoutError) as error:
            self._give_up(producer, error)
            raise NotWrittenError(maybe_written=maybe_written) from error
        produce_duration_seconds.labels(topic).observe(perf_counter() - started)

    async def run(self) -> None:
        """Keep a producer at hand, for ever. services.run.Refusal where the topics are not those of the settings."""
        while True:
            producer = AIOKafkaProducer(
                **kafka.connection(self._settings), client_id="gateway", acks="all", enable_idempotence=True
            )
            try:
                await started(producer)
                await self._check_topics(producer)
            except (KafkaError, TimeoutError, OSError) as error:
                self._down(error)
                await producer.stop()
                await asyncio.sleep(_RETRY_S)
                continue
            except BaseException:
                await producer.stop()
                raise
            self._producer = producer
            self._up()
            await self._watch(producer)

    async def close(self) -> None:
        """Let go, within a moment: every request has had its answer, so nothing that matters is still to be sent."""
        producer, self._producer = self._producer, None
        if producer is not None:
            self._closing.later(_stopped(producer))
        await self._closing.wait(_STOP_TIMEOUT_S)

    async def _check_topics(self, producer: AIOKafkaProducer) -> None:
        for topic in _TOPICS:
            name = self._settings.topic_prefix + topic
            try:
                partitions = await producer.partitions_for(name)
            except UnknownTopicOrPartitionError:
                raise UnknownTopicOrPartitionError(
                    f"topic {name} does not exist: run `python -m services.setup`"
                ) from None
            if len(partitions) != self._settings.partitions:
                fault = f"setting PARTITIONS: {self._settings.partitions}, but {name} has {len(partitions)} partitions"
                # Later on it may be a broker that has only just started, and learns of its topics.
                raise KafkaError(fault) if self._was_up else Refusal(fault)

    async def _watch(self, producer: AIOKafkaProducer) -> None:
        """Until the producer is given up. Readiness follows whether a broker answers."""
        while self._producer is producer:
            self._doubt.clear()
            try:
                async with asyncio.timeout(_PROBE_EVERY_S):
                    await self._doubt.wait()
            except TimeoutError:
                await self._probe(producer)

    async def _probe(self, producer: AIOKafkaProducer) -> None:
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT_S):
                answered = await producer.client.force_metadata_update()
        except TimeoutError:
            answered = False
        if answered:
            self._up()
        else:
            self._down(ConnectionError("no broker answers"))

    def _give_up(self, producer: AIOKafkaProducer, error: BaseException) -> None:
        """Of many senders that fail at the same time the first does it."""
        self._down(error)
        if self._producer is producer:
            self._producer = None
            self._doubt.set()
            self._closing.later(_stopped(producer))

    def _up(self) -> None:
        if not self._readiness:
            log.info("kafka_up")
        self._was_up = True
        self._readiness.up(DEPENDENCY)
        self.first_tried.set()

    def _down(self, error: BaseException) -> None:
        said = str(error) or type(error).__name__
        log.warning("kafka_away", error=said)
        self._readiness.down(DEPENDENCY, said)
        self.first_tried.set()


async def started(client: Any) -> None:
    """Start one of aiokafka's. TimeoutError where no broker is found in good time."""
    starting = asyncio.create_task(client.start())
    try:
        await asyncio.wait({starting}, timeout=_START_TIMEOUT_S)
        if not starting.done():
            raise TimeoutError("Kafka accepts no client")
        starting.result()
    finally:
        if not starting.done():
            # Cancelled at once, aiokafka would lose the connection that it is making.
            await asyncio.wait({starting}, timeout=_STOP_TIMEOUT_S)
            starting.cancel()


async def _stopped(producer: Any) -> None:
    """Stop a producer without waiting for what a dead broker never acknowledges.

    aiokafka has no public way: stop() retries for ever. So its sender is stopped first, which waits for the requests
    under way alone, and what is left in its buffer is failed.
    """
    buffer = producer._message_accumulator  # noqa: SLF001 - as said
    try:
        await producer._sender.close()  # noqa: SLF001 - as said
    finally:
        buffer.fail_all(KafkaError("the producer was given up"))
        for batch in itertools.chain.from_iterable(buffer._batches.values()):  # noqa: SLF001 - as said
            batch._drain_waiter.exception()  # noqa: SLF001 - nobody waits for it; unread, it would be logged
        await producer.stop()
