"""What a read of the log says, before any of it is applied. Pure."""

import base64
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Protocol

from pydantic import ValidationError

from schemas.cloudevents import decode_order, validation_message
from schemas.fulfillment import FulfillmentEvent, read_event
from schemas.ids import canonical_uuid
from schemas.orders import OrderCreated
from schemas.poison import (
    MESSAGE_HEADER,
    OFFSET_HEADER,
    PARTITION_HEADER,
    REASON_HEADER,
    REPLAY_HEADER,
    TOPIC_HEADER,
    PoisonError,
)
from schemas.providers import By, ProviderChanged, ProviderState, read_provider
from schemas.strict_json import dumps
from schemas.topics import FULFILLMENT_DEAD_LETTER, FULFILLMENT_EVENTS, FULFILLMENT_PROVIDERS, ORDERS_EVENTS
from services.projector.projection import Place, Quarantined

TOPICS: Final = (ORDERS_EVENTS, FULFILLMENT_EVENTS, FULFILLMENT_DEAD_LETTER, FULFILLMENT_PROVIDERS)
BALANCE_EVERY_S: Final = 300
"""One balance of so long a time is kept."""

# JSON may say \u0000; a text of PostgreSQL cannot hold it.
_NUL: Final = b"\\u0000"
_NUL_ESCAPE: Final = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")
_LETTER: Final = re.compile(r"[0-9]{1,10}-[0-9]{1,19}", re.ASCII)
_REPLACEMENT: Final = "\ufffd"
_LARGEST_SIZE_MB: Final = 2**31 - 1


class Record(Protocol):
    """As the consumer hands it over; `timestamp` is Unix time in ms."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Iterable[tuple[str, bytes | None]]: ...


class DeadLetter(NamedTuple):
    """A row of dead_letters; in the order of the query's parameters."""

    partition: int
    offset: int
    at: datetime
    original_topic: str | None
    original_partition: int | None
    original_offset: int | None
    reason: str
    message: str | None
    order_id: str | None
    key: bytes | None
    value: bytes | None
    headers: str
    """JSON."""
    replay_of: str | None
    """The letter, partition-offset, that was sent back and became this one."""


class Provider(NamedTuple):
    """A row of providers; in the order of the query's parameters."""

    name: str
    state: str
    why: str | None
    brought_by: str | None
    actor: str | None
    command_id: str | None
    since: datetime
    next_probe_at: datetime | None
    available_mb: int | None
    reserved_mb: int | None
    balance_at: datetime | None
    at: datetime
    needs_mb: int | None

    @property
    def is_held(self) -> bool:
        """An operator suspended it."""
        return (self.state, self.brought_by) == (ProviderState.SUSPENDED, By.OPERATOR)


class Balance(NamedTuple):
    """A row of provider_balances; in the order of the query's parameters."""

    provider: str
    start: datetime
    available_mb: int
    reserved_mb: int
    at: datetime


class Batch(NamedTuple):
    """Records by what they are, each kind in the order of the log."""

    events: list[tuple[FulfillmentEvent, Place]]
    unreadable: list[Quarantined]
    created: dict[str, OrderCreated]
    """The first of each order."""
    dead_letters: list[DeadLetter]
    providers: Sequence[ProviderChanged] = ()
    found_at: Mapping[str, tuple[int, int]] = MappingProxyType({})
    """Partition and offset of what `created` has, by order."""

    def stands(self, known: Mapping[str, Provider]) -> list[Provider]:
        """How those that the batch speaks of stand at its end.

        What was said by a worker that had not heard of an operator's suspension yet does not count.
        """
        rows: dict[str, Provider] = {}
        for changed in self.providers:
            name = changed.provider
            before = rows.get(name) or known.get(name)
            held = before is not None and before.is_held and changed.by is not By.OPERATOR
            rows[name] = before if held and before is not None else _provider(changed)
        return list(rows.values())

    def balances(self) -> list[Balance]:
        """The last of every five minutes."""
        found = (_balance(changed) for changed in self.providers)
        return list({(one.provider, one.start): one for one in found if one is not None}.values())


def sort(records: Iterable[Record], prefix: str, answered: Collection[str] = ()) -> Batch:
    """Read every record, but an OrderCreated of an order that is `answered`.

    What is no OrderCreated is left out: the fulfiller makes it a dead letter.
    """
    changes: list[ProviderChanged] = []
    found_at: dict[str, tuple[int, int]] = {}
    batch = Batch([], [], {}, [], changes, found_at)
    orders, events, providers = (prefix + topic for topic in (ORDERS_EVENTS, FULFILLMENT_EVENTS, FULFILLMENT_PROVIDERS))
    for record in records:
        if record.topic == events:
            try:
                event = read_event(_without_nul(record.value or b""))
            except ValidationError as error:
                batch.unreadable.append(unreadable(record, validation_message(error)))
            else:
                batch.events.append((event, place(record)))
        elif record.topic == orders:
            if answered and _is_about(record, answered):
                continue
            created = _order(record.value, record.headers)
            if created is not None:
                batch.created.setdefault(created.order_id, created)
                found_at.setdefault(created.order_id, (record.partition, record.offset))
        elif record.topic == providers:
            if record.value is None:
                continue
            try:
                changes.append(read_provider(_without_nul(record.value)))
            except ValidationError as error:
                batch.unreadable.append(unreadable(record, validation_message(error)))
        else:
            batch.dead_letters.append(dead_letter(record))
    return batch


