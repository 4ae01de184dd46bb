"""What a test has in hand when all is done: the log, the tables, the provider's ledger, the clients' own record."""

from __future__ import annotations  # asyncpg's classes take parameters in its stubs alone

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import aiohttp
import asyncpg
from aiokafka import AIOKafkaConsumer, TopicPartition

from schemas.topics import (
    FULFILLMENT_COMMANDS,
    FULFILLMENT_DEAD_LETTER,
    FULFILLMENT_EVENTS,
    FULFILLMENT_STATE,
    ORDERS_EVENTS,
)
from services import kafka
from services.projector import projection
from services.projector.view import QUERIES
from services.settings import Settings

TOPICS: Final = (
    ORDERS_EVENTS,
    FULFILLMENT_COMMANDS,
    FULFILLMENT_EVENTS,
    FULFILLMENT_STATE,
    FULFILLMENT_DEAD_LETTER,
)

Headers = tuple[tuple[str, bytes | None], ...]
Bundle = tuple[str, int, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    """A committed record; its topic is named without the deployment's prefix."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    """LogAppendTime, unix milliseconds."""
    key: bytes | None
    value: bytes | None
    headers: Headers = ()

    @property
    def place(self) -> str:
        return f"{self.topic} {self.partition}@{self.offset}"


class Accepted(NamedTuple):
    """A client was told so: by 202, or by the broker's acknowledgement."""

    order_id: str
    bundle: Bundle
    """Phone, megabytes, network, as they were sent in canonical form."""


class Answer(NamedTuple):
    """What a purchase over HTTP was answered with."""

    key: str | None
    body: Mapping[str, Any]
    """As sent."""
    status: int
    order: Mapping[str, Any]
    """Of a 2xx."""


class Poison(NamedTuple):
    """A record that a client wrote, and that nobody can act on."""

    key: bytes | None
    value: bytes | None
    headers: Headers = ()


@dataclass
class Clients:
    """What clients did and were told: their own record, kept while they were at it."""

    accepted: list[Accepted] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    poison: list[Poison] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Known:
    """What the provider's ledger knows of one reference. Times are unix seconds."""

    bundle: Bundle
    deliveries: int
    sends: int
    max_in_flight: int
    sent_at: Sequence[float]
    lag_s: Sequence[float] = ()
    """For how long the provider had got no processor, at each of `sent_at`: so much earlier it may have come."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    partitions: int
    max_attempts: int
    clients: Clients
    topics: Mapping[str, Sequence[Logged]]
    """Each in the order of its partitions and offsets."""
    rows: Mapping[str, projection.Row]
    """fulfillment_logs, by order."""
    orders: Mapping[str, tuple[str, int, str, str]]
    """The table: network, megabytes, phone, fulfillment_status."""
    quarantined: Sequence[str]
    """Places in the log."""
    ledger: Mapping[str, Known]
    """By reference."""
    logs: Mapping[str, str]
    """What the services wrote, and their metrics, by service."""
    secrets: Sequence[str]
    late_s: float = 1.0
    """Between a call's last look at its deadline and the provider's clock: the way there, on a busy machine."""

    def of(self, topic: str) -> Sequence[Logged]:
        return self.topics.get(topic, ())


async def gather(settings: Settings, ledger_url: str, clients: Clients, logs: Mapping[str, str]) -> Evidence:
    """Everything, as it is now. `ledger_url` is the sandbox's."""
    topics, (rows, orders, quarantined) = await asyncio.gather(read_topics(settings), _read_tables(settings))
    # After the topics: where all is at rest by the log, the provider's word is final as well.
    ledger = await _read_ledger(ledger_url)
    return Evidence(
        partitions=settings.partitions,
        max_attempts=settings.max_attempts,
        clients=clients,
        topics=topics,
        rows=rows,
        orders=orders,
        quarantined=quarantined,
        ledger=ledger,
        logs=logs,
        secrets=[settings.at_ishare_api_key.get_secret_value(), settings.at_ishare_api_secret.get_secret_value()],
    )


async def read_topics(settings: Settings, names: Sequence[str] = TOPICS) -> dict[str, list[Logged]]:
    """Every committed record of each topic, from the beginning."""
    places = {
        TopicPartition(settings.topic_prefix + name, partition): name
        for name in names
        for partition in range(settings.partitions)
    }
    consumer = AIOKafkaConsumer(**kafka.consumer_arguments(settings))
    await consumer.start()
    try:
        begins, ends = await consumer.beginning_offsets(list(places)), await consumer.end_offsets(list(places))
        consumer.assign(list(places))
        for place, begin in begins.items():
            consumer.seek(place, begin)
        found: dict[str, list[Logged]] = {name: [] for name in names}
        unread = {place for place in places if begins[place] < ends[place]}
        while unread:
            for place, records in (await consumer.getmany(timeout_ms=100)).items():
                found[places[place]] += [_logged(places[place], record) for record in records]
            unread = {place for place in unread if await consumer.position(place) < ends[place]}
    finally:
        await consumer.stop()
    for records in found.values():
        records.sort(key=lambda record: (record.partition, record.offset))
    return found


def _logged(topic: str, record: Any) -> Logged:
    return Logged(
        topic=topic,
        partition=record.partition,
        offset=record.offset,
        timestamp=record.timestamp,
        key=record.key,
        value=record.value,
        headers=tuple(record.headers),
    )


_AS_TEXT: Final = {"order_id", "api_response", "command_id"}
_COLUMNS: Final = (f"{name}::text" if name in _AS_TEXT else name for name in projection.Row._fields)
_ROWS: Final = f"SELECT {', '.join(_COLUMNS)} FROM fulfillment_logs"  # noqa: S608 - names of columns


async def _read_tables(
    settings: Settings,
) -> tuple[dict[str, projection.Row], dict[str, tuple[str, int, str, str]], list[str]]:
    connection: asyncpg.Connection[Any] = await asyncpg.connect(settings.database_url.get_secret_value())
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            known = [order_id for (order_id,) in await connection.fetch("SELECT order_id FROM fulfillment_logs")]
            rows = {record[0]: projection.Row(*record) for record in await connection.fetch(QUERIES["rows"], known)}
            orders = await connection.fetch(
                "SELECT id::text, network, size_mb, phone_number, fulfillment_status FROM orders"
            )
            quarantined = await connection.fetch('SELECT topic, partition, "offset" FROM quarantine')
    finally:
        await connection.close()
    return (
        rows,
        {order_id: (network, size_mb, phone, status) for order_id, network, size_mb, phone, status in orders},
        [f"{topic} {partition}@{offset}" for topic, partition, offset in quarantined],
    )


async def _read_ledger(url: str) -> dict[str, Known]:
    async with aiohttp.ClientSession() as session, session.get(f"{url}/ledger") as response:
        ledger = await response.json()
    return {
        reference: Known(
            bundle=(said["phone"], said["size_mb"], said["network"]),
            deliveries=said["deliveries"],
            sends=said["sends"],
            max_in_flight=said["max_in_flight"],
            sent_at=said["sent_at"],
            lag_s=said["lag_s"],
        )
        for reference, said in ledger["references"].items()
    }
