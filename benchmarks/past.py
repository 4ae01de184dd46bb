"""A month of orders, as a log would hold them, and the view that a rebuild's own path makes of them."""

import random
import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Final, NamedTuple

import asyncpg
import orjson

from schemas.topics import FULFILLMENT_DEAD_LETTER, FULFILLMENT_EVENTS, ORDERS_EVENTS
from services import postgres
from services.projector.shadow import Shadow
from services.projector.view import View
from services.projector.writer import Writer
from services.settings import Settings

DAYS: Final = 30
_BATCH: Final = 10_000
_NETWORKS: Final = {
    "MTN": ("24", "54", "55", "59"),
    "AT-iShare": ("26", "27"),
    "Telecel": ("20", "50"),
    "AT-BigTime": ("57",),
}
_WEIGHTS: Final = (60, 25, 10, 5)
_CODES: Final = ("BUSY", "NO_SUCH_NUMBER", "NUMBER_BARRED", "PROVIDER_ERROR")


class Record(NamedTuple):
    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes
    timestamp: int = 0
    headers: tuple[tuple[str, bytes | None], ...] = ()


class Customer(NamedTuple):
    phone_number: str
    network: str


def customers(count: int, chance: random.Random) -> list[Customer]:
    networks = chance.choices([*_NETWORKS], _WEIGHTS, k=count)
    return [
        Customer(f"+233{chance.choice(_NETWORKS[network])}{chance.randrange(10**7):07}", network)
        for network in networks
    ]


def events(number: int, customer: Customer, made: datetime, chance: random.Random) -> Iterator[dict[str, Any]]:
    """Of one order: most are delivered at once, some at the second attempt, few fail or are open still."""
    order_id = str(uuid.UUID(int=chance.getrandbits(128), version=4))
    common = {
        "version": 1,
        "order_id": order_id,
        "phone_number": customer.phone_number,
        "size_mb": 1000,
        "network": customer.network,
    }
    sequence, at = 0, made

    def told(kind: str, after_s: float, **said: Any) -> dict[str, Any]:
        nonlocal sequence, at
        sequence, at = sequence + 1, at + timedelta(seconds=after_s)
        return {"type": kind, **common, "sequence": sequence, "at": at, **said}

    def plan(act: str, after_s: float) -> dict[str, Any]:
        return {"act": act, "at": at + timedelta(seconds=after_s), "schedule_id": sequence + 1}

    cause = {"topic": ORDERS_EVENTS, "partition": 0, "offset": number}
    yield told(
        "FulfillmentRequested", 0.02, provider="at-ishare", max_attempts=3, order_created_at=made, price="4.5",
        account=f"reseller-{number % 200}", cause=cause, next=plan("attempt", 0),
    )  # fmt: skip
    end = chance.random()
    attempts = 1 if end < 0.9 else 2 if end < 0.95 else 3
    for attempt in range(1, attempts + 1):
        yield told(
            "FulfillmentAttempted", 0.01, attempt=attempt, max_attempts=3, provider="at-ishare", reference=order_id,
            trigger="first" if attempt == 1 else "retry", deadline=at + timedelta(seconds=30),
        )  # fmt: skip
        if end > 0.995:
            return
        answer = {"attempt": attempt, "reference": order_id, "transaction_id": f"AT-{number:09}-{attempt}"}
        if attempt < attempts or end > 0.96:
            code = chance.choice(_CODES)
            answer |= {"error_code": code, "error_message": "It did not work", "api_response": {"code": code}}
            more = {"final": True} if attempt == 3 else {"final": False, "next": plan("attempt", 300)}
            yield told("FulfillmentFailed", 1, source="reply", **answer, **more)
            at += timedelta(seconds=300)
        else:
            response = {"status": "success", "code": "OK", "reference": order_id, "duplicate": False}
            latency_s = chance.lognormvariate(0.5, 0.6)
            yield told("FulfillmentSucceeded", latency_s, source="reply", api_response=response, **answer)


def records(count: int, topic: str, ended: datetime, seed: int = 1) -> Iterator[Record]:
    """In one partition, in the order in which the orders were made."""
    chance = random.Random(seed)  # noqa: S311 - the same month each time
    known = customers(max(count * 2 // 5, 1), chance)
    began, offset = ended - timedelta(days=DAYS), 0
    for number in range(count):
        made = began + timedelta(days=DAYS) * (number / count)
        for event in events(number, chance.choice(known), made, chance):
            yield Record(topic, 0, offset, event["order_id"].encode(), orjson.dumps(event))
            offset += 1


async def fill(settings: Settings, count: int) -> None:
    """As a rebuild does: into tables without indexes, which then take the live ones' place."""
    pool = await postgres.pool(settings, min_size=1, max_size=1, command_timeout_s=None)
    try:
        connection = await pool.acquire()
        await connection.execute("SET synchronous_commit = off")
        await connection.reset_type_codec("jsonb", schema="pg_catalog")
        shadow = Shadow(connection)
        view = View(connection, max_attempts=3, fills=True)
        await shadow.make()
        topics = [
            settings.topic_prefix + topic for topic in (ORDERS_EVENTS, FULFILLMENT_EVENTS, FULFILLMENT_DEAD_LETTER)
        ]
        await shadow.begin({(topic, p): 0 for topic in topics for p in range(settings.partitions)}, topics[-1])
        writer = Writer(
            view,
            await view.positions((t, p) for t in topics for p in range(settings.partitions)),
            settings.topic_prefix,
        )
        for batch in batches(records(count, topics[1], datetime.now(UTC))):
            await writer.apply(batch)
        await shadow.complete()
        async with connection.transaction():
            await shadow.lock_live()
            await shadow.swap()
    finally:
        pool.terminate()
    # As autovacuum does in its time.
    quiet: asyncpg.Connection[Any] = await asyncpg.connect(settings.database_url.get_secret_value())
    try:
        await quiet.execute("VACUUM ANALYZE")
        await quiet.execute("CHECKPOINT")
    finally:
        await quiet.close()


def batches(found: Iterable[Record]) -> Iterator[list[Record]]:
    rest = iter(found)
    while batch := list(islice(rest, _BATCH)):
        yield batch
