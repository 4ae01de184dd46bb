"""One suite on both logs: what the simulated one promises, Apache Kafka promises, and the other way round."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, Protocol

import pytest
from aiokafka import AIOKafkaProducer

from schemas.topics import FULFILLMENT_DEAD_LETTER, FULFILLMENT_EVENTS, ORDERS_EVENTS
from services.fulfiller.kafka_log import KafkaLog
from services.fulfiller.log import FencedError, Log, LogError, Outgoing, Record, Source
from services.fulfiller.transactions import MARKERS_S
from services.kafka import connection
from services.settings import Settings
from services.setup.patience import Patience
from services.setup.setup import set_up_kafka
from tests.conftest import new_prefix, quick_settings
from tests.forgetful_broker import SaidToBeDone, credulous
from tests.simulation.broker import Broker
from tests.simulation.group import Group
from tests.simulation.log import SimLog
from tests.simulation.loop import Process, SimLoop
from tests.simulation.network import Network

EVENTS: Final = Source(FULFILLMENT_EVENTS, 0)
ORDERS: Final = Source(ORDERS_EVENTS, 0)
PARTITIONS: Final = 2
WITHIN_S: Final = 40.0


class Stranger(Protocol):
    """Somebody with a transaction that is neither committed nor aborted yet."""

    async def begin(self, name: str, source: Source, *values: bytes) -> None: ...

    async def end(self, *, commit: bool) -> None: ...


class Stand(Protocol):
    log: Log

    async def append(self, source: Source, value: bytes) -> None:
        """As a producer without transactions does."""
        ...

    @asynccontextmanager
    def stranger(self) -> AsyncIterator[Stranger]: ...

    def another(self) -> Log:
        """Another process's."""
        ...

    @asynccontextmanager
    def forgetting(self, writer: Any) -> AsyncIterator[None]:
        """What the writer commits meanwhile is called complete, and gets no markers."""
        ...


class KafkaStand:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._logs = [KafkaLog(settings)]
        self.log = self._logs[0]

    async def append(self, source: Source, value: bytes) -> None:
        producer = AIOKafkaProducer(**connection(self._settings), acks="all")
        await producer.start()
        await producer.send_and_wait(self._settings.topic_prefix + source.topic, value, partition=source.partition)
        await producer.stop()

    @asynccontextmanager
    async def stranger(self) -> AsyncIterator["_KafkaStranger"]:
        stranger = _KafkaStranger(self._settings)
        yield stranger
        await stranger.producer.stop()

    def another(self) -> Log:
        self._logs.append(KafkaLog(self._settings))
        return self._logs[-1]

    @asynccontextmanager
    async def forgetting(self, writer: Any) -> AsyncIterator[None]:
        client = writer._client  # noqa: SLF001 - nobody else can lose what it sends
        async with credulous(self._settings):
            send, client.send = client.send, SaidToBeDone(client)
            yield
            client.send = send

    async def close(self) -> None:
        for log in self._logs:
            await log.close(5)


class _KafkaStranger:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def begin(self, name: str, source: Source, *values: bytes) -> None:
        prefix = self._settings.topic_prefix
        self.producer = AIOKafkaProducer(**connection(self._settings), transactional_id=prefix + name)
        await self.producer.start()
        await self.producer.begin_transaction()
        for value in values:
            await self.producer.send_and_wait(prefix + source.topic, value, partition=source.partition)

    async def end(self, *, commit: bool) -> None:
        await (self.producer.commit_transaction() if commit else self.producer.abort_transaction())


class SimStand:
    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop
        self.broker = Broker(loop, PARTITIONS, [FULFILLMENT_EVENTS, FULFILLMENT_DEAD_LETTER, ORDERS_EVENTS])
        self._group = Group(loop, PARTITIONS)
        self._network = Network(loop)
        self.log = self.another()

    async def append(self, source: Source, value: bytes) -> None:
        self.broker.append(source, None, value, ())

    @asynccontextmanager
    async def stranger(self) -> AsyncIterator["_SimStranger"]:
        yield _SimStranger(self.broker)

    @asynccontextmanager
    async def forgetting(self, _writer: Any) -> AsyncIterator[None]:
        self.broker.forgetting.append(lambda: None)
        yield
        assert not self.broker.forgetting

    def another(self) -> Any:
        return SimLog(Process(self._loop, "one"), self.broker, self._network, self._group)


class _SimStranger:
    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def begin(self, name: str, source: Source, *values: bytes) -> None:
        self._name, self._epoch = name, await self._broker.init(name)
        self._broker.produce(name, self._epoch, [Outgoing(*source, None, value) for value in values])

    async def end(self, *, commit: bool) -> None:
        self._broker.end(self._name, self._epoch, commit=commit)


Scenario = Callable[[Any], Awaitable[None]]
Play = Callable[[Scenario], None]


@contextmanager
def on_kafka(bootstrap_servers: str) -> Iterator[Play]:
    settings = quick_settings(bootstrap_servers, "postgresql://nobody@127.0.0.1/none", new_prefix())
    settings = settings.model_copy(update={"partitions": PARTITIONS})

    async def whole(scenario: Scenario) -> None:
        await set_up_kafka(settings, Patience())
        stand = KafkaStand(settings)
        try:
            await scenario(stand)
        finally:
            await stand.close()

    yield lambda scenario: asyncio.run(whole(scenario))


