"""One turn of a shard: the records of one transaction, and the calls that begin once it is committed."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from schemas import ids
from schemas.cloudevents import binary_headers, json_value
from schemas.fulfillment import DelayedAct, FulfillmentEvent, Next, delayed
from schemas.poison import CUT_HEADER, Headers, PoisonError, dead_letter_headers, record_bytes
from schemas.providers import ProviderChanged
from schemas.topics import FULFILLMENT_DEAD_LETTER, FULFILLMENT_EVENTS, FULFILLMENT_PROVIDERS, FULFILLMENT_STATE
from services.fulfiller import metrics
from services.fulfiller.lane import Lane
from services.fulfiller.log import Outgoing, Record
from services.fulfiller.order import Order, dump_order
from services.fulfiller.positions import POSITIONS_KEY, LastRead, Positions
from services.fulfiller.providers.port import Deadline

SOURCE: Final = b"/services/fulfiller"
MAX_DEAD_LETTER_BYTES: Final = 2_000_000
"""The dead-letter topic takes 2 MiB, the reason's headers included."""
_CUT_VALUE_BYTES: Final = 1_000_000
_CUT_BYTES: Final = 1000
_CUT_HEADERS: Final = 100


def _cut(record: Record) -> tuple[bytes | None, bytes | None, Headers]:
    """The beginning of each part of a record, and a header that says how large it was."""
    headers = tuple((name[:_CUT_BYTES], content and content[:_CUT_BYTES]) for name, content in record.headers)
    was = (CUT_HEADER, b"%d" % record_bytes(record.key, record.value, record.headers))
    return (
        record.key and record.key[:_CUT_BYTES],
        record.value and record.value[:_CUT_VALUE_BYTES],
        (*headers[:_CUT_HEADERS], was),
    )


@dataclass(slots=True)
class Turn:
    partition: int
    now: datetime
    records: list[Outgoing] = field(default_factory=list)
    touched: dict[str, Order] = field(default_factory=dict)
    last_read: dict[str, Record] = field(default_factory=dict)
    calls: list[tuple[Lane, Order, Deadline]] = field(default_factory=list)
    verdicts: list[Lane] = field(default_factory=list)
    """Of the providers that this turn says are suspended."""
    has_outcomes: bool = False
    said: Counter[str] = field(default_factory=Counter)
    """Events, by type."""

    def measure(self) -> None:
        """Count what was said; to be called once it is committed."""
        metrics.COMMIT_RECORDS.observe(len(self.records))
        for kind, count in self.said.items():
            metrics.EVENTS.labels(kind).inc(count)

    def event(self, event: FulfillmentEvent) -> None:
        headers = binary_headers(event.type, ids.event_id(event.order_id, event.sequence), SOURCE, event.at)
        self._write(FULFILLMENT_EVENTS, event.order_id, json_value(event), headers)
        self.said[event.type] += 1

    def delayed(self, topic: str, order: Order, planned: Next) -> None:
        act = delayed(order.order_id, planned)
        delayed_id = ids.delayed_id(order.order_id, planned.schedule_id)
        headers = binary_headers(DelayedAct.__name__, delayed_id, SOURCE, self.now)
        self._write(topic, order.order_id, json_value(act), headers)

    def provider(self, changed: ProviderChanged) -> None:
        change_id = ids.derived(f"provider:{changed.provider}:{changed.at.isoformat()}:{self.partition}")
        headers = binary_headers(changed.type, change_id, SOURCE, changed.at)
        value = json_value(changed)
        self.records.append(Outgoing(FULFILLMENT_PROVIDERS, 0, changed.provider.encode(), value, headers))

    def forward(self, topic: str, home: int, key: str, record: Record) -> None:
        """Send a record home from a partition that is not its order's, or not the providers'."""
        self.records.append(Outgoing(topic, home, key.encode(), record.value, record.headers))
        metrics.FORWARDED.inc()

    def dead_letter(self, topic: str, record: Record, error: PoisonError) -> None:
        """Set a record aside, as it was, with the reason."""
        key, value, original = record.key, record.value, tuple(record.headers)
        if record_bytes(key, value, original) > MAX_DEAD_LETTER_BYTES:
            # Compressed, it came through; as it is, the topic would not take it and nothing behind it would be read.
            key, value, original = _cut(record)
        headers = dead_letter_headers(
            original,
            error,
            topic=topic,
            partition=self.partition,
            offset=record.offset,
            timestamp_ms=record.timestamp,
        )
        self.records.append(Outgoing(FULFILLMENT_DEAD_LETTER, self.partition, key, value, headers))
        metrics.DEAD_LETTERS.labels(error.kind).inc()

    def tombstones(self, order_ids: Iterable[str]) -> None:
        for order_id in order_ids:
            self.records.append(Outgoing(FULFILLMENT_STATE, self.partition, order_id.encode(), None))

    def state(self, positions: Positions) -> None:
        """One record an order, however many events it had in this turn, and one for the positions."""
        for order_id, order in self.touched.items():
            self._write(FULFILLMENT_STATE, order_id, dump_order(order))
        if self.last_read:
            for topic, record in self.last_read.items():
                positions.inputs[topic] = LastRead.of(record)
            value = positions.model_dump_json(exclude_none=True).encode()
            self.records.append(Outgoing(FULFILLMENT_STATE, self.partition, POSITIONS_KEY, value))

    def _write(self, topic: str, order_id: str, value: bytes, headers: list[tuple[str, bytes]] | None = None) -> None:
        self.records.append(Outgoing(topic, self.partition, order_id.encode(), value, headers or ()))
