"""One identity's transactions on a real broker: all or nothing, once, whatever becomes of a request or its answer."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    InvalidTxnState,
    MessageSizeTooLargeError,
    NodeNotReadyError,
    ProducerFenced,
    RequestTimedOutError,
    TopicAuthorizationFailedError,
)
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import AddPartitionsToTxnRequest, EndTxnRequest, InitProducerIdRequest

from schemas.topics import FULFILLMENT_DEAD_LETTER, FULFILLMENT_EVENTS, FULFILLMENT_STATE, ORDERS_EVENTS
from services.fulfiller.kafka_log import KafkaLog
from services.fulfiller.log import Outgoing, Source
from services.fulfiller.transactions import MAX_BATCH_BYTES, HiddenError, Transactions
from services.fulfiller.turn import MAX_DEAD_LETTER_BYTES
from services.kafka import connection, consumer_arguments
from services.settings import Settings
from tests.forgetful_broker import SaidToBeDone, credulous

TIMEOUT_MS = 10_000

Forgetting = Callable[[], AbstractContextManager[None]]


@pytest.fixture
async def client(topics: Settings) -> AsyncIterator[AIOKafkaClient]:
    client = AIOKafkaClient(**connection(topics))
    await client.bootstrap()
    yield client
    await client.close()


@pytest.fixture
async def transactions(topics: Settings, client: AIOKafkaClient) -> Transactions:
    transactions = Transactions(client, f"{topics.topic_prefix}0", TIMEOUT_MS)
    await transactions.take()
    return transactions


def records(topics: Settings, *values: bytes) -> dict[TopicPartition, list[Outgoing]]:
    """One to each of two topics, by turns."""
    chosen: dict[TopicPartition, list[Outgoing]] = {}
    for name, value in zip([FULFILLMENT_EVENTS, FULFILLMENT_DEAD_LETTER] * len(values), values, strict=False):
        record = Outgoing(name, 0, b"k", value, [("ce_id", value[:9])])
        chosen.setdefault(TopicPartition(topics.topic_prefix + name, 0), []).append(record)
    return chosen


def letters(topics: Settings, value: bytes) -> dict[TopicPartition, list[Outgoing]]:
    """One, to the second of the topics alone."""
    *_, second = records(topics, b"", value).items()
    return dict([second])


async def committed(topics: Settings) -> list[tuple[bytes, list[tuple[str, bytes]]]]:
    """What a reader sees: of the one topic, then of the other."""
    consumer = AIOKafkaConsumer(**consumer_arguments(topics))
    await consumer.start()
    seen = []
    try:
        for name in (FULFILLMENT_EVENTS, FULFILLMENT_DEAD_LETTER):
            partition = TopicPartition(topics.topic_prefix + name, 0)
            consumer.assign([partition])
            consumer.seek(partition, 0)
            end = (await consumer.end_offsets([partition]))[partition]
            while await consumer.position(partition) < end:
                for record in (await consumer.getmany(timeout_ms=200)).get(partition, ()):
                    seen.append((record.value, list(record.headers)))  # noqa: PERF401 - polls, not one list
    finally:
        await consumer.stop()
    return seen


async def test_transactions_follow_each_other_without_a_pause(topics: Settings, transactions: Transactions) -> None:
    for number in range(20):
        await transactions.commit(records(topics, b"e%d" % number, b"s%d" % number))
    seen = await committed(topics)
    assert [value for value, _ in seen] == [b"%c%d" % (kind, number) for kind in b"es" for number in range(20)]
    assert seen[0][1] == [("ce_id", b"e0")]


async def test_what_does_not_fit_into_one_batch_comes_in_order_all_the_same(
    topics: Settings, transactions: Transactions
) -> None:
    values = [b"%d" % number + bytes(MAX_BATCH_BYTES // 3) for number in range(14)]
    await transactions.commit(records(topics, *values))
    assert [value for value, _ in await committed(topics)] == values[::2] + values[1::2]


async def test_a_record_of_a_dead_letters_size_is_a_batch_by_itself(
    topics: Settings, transactions: Transactions
) -> None:
    large = bytes(MAX_DEAD_LETTER_BYTES)
    await transactions.commit(records(topics, b"event", large, b"event"))
    assert [value for value, _ in await committed(topics)] == [b"event", b"event", large]


async def test_whoever_takes_the_identity_fences_its_last_owner(topics: Settings, transactions: Transactions) -> None:
    await transactions.commit(records(topics, b"first"))
    other = AIOKafkaClient(**connection(topics))
    await other.bootstrap()
    heir = Transactions(other, f"{topics.topic_prefix}0", TIMEOUT_MS)
    await heir.take()
    with pytest.raises(ProducerFenced):
        await transactions.commit(records(topics, b"late"))
    await heir.commit(records(topics, b"second"))
    assert [value for value, _ in await committed(topics)] == [b"first", b"second"]
    await other.close()


class Losing:
    """A client's `send` that does what it is asked to, and loses the first answer to a kind of request; or the request
    itself.
    """

    def __init__(self, client: AIOKafkaClient, kind: type, *, after: bool) -> None:
        self._send = client.send
        self._kind = kind
        self._after = after
        self.lost = 0

    async def __call__(self, node: int, request: Any, **arguments: Any) -> Any:
        if not isinstance(request, self._kind) or self.lost:
            return await self._send(node, request, **arguments)
        self.lost += 1
        if self._after:
            await self._send(node, request, **arguments)
            raise RequestTimedOutError
        raise NodeNotReadyError


class Dying:
    """A client's `send` of an owner that dies when it has asked for so many ends; the coordinator may have been told of
    the first few topics alone, so that it forgets to end the transaction in the others.
    """

    def __init__(self, client: AIOKafkaClient, *, after_ends: int, topics_known: int | None = None) -> None:
        self._send = client.send
        self._ends_left = after_ends
        self._topics_known = topics_known

    async def __call__(self, node: int, request: Any, **arguments: Any) -> Any:
        if isinstance(request, EndTxnRequest):
            self._ends_left -= 1
            if self._ends_left < 0:
                raise RequestTimedOutError
        if isinstance(request, AddPartitionsToTxnRequest):
            request._topics = request._topics[: self._topics_known]  # noqa: SLF001 - there is no other way to it
        return await self._send(node, request, **arguments)


@pytest.fixture
def forgetting(client: AIOKafkaClient, monkeypatch: pytest.MonkeyPatch) -> Forgetting:
    """A while in which the broker writes no markers."""

    @contextmanager
    def forgetting() -> Iterator[None]:
        with monkeypatch.context() as patched:
            patched.setattr(client, "send", SaidToBeDone(client))
            yield

    return forgetting


@pytest.fixture
async def _credulous(topics: Settings) -> AsyncIterator[None]:
    async with credulous(topics):
        yield


def written_to(topics: Settings) -> list[TopicPartition]:
    return list(records(topics, b"", b""))


@pytest.fixture
async def heir(topics: Settings) -> AsyncIterator[Transactions]:
    """Who takes the identity next."""
    client = AIOKafkaClient(**connection(topics))
    await client.bootstrap()
    yield Transactions(client, f"{topics.topic_prefix}0", TIMEOUT_MS)
    await client.close()


@pytest.mark.usefixtures("_credulous")
async def test_what_the_broker_forgot_to_commit_is_there_for_the_next_owner(
    topics: Settings, transactions: Transactions, heir: Transactions, forgetting: Forgetting
) -> None:
    await transactions.commit(records(topics, b"e1", b"s1"))
    with forgetting():
        await transactions.commit(records(topics, b"e2", b"s2"))
    assert [value for value, _ in await committed(topics)] == [b"e1", b"s1"]
    await heir.take(written_to(topics))
    assert [value for value, _ in await committed(topics)] == [b"e1", b"e2", b"s1", b"s2"]


@pytest.mark.usefixtures("_credulous")
async def test_an_owner_that_goes_on_first_has_the_end_written_that_the_broker_forgot(
    topics: Settings,
    client: AIOKafkaClient,
    transactions: Transactions,
    heir: Transactions,
    *,
    forgetting: Forgetting,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Or it would be aborted with the next, where that is."""
    with forgetting():
        await transactions.commit(records(topics, b"e1", b"s1"))
    monkeypatch.setattr(client, "send", Dying(client, after_ends=1))
    with pytest.raises(RequestTimedOutError):
        await transactions.commit(records(topics, b"e2", b"s2"))
    await heir.take(written_to(topics))
    assert [value for value, _ in await committed(topics)] == [b"e1", b"s1"]