@contextmanager
def simulated() -> Iterator[Play]:
    loop = SimLoop("contract")

    async def whole(scenario: Scenario) -> None:
        await scenario(SimStand(loop))

    yield lambda scenario: loop.run_until_complete(whole(scenario))
    loop.close()


@pytest.fixture(params=["simulated", "kafka"])
def play(request: pytest.FixtureRequest) -> Iterator[Play]:
    """Run a scenario on one of the logs."""
    stage = simulated() if request.param == "simulated" else on_kafka(request.getfixturevalue("kafka"))
    with stage as playing:
        yield playing


def event(value: bytes, partition: int = 0, topic: str = FULFILLMENT_EVENTS) -> Outgoing:
    return Outgoing(topic, partition, b"k", value, [("ce_id", value)])


async def read(log: Log, source: Source, begin: int = 0) -> list[Record]:
    """What there is to be read now, to the end."""
    reader = await log.open_reader()
    try:
        end = (await reader.bounds([source]))[source].end
        reader.assign({source: begin})
        found: list[Record] = []
        while await reader.position(source) < end:
            found += (await reader.poll(0.2)).get(source, ())
        return found
    finally:
        await reader.close()


async def values(log: Log, source: Source = EVENTS) -> list[bytes | None]:
    return [record.value for record in await read(log, source)]


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not await holds():  # noqa: ASYNC110 - a log has no event for it
            await asyncio.sleep(0.05)


def test_what_is_committed_is_read_in_order_as_it_was(play: Play) -> None:
    async def scenario(stand: Stand) -> None:
        writer = await stand.log.open_writer(0)
        await writer.commit([event(b"1"), event(b"a", topic=FULFILLMENT_DEAD_LETTER), event(b"2")])
        await writer.commit([Outgoing(*EVENTS, b"gone", None)])

        async def seen() -> bool:
            return len(await read(stand.log, EVENTS)) == 3

        await until(seen)
        one, two, gone = await read(stand.log, EVENTS)
        assert (one.value, two.value, gone.value) == (b"1", b"2", None)
        assert (one.key, tuple(one.headers), gone.key) == (b"k", (("ce_id", b"1"),), b"gone")
        assert (one.offset, two.offset, gone.offset) == (0, 1, 3), "a transaction's marker takes an offset"
        assert one.timestamp <= two.timestamp <= gone.timestamp
        assert await values(stand.log, Source(FULFILLMENT_DEAD_LETTER, 0)) == [b"a"]
        await writer.close()

    play(scenario)


def test_a_successor_fences_the_one_before(play: Play) -> None:
    async def scenario(stand: Stand) -> None:
        zombie = await stand.log.open_writer(0)
        await zombie.commit([event(b"1")])
        owner = await stand.another().open_writer(0)
        with pytest.raises(FencedError):
            await zombie.commit([event(b"of the zombie")])
        await owner.commit([event(b"2")])
        with pytest.raises(LogError):
            await zombie.commit([event(b"of the zombie")])
        assert await values(stand.log) == [b"1", b"2"]
        await zombie.close()
        await owner.close()

    play(scenario)


def test_identities_of_other_partitions_are_not_fenced(play: Play) -> None:
    async def scenario(stand: Stand) -> None:
        zero, one = await stand.log.open_writer(0), await stand.log.open_writer(1)
        await zero.commit([event(b"0")])
        await one.commit([event(b"1", partition=1)])
        await zero.commit([event(b"00")])
        assert await values(stand.log) == [b"0", b"00"]
        await zero.close()
        await one.close()

    play(scenario)


@pytest.mark.parametrize("commit", [True, False], ids=["committed", "aborted"])
def test_an_open_transaction_hides_what_is_behind_it(play: Play, *, commit: bool) -> None:
    async def scenario(stand: Stand) -> None:
        await stand.append(ORDERS, b"before")
        async with stand.stranger() as stranger:
            await stranger.begin("stranger", ORDERS, b"within", b"within too")
            await stand.append(ORDERS, b"behind")
            assert await values(stand.log, ORDERS) == [b"before"]
            reader = await stand.log.open_reader()
            assert (await reader.bounds([ORDERS]))[ORDERS] == (0, 1)
            reader.assign({ORDERS: 0})
            assert [record.value for record in (await reader.poll(5.0))[ORDERS]] == [b"before"]
            assert (reader.end(ORDERS), reader.hidden(ORDERS)) == (1, 3)
            await reader.close()
            await stranger.end(commit=commit)

        async def shown() -> bool:
            return b"behind" in await values(stand.log, ORDERS)

        await until(shown)
        within = [b"within", b"within too"] if commit else []
        assert await values(stand.log, ORDERS) == [b"before", *within, b"behind"]

    play(scenario)