def _provider(changed: ProviderChanged) -> Provider:
    balance = changed.balance
    return Provider(
        name=changed.provider,
        state=changed.state.value,
        why=changed.why,
        brought_by=changed.by.value if changed.by else None,
        actor=changed.actor,
        command_id=changed.command_id,
        since=changed.since,
        next_probe_at=changed.next_probe_at,
        available_mb=balance.available_mb if balance else None,
        reserved_mb=balance.reserved_mb if balance else None,
        balance_at=balance.at if balance else None,
        at=changed.at,
        needs_mb=changed.needs_mb,
    )


def _balance(changed: ProviderChanged) -> Balance | None:
    balance = changed.balance
    if balance is None:
        return None
    start_s = balance.at.timestamp() // BALANCE_EVERY_S * BALANCE_EVERY_S
    start = datetime.fromtimestamp(start_s, UTC)
    return Balance(changed.provider, start, balance.available_mb, balance.reserved_mb, balance.at)


def _is_about(record: Record, order_ids: Collection[str]) -> bool:
    """Whether its key names one of the orders, and its value the same."""
    key = record.key or b""
    return order_id(key) in order_ids and key in (record.value or b"")


def place(record: Record) -> Place:
    return Place(record.topic, record.partition, record.offset, record.timestamp, record.value or b"")


def unreadable(record: Record, why: str) -> Quarantined:
    """For a record of our own, an event or a provider's state, that cannot be read, or not be stored."""
    at = place(record).at
    return Quarantined(record.topic, record.partition, record.offset, order_id(record.key), None, None, why, at)


def dead_letter(record: Record) -> DeadLetter:
    headers = tuple(record.headers)
    said = dict(headers)
    created = _order(record.value, headers)
    return DeadLetter(
        partition=record.partition,
        offset=record.offset,
        at=place(record).at,
        original_topic=_text(said.get(TOPIC_HEADER)),
        original_partition=_number(said.get(PARTITION_HEADER)),
        original_offset=_number(said.get(OFFSET_HEADER)),
        reason=_text(said.get(REASON_HEADER)) or "unknown",
        message=_text(said.get(MESSAGE_HEADER)),
        order_id=created.order_id if created else order_id(record.key),
        key=record.key,
        value=record.value,
        headers=dumps([_shown(name, value) for name, value in headers]).decode(),
        replay_of=_letter(said.get(REPLAY_HEADER)),
    )


def _order(value: bytes | None, headers: Iterable[tuple[str, bytes | None]]) -> OrderCreated | None:
    try:
        created = decode_order(value, headers)
    except PoisonError:
        return None
    if created.size_mb > _LARGEST_SIZE_MB:
        return None
    texts = {"package_id": created.package_id, "account": created.account}
    nul = {name: text.replace("\0", _REPLACEMENT) for name, text in texts.items() if text and "\0" in text}
    return created.model_copy(update=nul) if nul else created


def _without_nul(value: bytes) -> bytes:
    return _NUL_ESCAPE.sub(rb"\1\\ufffd", value) if _NUL in value else value


def order_id(key: bytes | None) -> str | None:
    """The order that a record's key names."""
    try:
        return canonical_uuid((key or b"").decode())
    except ValueError:
        return None


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "replace").replace("\0", _REPLACEMENT)


def _number(value: bytes | None) -> int | None:
    return int(value) if value and value.isdigit() and len(value) < len(str(2**63)) else None


def _letter(value: bytes | None) -> str | None:
    """Producers may send such a header themselves."""
    text = _text(value)
    return text if text and _LETTER.fullmatch(text) else None


def _shown(name: str, value: bytes | None) -> dict[str, Any]:
    """A header so that its bytes can be had again: as text where PostgreSQL can hold it."""
    said: dict[str, Any] = {"name": _text(name.encode())}
    if "\0" in name:
        said["name_base64"] = base64.b64encode(name.encode()).decode()
    try:
        text = None if value is None else value.decode()
    except UnicodeDecodeError:
        text = "\0"
    if text is not None and "\0" in text:
        return said | {"base64": base64.b64encode(value or b"").decode()}
    return said | {"value": text}
