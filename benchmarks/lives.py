"""Orders that have come a long way, as the fulfiller's own core would have written them, without living it."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from aiokafka import AIOKafkaProducer

from benchmarks.orders import SOURCE, order
from schemas import ids
from schemas.cloudevents import binary_headers, json_value
from schemas.fulfillment import Cause, DelayedAct, FulfillmentEvent, delayed
from schemas.orders import OrderCreated
from schemas.topics import FULFILLMENT_EVENTS, FULFILLMENT_STATE, ORDERS_EVENTS, retry_topic
from services.fulfiller.evolution import evolve
from services.fulfiller.fulfillment import decide
from services.fulfiller.inputs import Input, Received, Replied, SlotReserved
from services.fulfiller.order import Order, dump_order
from services.fulfiller.providers.port import Outcome, OutcomeClass, Profile
from services.fulfiller.retry import Rules
from services.kafka import connection
from services.partition import home_partition
from services.settings import Settings

_PROFILE: Final = Profile(
    name="at-ishare",
    networks=frozenset({"AT-iShare"}),
    idempotent_references=True,
    reference_memory_s=30 * 86400.0,
    status_query=True,
    not_found_final_s=60.0,
    call_timeout_s=30.0,
)


def rules(settings: Settings) -> Rules:
    return Rules(
        retry_delays_s=settings.retry_delays,
        max_attempts=settings.max_attempts,
        verify_delays_s=settings.verify_delays,
        providers={_PROFILE.name: _PROFILE},
    )


@dataclass(frozen=True, slots=True)
class Life:
    created: OrderCreated
    events: tuple[FulfillmentEvent, ...]
    order: Order


def lived(number: int, began: datetime, rules: Rules, *, delivered: bool) -> Life:
    """Taken up, attempted once, and delivered, or busy and to be attempted again."""
    created = order(number)
    kind, code = (OutcomeClass.DELIVERED, "OK") if delivered else (OutcomeClass.DECLINED_TRANSIENT, "BUSY")
    transaction_id = f"AT-{number}"
    message = "Delivered" if delivered else "The network is busy"
    answer = {
        "status": "success" if delivered else "failed",
        "code": code,
        "message": message,
        "reference": created.order_id,
        "transaction_id": transaction_id,
        "duplicate": False,
    }
    inputs: tuple[Input, ...] = (
        Received(created, Cause(topic=ORDERS_EVENTS, partition=0, offset=number)),
        SlotReserved(began + timedelta(seconds=_PROFILE.call_timeout_s)),
        Replied(Outcome(kind, code=code, message=message, transaction_id=transaction_id, raw=answer)),
    )
    events: list[FulfillmentEvent] = []
    known: Order | None = None
    for what in inputs:
        for event in decide(known, what, rules, began).events:
            known = evolve(known, event)
            events.append(event)
    if known is None:
        raise AssertionError("an order was received, and there is none")
    return Life(created, tuple(events), known)


class _Record(NamedTuple):
    topic: str
    key: str
    value: bytes
    headers: list[tuple[str, bytes]]


def log_of(life: Life) -> Iterable[_Record]:
    """OrderCreated and its events."""
    created = life.created
    headers = binary_headers("OrderCreated", created.order_id, SOURCE, created.created_at)
    yield _Record(ORDERS_EVENTS, created.order_id, json_value(created), headers)
    for event in life.events:
        yield _event(event)


def state_of(life: Life, delay_s: float) -> Iterable[_Record]:
    """What its next owner goes on from: its last event, its state, its delayed record."""
    last = life.events[-1]
    yield _event(last)
    yield _Record(FULFILLMENT_STATE, last.order_id, dump_order(life.order), [])
    planned = last.__dict__.get("next")
    if planned is not None:
        headers = binary_headers(DelayedAct.__name__, ids.delayed_id(last.order_id, last.sequence), SOURCE, last.at)
        yield _Record(retry_topic(delay_s), last.order_id, json_value(delayed(last.order_id, planned)), headers)


def _event(event: FulfillmentEvent) -> _Record:
    headers = binary_headers(event.type, ids.event_id(event.order_id, event.sequence), SOURCE, event.at)
    return _Record(FULFILLMENT_EVENTS, event.order_id, json_value(event), headers)


async def write(settings: Settings, records: Iterable[_Record]) -> None:
    """Return once all are acknowledged."""
    producer = AIOKafkaProducer(
        **connection(settings), acks="all", linger_ms=5, max_batch_size=512 * 1024, enable_idempotence=True
    )
    await producer.start()
    try:
        for topic, key, value, headers in records:
            partition = home_partition(key, settings.partitions)
            await producer.send(
                settings.topic_prefix + topic, value, key=key.encode(), partition=partition, headers=headers
            )
        await producer.flush()
    finally:
        await producer.stop()
