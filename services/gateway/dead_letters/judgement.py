"""Whether a dead letter can be taken where it came from, as far as that can be known. Pure.

It is read as the fulfiller reads it; what cannot be known here, the fulfiller says: in another dead letter.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, NamedTuple

from schemas.admission import Admission
from schemas.cloudevents import decode_command, decode_order
from schemas.commands import Command, ProviderCommand
from schemas.orders import OrderCreated
from schemas.poison import CUT_HEADER, MAX_RECORD_BYTES, Headers, PoisonError, PoisonKind, record_bytes, replay_headers
from schemas.topics import FULFILLMENT_COMMANDS, ORDERS_EVENTS
from services.gateway.dead_letters.questions import Place


class ReplayOutcome(StrEnum):
    """Of one letter."""

    REPLAYED = "replayed"
    """Kafka has it."""
    REPLAYABLE = "replayable"
    """It would be, in a dry run."""
    ALREADY = "already_replayed"
    UNDER_WAY = "under_way"
    """Somebody else is at it."""
    IMPOSSIBLE = "impossible"
    """It would be refused again, whenever it is tried."""
    NOT_YET = "not_yet"
    """It would be refused now."""
    NEEDLESS = "needless"
    """What it asks for is there already."""
    UNKNOWN = "unknown"
    """There is no such letter."""
    NOT_WRITTEN = "not_written"
    """Kafka is away."""
    PERHAPS = "perhaps"
    """Kafka did not say; to try it again is safe."""


class Judged(NamedTuple):
    outcome: ReplayOutcome
    why: str | None = None


REPLAYABLE: Final = Judged(ReplayOutcome.REPLAYABLE)


class Letter(NamedTuple):
    """In the order of the query's columns."""

    partition: int
    offset: int
    at: datetime
    topic: str | None
    from_partition: int | None
    reason: str
    key: bytes | None
    value: bytes | None
    """None also where it is too large to be an order or a command."""
    size: int | None
    """Of the value, in bytes; None where there was none."""
    headers: Sequence[Mapping[str, Any]]
    replayed: int
    """So often."""
    replayed_at: datetime | None
    replayed_by: str | None
    under_way: bool

    @property
    def place(self) -> Place:
        return Place(self.partition, self.offset)

    @property
    def raw_headers(self) -> Headers:
        return tuple((_name(header), _content(header)) for header in self.headers)

    @property
    def bytes(self) -> int:
        """As the fulfiller counts them."""
        return record_bytes(self.key, None, self.raw_headers) + (self.size or 0)


class Known(NamedTuple):
    """An order's row; in the order of the query's columns."""

    order_id: str
    sequence: int
    phone_number: str
    size_mb: int
    network: str

    @property
    def bundle(self) -> tuple[str, int, str]:
        return (self.phone_number, self.size_mb, self.network)


@dataclass(frozen=True, slots=True)
class Rules:
    """Of the settings that the fulfiller has too."""

    admission: Admission
    partitions: int


Said = OrderCreated | Command | ProviderCommand


def read(letter: Letter, rules: Rules) -> Said | Judged:
    """What the letter says, or why nobody will ever act on it."""
    if letter.topic not in {ORDERS_EVENTS, FULFILLMENT_COMMANDS}:
        return _never(f"only what came from {ORDERS_EVENTS} or {FULFILLMENT_COMMANDS} can be sent back")
    if letter.from_partition is None or letter.from_partition >= rules.partitions:
        return _never("it does not say which partition it came from")
    if any(name == CUT_HEADER for name, _ in letter.raw_headers):
        return _never("it was too large to be kept whole")
    if letter.bytes > MAX_RECORD_BYTES:
        return _never(f"the record has {letter.bytes} bytes, more than {MAX_RECORD_BYTES}")
    if letter.reason == PoisonKind.KEY:
        return _never("its key names another order than its value")
    try:
        headers = replay_headers(letter.raw_headers, str(letter.place))
        decode = decode_order if letter.topic == ORDERS_EVENTS else decode_command
        return decode(letter.value, headers)
    except PoisonError as error:
        return _never(f"{error.kind}: {error}")
    except ValueError as error:
        return _never(str(error))


def judge(letter: Letter, said: Said, known: Known | None, rules: Rules, now: datetime, *, again: bool) -> Judged:
    """`known`: the order that it is about, where there is one."""
    if letter.under_way:
        return Judged(ReplayOutcome.UNDER_WAY, f"{letter.replayed_by} is sending it back just now")
    if letter.replayed and not again:
        when = "" if letter.replayed_at is None else f" at {letter.replayed_at.isoformat(timespec='seconds')}"
        return Judged(ReplayOutcome.ALREADY, f"{letter.replayed_by} sent it back{when}")
    answered = known is not None and known.sequence > 0
    if not isinstance(said, OrderCreated):
        if "order_id" in type(said).model_fields and not answered:
            return Judged(ReplayOutcome.NOT_YET, "the fulfiller does not know the order")
        return REPLAYABLE
    if known is not None and answered:
        if known.bundle == said.bundle:
            return Judged(ReplayOutcome.NEEDLESS, "the order is there already")
        return _never("the order is known with another phone number, size or network")
    return _admitted(said, rules, now)


def _admitted(said: OrderCreated, rules: Rules, now: datetime) -> Judged:
    try:
        rules.admission.check(said, now, None)
    except PoisonError as error:
        if error.kind is PoisonKind.STALE:
            return _never("it is older than DEDUPE_WINDOW: it may have been delivered long ago")
        if error.kind is PoisonKind.FUTURE:
            return Judged(ReplayOutcome.NOT_YET, f"it is dated {said.created_at.isoformat(timespec='seconds')}")
        return _never(str(error))
    return REPLAYABLE


def _never(why: str) -> Judged:
    return Judged(ReplayOutcome.IMPOSSIBLE, why)


def _name(header: Mapping[str, Any]) -> str:
    if "name_base64" in header:
        return base64.b64decode(header["name_base64"]).decode()
    return str(header["name"])


def _content(header: Mapping[str, Any]) -> bytes | None:
    if "base64" in header:
        return base64.b64decode(header["base64"])
    text = header["value"]
    return None if text is None else str(text).encode()