@pytest.mark.usefixtures("_credulous")
async def test_no_transaction_begins_while_another_lacks_its_end_elsewhere(
    topics: Settings,
    client: AIOKafkaClient,
    transactions: Transactions,
    heir: Transactions,
    *,
    forgetting: Forgetting,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The heir would take the end of the one for that of the other, and abort what was committed."""
    with forgetting():
        await transactions.commit(records(topics, b"e1", b"s1"))
    monkeypatch.setattr(client, "send", Dying(client, after_ends=1))
    with pytest.raises(RequestTimedOutError):
        await transactions.commit(letters(topics, b"s2"))
    await heir.take(written_to(topics))
    assert [value for value, _ in await committed(topics)] == [b"e1", b"s1"]


@pytest.mark.usefixtures("_credulous")
async def test_a_writer_that_has_nothing_more_to_write_has_the_end_written_that_the_broker_forgot(
    topics: Settings, transactions: Transactions, forgetting: Forgetting
) -> None:
    """A delayed record, say, that hides behind it."""
    with forgetting():
        await transactions.commit(records(topics, b"e1", b"s1"))
    assert await committed(topics) == []
    await transactions.sweep()
    assert [value for value, _ in await committed(topics)] == [b"e1", b"s1"]


@pytest.mark.usefixtures("_credulous")
async def test_what_was_to_be_aborted_is_where_the_broker_forgot_it(
    topics: Settings,
    client: AIOKafkaClient,
    transactions: Transactions,
    heir: Transactions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Or a part of a transaction could be seen: positions, say, without the record that was sent on."""
    monkeypatch.setattr(client, "send", Dying(client, after_ends=0, topics_known=1))
    with pytest.raises(RequestTimedOutError):
        await transactions.commit(records(topics, b"e1", b"s1"))
    await heir.take(written_to(topics))
    await heir.commit(records(topics, b"e2", b"s2"))
    assert [value for value, _ in await committed(topics)] == [b"e2", b"s2"]


@pytest.mark.usefixtures("_credulous")
async def test_an_end_that_is_being_written_again_is_not_left_half_way(
    topics: Settings,
    client: AIOKafkaClient,
    transactions: Transactions,
    heir: Transactions,
    *,
    forgetting: Forgetting,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever lets go of the partition just then would have it aborted."""
    with forgetting():
        await transactions.commit(records(topics, b"e1", b"s1"))
    send, added, go_on = client.send, asyncio.Event(), asyncio.Event()

    async def wait_before_the_end(node: int, request: Any, **arguments: Any) -> Any:
        if isinstance(request, EndTxnRequest):
            added.set()
            await go_on.wait()
        return await send(node, request, **arguments)

    monkeypatch.setattr(client, "send", wait_before_the_end)
    sweeping = asyncio.create_task(transactions.sweep())
    await added.wait()
    sweeping.cancel()
    await asyncio.gather(sweeping, return_exceptions=True)
    go_on.set()
    await transactions.close()
    await heir.take(written_to(topics))
    assert [value for value, _ in await committed(topics)] == [b"e1", b"s1"]


async def test_who_hides_records_of_ours_is_named(
    topics: Settings, client: AIOKafkaClient, transactions: Transactions
) -> None:
    """What was written behind a stranger's open transaction cannot be read: nobody takes the partition over it."""
    stranger = AIOKafkaProducer(**connection(topics), transactional_id=f"{topics.topic_prefix}stranger")
    await stranger.start()
    await stranger.begin_transaction()
    written = await stranger.send_and_wait(topics.topic_prefix + FULFILLMENT_EVENTS, b"hiding", partition=0)
    with pytest.raises(HiddenError, match=f"{FULFILLMENT_EVENTS} 0 since offset {written.offset}"):
        await transactions.take(written_to(topics))
    await transactions.take(own=(), shared=written_to(topics))
    await transactions.commit(records(topics, b"e1", b"s1"))
    await transactions.sweep()
    await stranger.commit_transaction()
    await stranger.stop()
    await transactions.take(written_to(topics))
    assert [value for value, _ in await committed(topics)] == [b"hiding", b"e1", b"s1"]


@pytest.mark.usefixtures("_credulous")
async def test_a_new_owner_knows_the_intents_that_the_broker_forgot_to_commit(
    topics: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = KafkaLog(topics)
    own, shared = [Source(FULFILLMENT_STATE, 0), Source("fulfillment.retry.1s", 0)], Source(ORDERS_EVENTS, 1)
    sources = [*own, shared]
    last = await log.open_writer(0)
    client = last._client  # type: ignore[attr-defined] # noqa: SLF001 - what it sends is held back
    monkeypatch.setattr(client, "send", SaidToBeDone(client))
    await last.commit([Outgoing(topic, partition, b"k", b"v") for topic, partition in sources])
    reader = await log.open_reader()
    before = await reader.bounds(sources)
    heir = await log.open_writer(0)
    after = await reader.bounds(sources)
    assert {source: after[source].end - before[source].end for source in own} == dict.fromkeys(own, 2)
    keeping = asyncio.create_task(heir.keep())
    async with asyncio.timeout(30):
        while (await reader.bounds([shared]))[shared].end == before[shared].end:
            assert not keeping.done()
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    for one in (last, heir, reader):
        await one.close()
    await log.close(5)


LOSSES = [
    *((kind, True) for kind in (InitProducerIdRequest, AddPartitionsToTxnRequest, ProduceRequest)),
    *((kind, False) for kind in (InitProducerIdRequest, AddPartitionsToTxnRequest, ProduceRequest, EndTxnRequest)),
]


@pytest.mark.parametrize(
    ("kind", "after"),
    LOSSES,
    ids=[f"{kind.__name__}, {'answer lost' if after else 'never sent'}" for kind, after in LOSSES],
)
async def test_a_request_is_made_again_and_counts_once(
    topics: Settings, client: AIOKafkaClient, monkeypatch: pytest.MonkeyPatch, kind: type, *, after: bool
) -> None:
    losing = Losing(client, kind, after=after)
    monkeypatch.setattr(client, "send", losing)
    transactions = Transactions(client, f"{topics.topic_prefix}0", TIMEOUT_MS)
    await transactions.take()
    await transactions.commit(records(topics, b"e1", b"s1"))
    await transactions.commit(records(topics, b"e2", b"s2"))
    assert losing.lost == 1
    assert [value for value, _ in await committed(topics)] == [b"e1", b"e2", b"s1", b"s2"]


async def test_the_end_is_not_asked_for_twice(
    topics: Settings, client: AIOKafkaClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first could lie in a broken connection still, and end the next transaction when half of it is written."""
    monkeypatch.setattr(client, "send", Losing(client, EndTxnRequest, after=True))
    transactions = Transactions(client, f"{topics.topic_prefix}0", TIMEOUT_MS)
    await transactions.take()
    with pytest.raises(RequestTimedOutError):
        await transactions.commit(records(topics, b"e1", b"s1"))
    await transactions.take()
    await transactions.commit(records(topics, b"e2", b"s2"))
    assert [value for value, _ in await committed(topics)] == [b"e1", b"e2", b"s1", b"s2"]


async def test_what_another_attempt_cannot_mend_is_raised(
    topics: Settings, client: AIOKafkaClient, transactions: Transactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise TopicAuthorizationFailedError

    with monkeypatch.context() as patched:
        patched.setattr(client, "send", refuse)
        with pytest.raises(TopicAuthorizationFailedError):
            await transactions.commit(records(topics, b"never"))
    transactions._sequences.clear()  # noqa: SLF001 - as if the broker had lost what it knew
    await transactions.take()
    await transactions.commit(records(topics, b"after"))
    assert [value for value, _ in await committed(topics)] == [b"after"]


async def test_a_transaction_that_was_left_open_too_long_does_not_go_on(
    topics: Settings, client: AIOKafkaClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker ends it; what its owner still says about it is refused."""
    slow = Transactions(client, f"{topics.topic_prefix}0", timeout_ms=100)
    await slow.take()
    send = client.send
    ended = asyncio.Event()

    async def wait_before_the_end(node: int, request: Any, **arguments: Any) -> Any:
        if isinstance(request, EndTxnRequest) and not ended.is_set():
            # Whoever takes the identity next waits until the broker has ended what was open.
            await Transactions(client, f"{topics.topic_prefix}0", TIMEOUT_MS).take()
            ended.set()
        return await send(node, request, **arguments)

    monkeypatch.setattr(client, "send", wait_before_the_end)
    with pytest.raises((ProducerFenced, InvalidTxnState)):
        await slow.commit(records(topics, b"too late"))
    assert await committed(topics) == []


async def test_a_batch_that_the_broker_refuses_fails_the_whole_transaction(
    topics: Settings, transactions: Transactions
) -> None:
    """Its other batches were taken: nobody ever sees them."""
    with pytest.raises(MessageSizeTooLargeError):
        await transactions.commit(letters(topics, b"a letter") | records(topics, bytes(2 * MAX_DEAD_LETTER_BYTES)))
    await transactions.take()
    await transactions.commit(letters(topics, b"a letter"))
    assert [value for value, _ in await committed(topics)] == [b"a letter"]
