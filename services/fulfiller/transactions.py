"""The transactions of one identity, in Kafka's own protocol: three requests each, and nothing that goes on by itself.

aiokafka's producer is made for many senders and a background task between them: it takes more processor time, waits
20 ms where the broker needs two, and goes on with a transaction of which a batch has failed. Here a transaction is one
coroutine, over aiokafka's client (connections, security, metadata, versions) and its codec for batches of records.

For a partition that has no leader just then (a broker is asked to stop, say) Kafka 4 leaves the marker of a transaction
out, takes it for complete all the same, and answers that it is: its records stay hidden, and are given to whatever the
identity ends in that partition next, an abort too. So nothing is written to a partition until what this identity wrote
there before has its end, and whoever takes an identity sees to that first. docs/guarantees.md has the sources.
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import structlog
from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import DuplicateSequenceNumber, KafkaError, NoError, ProducerFenced
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import AddPartitionsToTxnRequest, EndTxnRequest, InitProducerIdRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from services.fulfiller.coordinator import Coordinator, raise_unless_retriable
from services.fulfiller.inquiries import DescribeProducersRequest, DescribeTransactionsRequest
from services.fulfiller.leaders import Answers, Leaders, by_topic
from services.fulfiller.log import Outgoing

MAX_BATCH_BYTES: Final = 512 * 1024
PRODUCE_TIMEOUT_MS: Final = 10_000
ALL_REPLICAS: Final = -1
MARKERS_S: Final = 0.5
"""A marker that is not there so long after its transaction is looked into; mostly it takes a millisecond or two."""
ENDING_S: Final = 10.0
_BACKOFF_S: Final = 0.001
_MAX_BACKOFF_S: Final = 0.05
_SEQUENCES: Final = 2**31
_WRITTEN: Final = (NoError, DuplicateSequenceNumber)
_UNKNOWN_ID: Final = 105
"""TRANSACTIONAL_ID_NOT_FOUND: an identity that nobody had before."""
_NOT_COMMITTED: Final = frozenset({"Ongoing", "PrepareAbort", "CompleteAbort", "PrepareEpochFence"})

log = structlog.get_logger()

Batch = Any
"""aiokafka's builder of one batch of records."""


class HiddenError(KafkaError):  # type: ignore[misc] # aiokafka has no types
    """Somebody else's open transaction hides the end of a partition that is ours alone."""


