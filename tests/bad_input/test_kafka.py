"""Whatever strangers write to Kafka: one dead letter each, as it was, with its reason; what is behind is delivered."""

import asyncio
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import orjson
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from schemas.poison import (
    CUT_HEADER,
    MESSAGE_HEADER,
    OFFSET_HEADER,
    PARTITION_HEADER,
    REASON_HEADER,
    TIMESTAMP_HEADER,
    TOPIC_HEADER,
    PoisonKind,
)
from schemas.topics import FULFILLMENT_COMMANDS, FULFILLMENT_DEAD_LETTER, FULFILLMENT_EVENTS, ORDERS_EVENTS
from services import kafka
from services.partition import home_partition
from tests.backend import Backend
from tests.evidence import Accepted, Logged, Poison, read_topics
from tests.schemas.test_cloudevents import POISON, Headers
from tests.stand import PARTITIONS, Stand, stand
from tests.waiting import until

CASE: Final = "case"
PARTITION: Final = 0
DELIVERED_S: Final = 60.0
CODECS: Final = ("gzip", "snappy", "lz4", "zstd")
OURS: Final = {REASON_HEADER, MESSAGE_HEADER, TOPIC_HEADER, PARTITION_HEADER, OFFSET_HEADER, TIMESTAMP_HEADER}


@dataclass(frozen=True)
class Case:
    reason: PoisonKind
    value: bytes | None
    key: bytes | None = b"not an order's id"
    headers: Headers = field(default_factory=list)
    topic: str = ORDERS_EVENTS


def order(order_id: str | None = None, **said: Any) -> bytes:
    return orjson.dumps(
        {
            "order_id": order_id or home_id(),
            "phone_number": "0277123456",
            "network": "AT-iShare",
            "size": "1GB",
            "created_at": datetime.now(UTC).isoformat(),
        }
        | said
    )


def home_id() -> str:
    """Of an order whose partition is the one that the poison is in."""
    while home_partition(made := str(uuid.uuid4()), PARTITIONS) != PARTITION:
        continue
    return made


def command(**said: Any) -> bytes:
    return orjson.dumps(
        {
            "type": "RetryFulfillment",
            "command_id": str(uuid.uuid4()),
            "order_id": home_id(),
            "actor": "ama",
            "at": datetime.now(UTC).isoformat(),
        }
        | said
    )


KNOWN: Final = home_id()
NOW: Final = datetime.now(UTC)
CASES: Final[dict[str, Case]] = {
    **{name: Case(kind, value, headers=headers) for name, (kind, value, headers) in POISON.items()},
    "neither key nor value": Case(PoisonKind.NO_VALUE, None, key=None),
    "1 MB of text": Case(PoisonKind.SCHEMA, order(note="x" * 1_000_000)),
    "1 MB of junk": Case(PoisonKind.SCHEMA, b"\xff" * 1_000_000),
    "a key that names another order": Case(PoisonKind.KEY, order(), key=home_id().encode()),
    "dated a year ahead": Case(PoisonKind.FUTURE, order(created_at=(NOW + timedelta(days=365)).isoformat())),
    "dated an hour ahead": Case(PoisonKind.FUTURE, order(created_at=(NOW + timedelta(hours=1)).isoformat())),
    "dated in the year 9999": Case(PoisonKind.FUTURE, order(created_at="9999-12-31T23:59:59Z")),
    "dated in the year 1": Case(PoisonKind.STALE, order(created_at="0001-01-01T00:00:00Z")),
    "dated eight days back": Case(PoisonKind.STALE, order(created_at=(NOW - timedelta(days=8)).isoformat())),
    "another size under a known id": Case(PoisonKind.CONFLICT, order(KNOWN, size="2GB")),
    "another phone under a known id": Case(PoisonKind.CONFLICT, order(KNOWN, phone_number="0277000000")),
    "another network under a known id": Case(PoisonKind.CONFLICT, order(KNOWN, network="MTN")),
    "a terabyte": Case(PoisonKind.TOO_LARGE, order(size="1000GB")),
    "a command about an order that is unknown": Case(
        PoisonKind.UNKNOWN_ORDER, command(), topic=FULFILLMENT_COMMANDS
    ),
    "a command of an unknown type": Case(
        PoisonKind.UNKNOWN_TYPE, command(type="DropFulfillment"), topic=FULFILLMENT_COMMANDS
    ),
    "a command without an actor": Case(PoisonKind.SCHEMA, command(actor=""), topic=FULFILLMENT_COMMANDS),
    "a command of version 2": Case(PoisonKind.UNKNOWN_VERSION, command(version=2), topic=FULFILLMENT_COMMANDS),
    "a command that is none": Case(PoisonKind.NOT_JSON, b"retry, please", topic=FULFILLMENT_COMMANDS),
    "no command at all": Case(PoisonKind.NO_VALUE, None, topic=FULFILLMENT_COMMANDS),
}  # fmt: skip
TOO_LARGE_TO_KEEP: Final = "3 MB that came compressed"
ODD_HEADER: Final = "junk with a header whose name is not UTF-8"