def test_who_was_fenced_is_told_so(play: Play) -> None:
    async def scenario(stand: Stand) -> None:
        first = await stand.log.open_writer(0)
        await first.prove()
        await first.commit([event(b"1")])
        await first.prove()
        second = await stand.log.open_writer(0)
        for _ in range(2):
            await second.prove()
            with pytest.raises(FencedError):
                await first.prove()
            await second.commit([event(b"2")])
        await first.close()
        await second.close()

    play(scenario)


def test_a_takeover_ends_what_the_last_owner_left_open(play: Play) -> None:
    async def scenario(stand: Stand) -> None:
        async with stand.stranger() as dead:
            await dead.begin("fulfiller-0", EVENTS, b"never committed")
            await stand.append(EVENTS, b"behind")
            assert await values(stand.log) == []
            owner = await stand.log.open_writer(0)
            # At once: nothing of the last owner is open any more when the identity is given.
            assert await values(stand.log) == [b"behind"]
            await owner.commit([event(b"of the owner")])
            assert await values(stand.log) == [b"behind", b"of the owner"]
            await owner.close()

    play(scenario)


def test_what_the_broker_forgot_is_hidden_until_its_writer_goes_on(play: Play) -> None:
    async def scenario(stand: Stand) -> None:
        writer = await stand.log.open_writer(0)
        await writer.commit([event(b"1")])
        async with stand.forgetting(writer):
            await writer.commit([event(b"2")])
            await asyncio.sleep(MARKERS_S)
            await stand.append(EVENTS, b"behind")
            assert await values(stand.log) == [b"1"]
        await writer.commit([event(b"3")])

        async def seen() -> bool:
            return await values(stand.log) == [b"1", b"2", b"behind", b"3"]

        await until(seen)
        await writer.close()

    play(scenario)


def test_what_the_broker_forgot_is_seen_though_nothing_more_is_written(play: Play) -> None:
    async def scenario(stand: Stand) -> None:
        writer = await stand.log.open_writer(0)
        keeping = asyncio.create_task(writer.keep())
        async with stand.forgetting(writer):
            await writer.commit([event(b"1", topic=ORDERS_EVENTS)])

        async def seen() -> bool:
            return await values(stand.log, ORDERS) == [b"1"]

        await until(seen)
        keeping.cancel()
        await writer.close()

    play(scenario)


def test_a_takeover_sees_what_the_broker_forgot_of_the_last_owner(play: Play) -> None:
    async def scenario(stand: Stand) -> None:
        dead = await stand.log.open_writer(0)
        async with stand.forgetting(dead):
            await dead.commit([event(b"1")])
        owner = await stand.another().open_writer(0)
        assert await values(stand.log) == [b"1"], "at once, and committed as it was said to be"
        await owner.close()
        await dead.close()

    play(scenario)


def test_reading_begins_anywhere_and_stops_while_it_is_paused(play: Play) -> None:
    async def scenario(stand: Stand) -> None:
        for number in range(4):
            await stand.append(ORDERS, b"%d" % number)
        assert [record.value for record in await read(stand.log, ORDERS, 2)] == [b"2", b"3"]
        reader = await stand.log.open_reader()
        reader.assign({ORDERS: 4, EVENTS: 0})
        reader.pause(ORDERS)
        await stand.append(ORDERS, b"4")
        await stand.append(EVENTS, b"event")
        seen = await reader.poll(5.0)
        assert list(seen) == [EVENTS]
        reader.resume(ORDERS)
        while ORDERS not in seen:
            seen = await reader.poll(1.0)
        assert [record.value for record in seen[ORDERS]] == [b"4"]
        await reader.close()

    play(scenario)


def test_an_offset_that_is_not_there_is_an_error(play: Play) -> None:
    async def scenario(stand: Stand) -> None:
        await stand.append(ORDERS, b"one")
        reader = await stand.log.open_reader()
        reader.assign({ORDERS: 1000})
        with pytest.raises(LogError):  # noqa: PT012 - aiokafka says so with its second poll
            for _ in range(10):
                await reader.poll(0.5)
        await reader.close()

    play(scenario)


def test_partitions_are_shared_out_and_given_on(play: Play) -> None:
    async def scenario(stand: Stand) -> None:
        owned: dict[str, frozenset[int]] = {}

        async def join(name: str, log: Log) -> Any:
            async def revoked(_: frozenset[int]) -> None:
                owned[name] = frozenset()

            async def assigned(partitions: frozenset[int]) -> None:
                owned[name] = partitions

            membership = log.membership()
            await membership.join(revoked, assigned)
            return membership

        def holds(wanted: dict[str, set[int]], *memberships: Any) -> Callable[[], Awaitable[bool]]:
            async def look() -> bool:
                for membership in memberships:
                    await membership.poll()
                return owned == wanted

            return look

        one = await join("one", stand.log)
        await until(holds({"one": {0, 1}}, one))
        await one.commit({0: 5})
        other = await join("other", stand.another())

        async def halves() -> bool:
            await one.poll()
            await other.poll()
            return sorted(map(sorted, owned.values())) == [[0], [1]]

        await until(halves)
        await one.leave()
        owned.pop("one")
        await until(holds({"other": {0, 1}}, other))
        await other.commit({0: 6, 1: 7})
        await other.leave()

    play(scenario)