class Transactions:
    """One transactional id. Whoever takes it later fences whoever did so before.

    Every method goes on until it has an answer, over leaders that move and connections that break: the caller says how
    long. Only the end of a transaction is not asked for twice. After any exception the identity has to be taken anew,
    for nobody knows what the broker did.
    """

    def __init__(self, client: AIOKafkaClient, transactional_id: str, timeout_ms: int) -> None:
        self._id = transactional_id
        self._timeout_ms = timeout_ms
        self._leaders = Leaders(client)
        self._coordinator = Coordinator(client, transactional_id)
        self._producer_id = -1
        self._epoch = -1
        self._sequences: dict[TopicPartition, int] = {}
        """Of the next record; each batch says it, so that one sent twice is appended once."""
        self._unended: dict[TopicPartition, bool] = {}
        """Where a transaction of this identity may still lack its end, and whether that end is a commit."""
        self._shared: frozenset[TopicPartition] = frozenset()
        self._one_at_a_time = asyncio.Lock()
        self._ending: asyncio.Task[None] | None = None

    async def take(self, own: Collection[TopicPartition] = (), shared: Collection[TopicPartition] = ()) -> None:
        """Take the identity, end what its last owner had begun, and have every end written in `own`.

        Nobody but this identity writes to `own`, and all of it can be read on return; in `shared`, where others write
        too, `sweep` has the ends written. KafkaError, ProducerFenced; HiddenError.
        """
        # No identity is taken while a partition has no leader: the broker would forget there what it ends now.
        await self._leaders.ask(own, _who_writes)
        committed = await self._is_committed()
        answer = await self._coordinator.ask(
            lambda: InitProducerIdRequest(self._id, self._timeout_ms), lambda answer: [answer.error_code]
        )
        self._producer_id, self._epoch = answer.producer_id, answer.producer_epoch
        self._sequences.clear()
        self._shared = frozenset(shared)
        # What is sent on to others may come twice, and must not be lost: it is never aborted.
        self._unended = dict.fromkeys(own, committed) | dict.fromkeys(shared, True)
        async with self._one_at_a_time:
            await self._have_ended(own)
        _raise_if_hidden(await self._leaders.ask(own, _who_writes))

    async def commit(self, records: Mapping[TopicPartition, Sequence[Outgoing]]) -> None:
        """Append all of them, or none. ProducerFenced, KafkaError."""
        async with self._one_at_a_time:
            # All that is its own alone, or whoever comes next would take the end of this one for that of the last.
            await self._have_ended([to for to in self._unended if to in records or to not in self._shared])
            batches = {to: self._batches(to, its) for to, its in records.items()}
            await self._add(batches)
            await self._produce(batches)
            self._unended |= dict.fromkeys(batches, True)
            await self._end(commit=True)

    async def sweep(self) -> None:
        """Have the ends written that are missing, in partitions that can be reached now. ProducerFenced, KafkaError."""
        if self._unended:
            async with self._one_at_a_time:
                found = await self._leaders.ask_once(tuple(self._unended), _who_writes)
                await self._have_ended(self._still_open(found))

    async def prove(self) -> None:
        """Return if nobody has taken the identity since. ProducerFenced, KafkaError."""
        answer = await self._describe()
        for _, _, _, _, _, producer_id, epoch, *_ in answer.transactions:
            if (producer_id, epoch) != (self._producer_id, self._epoch):
                raise ProducerFenced

    async def close(self) -> None:
        """Wait for an end that is being written, or it would become an abort."""
        if self._ending is not None:
            await asyncio.wait([self._ending])

    # --- what lacks its end -------------------------------------------------------------------------------------------

    async def _is_committed(self) -> bool:
        """Whether the last owner's last transaction was; to be asked before the identity is taken, which forgets it."""
        answer = await self._describe()
        return all(state not in _NOT_COMMITTED for _, _, state, *_ in answer.transactions)

    async def _describe(self) -> Any:
        return await self._coordinator.ask(
            lambda: DescribeTransactionsRequest(self._id),
            lambda answer: [code for code, *_ in answer.transactions if code != _UNKNOWN_ID],
        )

    async def _have_ended(self, partitions: Collection[TopicPartition]) -> None:
        """Return when nothing of this identity is open there; what the broker forgot to end is ended again."""
        loop = asyncio.get_running_loop()
        patience_until_s = loop.time() + MARKERS_S
        backoff_s = _BACKOFF_S
        while partitions := self._still_open(await self._leaders.ask(partitions, _who_writes)):
            if loop.time() >= patience_until_s:
                for commit in (True, False):
                    if chosen := [tp for tp in partitions if self._unended[tp] is commit]:
                        log.warning("transaction_ended_again", partitions=_names(chosen), commit=commit)
                        # Half-way it would be an abort: no watchdog stops it there, nor whoever lets the partition go.
                        self._ending = asyncio.create_task(self._end_again(chosen, commit=commit))
                        await asyncio.shield(self._ending)
            await asyncio.sleep(backoff_s)
            backoff_s = min(backoff_s * 2, _MAX_BACKOFF_S)

    def _still_open(self, answers: Answers) -> list[TopicPartition]:
        still_open = [tp for tp, (_, producers, *_) in answers.items() if self._producer_id in _open(producers)]
        for tp in answers.keys() - still_open:
            self._unended.pop(tp, None)
        return still_open

    async def _end_again(self, partitions: Sequence[TopicPartition], *, commit: bool) -> None:
        async with asyncio.timeout(ENDING_S):
            await self._add(partitions)
            try:
                await self._end(commit=commit)
            except KafkaError as error:
                raise_unless_retriable(error)
                # Whoever takes the identity next must not find it open; asked twice, it is of no more use to us.
                await self._end(commit=commit, harmless_late=True)
                raise

    # --- batches ------------------------------------------------------------------------------------------------------

    def _batches(self, to: TopicPartition, records: Sequence[Outgoing]) -> list[bytes]:
        """Mostly a single one."""
        built: list[bytes] = []
        batch, count = self._builder(to), 0
        for record in records:
            if not _append(batch, count, record):
                built.append(self._built(to, batch, count))
                batch, count = self._builder(to), 0
                _append(batch, count, record)
            count += 1
        return [*built, self._built(to, batch, count)]

    def _builder(self, to: TopicPartition) -> Batch:
        return DefaultRecordBatchBuilder(
            magic=2,
            compression_type=0,
            is_transactional=1,
            producer_id=self._producer_id,
            producer_epoch=self._epoch,
            base_sequence=self._sequences.get(to, 0),
            batch_size=MAX_BATCH_BYTES,
        )

    def _built(self, to: TopicPartition, batch: Batch, count: int) -> bytes:
        self._sequences[to] = (self._sequences.get(to, 0) + count) % _SEQUENCES
        return bytes(batch.build())

    # --- the three requests -------------------------------------------------------------------------------------------

    async def _add(self, partitions: Iterable[TopicPartition]) -> None:
        topics = by_topic((to, to.partition) for to in partitions)
        await self._coordinator.ask(
            lambda: AddPartitionsToTxnRequest(self._id, self._producer_id, self._epoch, topics),
            lambda answer: [code for _, errors in answer.errors for _, code in errors],
        )

    async def _produce(self, batches: Mapping[TopicPartition, Sequence[bytes]]) -> None:
        """A partition takes one batch a request."""
        remaining = {to: list(ones) for to, ones in batches.items()}
        while remaining:
            firsts = {to: ones.pop(0) for to, ones in remaining.items()}
            await self._leaders.ask(firsts, partial(self._produce_request, firsts), _WRITTEN)
            remaining = {to: ones for to, ones in remaining.items() if ones}

    def _produce_request(
        self, batches: Mapping[TopicPartition, bytes], partitions: Iterable[TopicPartition]
    ) -> ProduceRequest:
        topics = by_topic((to, (to.partition, batches[to])) for to in partitions)
        return ProduceRequest(self._id, ALL_REPLICAS, PRODUCE_TIMEOUT_MS, topics)

    async def _end(self, *, commit: bool, harmless_late: bool = False) -> None:
        # Not asked twice where the first may still be under way: it could come late, and end what follows in its midst.
        await self._coordinator.ask(
            lambda: EndTxnRequest(self._id, self._producer_id, self._epoch, commit),
            lambda answer: [answer.error_code],
            harmless_late=harmless_late,
        )


def _who_writes(partitions: Iterable[TopicPartition]) -> DescribeProducersRequest:
    return DescribeProducersRequest(by_topic((tp, tp.partition) for tp in partitions))


def _open(producers: Iterable[tuple[Any, ...]]) -> dict[int, int]:
    """Where the open transaction of each producer begins."""
    return {producer: offset for producer, _, _, _, _, offset, *_ in producers if offset >= 0}


def _raise_if_hidden(answers: Answers) -> None:
    for tp, (_, producers, *_) in answers.items():
        for producer, offset in _open(producers).items():
            raise HiddenError(f"producer {producer} has a transaction open in {_names([tp])[0]} since offset {offset}")


def _names(partitions: Iterable[TopicPartition]) -> list[str]:
    return [f"{tp.topic} {tp.partition}" for tp in partitions]


def _append(batch: Batch, count: int, record: Outgoing) -> bool:
    """False where it is full."""
    _, _, key, value, headers = record
    return batch.append(count, None, key, value, list(headers)) is not None