@dataclass
class Outcome:
    """What became of it all."""

    dead_letters: dict[str, list[Logged]]
    """By case."""
    delivered: set[str]
    good: dict[str, str]
    """Orders behind the poison, by what is odd about their records."""


async def write_all(system: Stand) -> dict[str, str]:
    """The poison, all in one partition, and good orders in it and behind it."""
    good = {"first": KNOWN}
    await system.write(order(KNOWN), KNOWN.encode(), partition=PARTITION)
    producer = AIOKafkaProducer(**kafka.connection(system.settings), max_request_size=10**7)
    await producer.start()
    try:
        for name, case in CASES.items():
            headers = [*case.headers, (CASE, name.encode())]
            batch = producer.create_batch()
            batch.append(timestamp=None, key=case.key, value=case.value, headers=headers)
            # aiokafka's `send` refuses a record with neither key nor value; Kafka does not.
            await (await producer.send_batch(batch, system.settings.topic_prefix + case.topic, partition=PARTITION))
            if case.topic == ORDERS_EVENTS:
                system.clients.poison.append(Poison(case.key, case.value, tuple(headers)))
        await write_with_odd_header(system, producer, b"junk", [(CASE, ODD_HEADER.encode())])
        good["a header whose name is not UTF-8"] = odd = home_id()
        await write_with_odd_header(system, producer, order(odd), [])
    finally:
        await producer.stop()
    for codec in CODECS:
        good[f"compressed with {codec}"] = await write_compressed(system, codec)
    good["last"] = last = home_id()
    await system.write(order(last), last.encode(), partition=PARTITION)
    return good


class _OddName(str):
    """A header's name that no producer of ours can write."""

    __slots__ = ()

    def encode(self, *_: str) -> bytes:
        return b"\xff\xfe"


async def write_with_odd_header(system: Stand, producer: AIOKafkaProducer, value: bytes, headers: Headers) -> None:
    batch = producer.create_batch()
    batch._builder = _DefaultRecordBatchBuilderPy(2, 0, 0, -1, -1, 0, 10**6)  # noqa: SLF001 - the one that lets us
    batch.append(timestamp=None, key=None, value=value, headers=[*headers, (_OddName("odd"), b"1")])
    topic = system.settings.topic_prefix + ORDERS_EVENTS
    await (await producer.send_batch(batch, topic, partition=PARTITION))


async def write_compressed(system: Stand, codec: str, before: bytes | None = None) -> str:
    """An order, and something before it."""
    connection = kafka.connection(system.settings)
    producer = AIOKafkaProducer(**connection, compression_type=codec, max_request_size=10**7)
    await producer.start()
    try:
        topic = system.settings.topic_prefix + ORDERS_EVENTS
        if before is not None:
            header = (CASE, TOO_LARGE_TO_KEEP.encode())
            await producer.send_and_wait(topic, before, partition=PARTITION, headers=[header])
        order_id = home_id()
        await producer.send_and_wait(topic, order(order_id), order_id.encode(), PARTITION)
    finally:
        await producer.stop()
    return order_id


