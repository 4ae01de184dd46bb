"""Everything that makes sense of bytes from outside, each as one function of bytes: it must return, whatever they are.

The first bytes of an input choose what comes with the rest: a record's headers, an answer's HTTP status.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from schemas.admission import check_key
from schemas.bundle import canonical_network, canonical_phone, canonical_size_mb
from schemas.cloudevents import decode_command, decode_order, json_value
from schemas.fulfillment import read_event
from schemas.poison import MESSAGE_HEADER, OFFSET_HEADER, PARTITION_HEADER, REASON_HEADER, TOPIC_HEADER, PoisonError
from schemas.topics import FULFILLMENT_DEAD_LETTER, FULFILLMENT_EVENTS, ORDERS_EVENTS
from services.fulfiller.delayed import read_delayed
from services.fulfiller.order import load_order
from services.fulfiller.providers.at_ishare_answers import Answer, AnswerReader
from services.fulfiller.providers.port import OutcomeClass
from services.projector.batch import sort

GOLDEN: Final = Path(__file__).parents[1] / "schemas" / "golden"
CORPUS: Final = Path(__file__).with_name("corpus")

Headers = tuple[tuple[str, bytes | None], ...]
MODES: Final[tuple[Headers, ...]] = (
    (),
    (("ce_specversion", b"1.0"), ("ce_type", b"OrderCreated"), ("ce_time", b"2026-01-31T12:00:00Z")),
    (("content-type", b"application/cloudevents+json; charset=utf-8"),),
    (("ce_specversion", b"1.0"), ("ce_type", b"RetryFulfillment"), ("ce_time", b"\xff")),
    (("ce_specversion", b"0.3"), ("ce_type", None), ("content-type", b"\x00")),
)
STATUSES: Final = (200, 201, 202, 204, 302, 400, 401, 404, 409, 429, 500, 502, 503)
RETRY_AFTER: Final = (None, "1", "-1", "1e9", "Wed, 21 Oct 2026 07:28:00 GMT", "\x00", "٣")
REFERENCE: Final = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
SECRETS: Final = ("the-key-of-ours", "the-secret-of-ours")


@dataclass(frozen=True)
class Record:
    """As the fulfiller and the projector read them."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    partition: int = 0
    offset: int = 0
    timestamp: int = 1_769_860_800_000


def _split(data: bytes) -> tuple[Headers, bytes]:
    return (MODES[data[0] % len(MODES)], data[1:]) if data else ((), b"")


def order(data: bytes) -> None:
    """An OrderCreated is the same order once it was written and read again."""
    headers, value = _split(data)
    try:
        created = decode_order(value, headers)
    except PoisonError:
        return
    assert decode_order(json_value(created), ()) == created


def command(data: bytes) -> None:
    """As `order`."""
    headers, value = _split(data)
    try:
        said = decode_command(value, headers)
    except PoisonError:
        return
    assert decode_command(json_value(said), ()) == said


def event(data: bytes) -> None:
    """As `order`."""
    try:
        said = read_event(data)
    except ValidationError:
        return
    assert read_event(json_value(said)) == said


def delayed(data: bytes) -> None:
    try:
        act = read_delayed(Record("", None, data))
    except PoisonError:
        return
    assert read_delayed(Record("", None, json_value(act))) == act


def state(data: bytes) -> None:
    try:
        load_order(data)
    except ValidationError:
        return


def key(data: bytes) -> None:
    try:
        check_key(data, REFERENCE)
    except PoisonError:
        return


def words(data: bytes) -> None:
    """Networks, phones and sizes as people write them: what is canonical stays as it is."""
    text = data.decode("utf-8", "surrogateescape")
    for read in (canonical_network, canonical_phone, canonical_size_mb):
        try:
            canonical: Any = read(text)
        except ValueError:
            continue
        if read is not canonical_size_mb:
            assert read(canonical) == canonical


def batch(data: bytes) -> None:
    """The projector reads each record as each kind; it leaves none of its own topics out."""
    headers, value = _split(data)
    dead = (
        *headers,
        (TOPIC_HEADER, value[:20]),
        (PARTITION_HEADER, value[:3]),
        (OFFSET_HEADER, value[:30]),
        (REASON_HEADER, value[-9:]),
        (MESSAGE_HEADER, value),
    )
    read = sort(
        [
            Record(ORDERS_EVENTS, value[:40], value, headers),
            Record(FULFILLMENT_EVENTS, value[:40], value, headers),
            Record(FULFILLMENT_DEAD_LETTER, value[:40], value, dead),
        ],
        prefix="",
    )
    assert len(read.events) + len(read.unreadable) == len(read.dead_letters) == 1
    (letter,) = read.dead_letters
    assert "\0" not in f"{letter.reason}{letter.message}{letter.original_topic}{letter.order_id}"


def answer(data: bytes) -> None:
    """Whatever a provider answers is an outcome; a delivery is believed by its own reference alone."""
    if len(data) < 2:
        return
    given = Answer(STATUSES[data[0] % len(STATUSES)], data[2:], RETRY_AFTER[data[1] % len(RETRY_AFTER)])
    reader = AnswerReader(SECRETS)
    for outcome in (reader.delivery(given, REFERENCE), reader.status(given, REFERENCE)):
        if outcome.kind is OutcomeClass.DELIVERED:
            assert given.http_status < 300
            assert REFERENCE.encode() in data
        assert not any(secret in repr(outcome) for secret in SECRETS)
    reader.balance(given)


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    target.__name__: target for target in (order, command, event, delayed, state, key, words, batch, answer)
}


@cache
def seeds(name: str) -> tuple[bytes, ...]:
    """Inputs to begin with: what is right, and what was found to lead to other places."""
    golden = [path.read_bytes() for path in sorted(GOLDEN.glob("*.json"))]
    found = CORPUS / f"{name}.txt"
    kept = [bytes.fromhex(line) for line in found.read_text().split()] if found.exists() else []
    spoken = [b"AT-iShare", b"MTN", b"0244123456", b"+233 24 412 3456", b"1GB", b"1.5 gb", b"500MB", REFERENCE.encode()]
    bodies = [
        b'{"status":"%s","code":"%s","reference":"%s","transaction_id":"AT-1"}' % (status, code, REFERENCE.encode())
        for status, code in ((b"SUCCESS", b"OK"), (b"FAILED", b"BUSY"), (b"ERROR", b"INSUFFICIENT_BALANCE"))
    ]
    match name:
        case "answer":
            begun = [bytes((status, 0)) + body for status in range(len(STATUSES)) for body in bodies]
        case "words" | "key":
            begun = spoken
        case "order" | "command" | "batch":
            begun = [bytes((mode,)) + value for mode in range(len(MODES)) for value in golden]
        case _:
            begun = golden
    return (*begun, *kept)