async def observe(system: Stand, good: dict[str, str]) -> Outcome:
    topics = await read_topics(system.settings, [FULFILLMENT_DEAD_LETTER, FULFILLMENT_EVENTS])
    dead_letters: dict[str, list[Logged]] = {}
    for letter in topics[FULFILLMENT_DEAD_LETTER]:
        name = dict(letter.headers).get(CASE) or b"nobody's"
        dead_letters.setdefault(name.decode(), []).append(letter)
    events = [orjson.loads(event.value or b"{}") for event in topics[FULFILLMENT_EVENTS]]
    delivered = {event["order_id"] for event in events if event["type"] == "FulfillmentSucceeded"}
    return Outcome(dead_letters, delivered, good)


async def scenario(backend: Backend, template: str, log_dir: Path) -> Outcome:
    async with stand(backend, template, log_dir) as system:
        good = await write_all(system)
        fulfiller = system.fulfiller()
        system.projector()

        async def is_through(order_ids: set[str]) -> bool:
            return order_ids <= (await observe(system, good)).delivered

        await until(lambda: is_through(set(good.values())), "the good orders to be delivered", DELIVERED_S)
        # Who reads it all once more sets nothing aside once more.
        await fulfiller.stop()
        system.fulfiller()
        last = home_id()
        await system.write(order(last), last.encode(), partition=PARTITION)
        await until(lambda: is_through({last}), "the order after the restart to be delivered", DELIVERED_S)
        good["after a restart"] = last
        for order_id in good.values():
            system.clients.accepted.append(Accepted(order_id, ("+233277123456", 1000, "AT-iShare")))
        await system.proven()
        # Behind the proof, for this one cannot be kept as it was.
        good["after 3 MB"] = await write_compressed(system, "gzip", before=b" " * 3_000_000)
        await until(lambda: is_through({good["after 3 MB"]}), "the order after 3 MB to be delivered", DELIVERED_S)
        return await observe(system, good)


@pytest.fixture(scope="module")
def outcome(backend: Backend, migrated: str, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return asyncio.run(scenario(backend, migrated, Path(tmp_path_factory.mktemp("bad_input"))))


@pytest.mark.parametrize("name", CASES)
def test_poison_is_set_aside_once_as_it_was(outcome: Outcome, name: str) -> None:
    case = CASES[name]
    (letter,) = outcome.dead_letters[name]
    said = dict(letter.headers)
    assert (letter.key, letter.value) == (case.key, case.value)
    assert letter.headers[: len(case.headers) + 1] == (*case.headers, (CASE, name.encode()))
    assert {header for header, _ in letter.headers[len(case.headers) + 1 :]} == OURS
    assert said[REASON_HEADER] == case.reason.encode()
    assert said[MESSAGE_HEADER]
    assert said[TOPIC_HEADER] == case.topic.encode()
    assert said[PARTITION_HEADER] == b"%d" % PARTITION
    assert int(said[OFFSET_HEADER] or -1) >= 0


def test_a_header_whose_name_is_not_utf_8_is_kept_in_escapes(outcome: Outcome) -> None:
    (letter,) = outcome.dead_letters[ODD_HEADER]
    assert letter.value == b"junk"
    assert letter.headers[:2] == ((CASE, ODD_HEADER.encode()), ("\\xff\\xfe", b"1"))
    assert dict(letter.headers)[REASON_HEADER] == PoisonKind.NOT_JSON.encode()


def test_what_is_too_large_to_be_kept_whole_is_cut(outcome: Outcome) -> None:
    (letter,) = outcome.dead_letters[TOO_LARGE_TO_KEEP]
    assert letter.value == b" " * 1_000_000
    assert int(dict(letter.headers)[CUT_HEADER] or 0) > 3_000_000
    assert dict(letter.headers)[REASON_HEADER] == PoisonKind.SCHEMA.encode()


def test_nothing_else_is_set_aside(outcome: Outcome) -> None:
    assert outcome.dead_letters.keys() == CASES.keys() | {ODD_HEADER, TOO_LARGE_TO_KEEP}


def test_the_orders_between_and_behind_are_delivered(outcome: Outcome) -> None:
    assert {name: order_id in outcome.delivered for name, order_id in outcome.good.items()} == dict.fromkeys(
        outcome.good, True
    )
    assert len(outcome.good) == 4 + 1 + len(CODECS)
    assert outcome.delivered == set(outcome.good.values())
