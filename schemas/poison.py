"""Records that can never be acted on, and why. They go to the dead-letter topic, as they were."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

MAX_RECORD_BYTES: Final = 256 * 1024
"""An order or a command has some hundred bytes; what is so much larger is neither, and not worth reading."""

Headers = tuple[tuple[str, bytes | None], ...]


class PoisonKind(StrEnum):
    NO_VALUE = "no_value"
    NOT_JSON = "not_json"
    DUPLICATE_KEYS = "duplicate_keys"
    NOT_CLOUDEVENT = "not_cloudevent"
    UNKNOWN_TYPE = "unknown_type"
    UNKNOWN_VERSION = "unknown_version"
    SCHEMA = "schema"
    """A field is missing or wrong."""
    KEY = "key"
    """The record's key names another order than its value."""
    FUTURE = "future"
    """Dated more than five minutes ahead."""
    STALE = "stale"
    """Older than the time for which orders are remembered: it may be a replay of something long delivered."""
    CONFLICT = "conflict"
    """The order is known, with another phone, size or network."""
    UNKNOWN_ORDER = "unknown_order"
    """A command for an order that nobody made."""
    UNKNOWN_PROVIDER = "unknown_provider"
    """A command about a provider that there is not."""
    TOO_LARGE = "too_large"
    """A bundle beyond MAX_SIZE_MB."""
    INTERNAL = "internal"
    """Reading or deciding it failed in a way that nobody foresaw."""


class PoisonError(ValueError):
    """`kind` for machines, the message for whoever mends the producer."""

    def __init__(self, kind: PoisonKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


REASON_HEADER = "dead_letter_reason"
MESSAGE_HEADER = "dead_letter_message"
TOPIC_HEADER = "dead_letter_topic"
PARTITION_HEADER = "dead_letter_partition"
OFFSET_HEADER = "dead_letter_offset"
TIMESTAMP_HEADER = "dead_letter_timestamp"
CUT_HEADER = "dead_letter_cut_from_bytes"
"""On a record too large to be set aside whole; one that came compressed."""
REPLAY_HEADER = "dead_letter_replay_of"
"""On a record that was sent back to where it came from: the dead letter that it was, as partition-offset."""

_ADDED = (REASON_HEADER, MESSAGE_HEADER, TOPIC_HEADER, PARTITION_HEADER, OFFSET_HEADER, TIMESTAMP_HEADER)


def record_bytes(key: bytes | None, value: bytes | None, headers: Iterable[tuple[str, bytes | None]]) -> int:
    """The most that a record's parts take uncompressed: of a header, two lengths of up to 5 bytes each beside them."""
    return len(key or b"") + len(value or b"") + sum(len(name) * 4 + len(said or b"") + 10 for name, said in headers)


def dead_letter_headers(
    original: Iterable[tuple[str, bytes | None]],
    error: PoisonError,
    *,
    topic: str,
    partition: int,
    offset: int,
    timestamp_ms: int,
) -> Headers:
    """The original headers and, behind them, why the record is here and where it came from."""
    return (
        *original,
        (REASON_HEADER, error.kind.encode()),
        (MESSAGE_HEADER, str(error)[:2000].encode("utf-8", "replace")),
        (TOPIC_HEADER, topic.encode()),
        (PARTITION_HEADER, b"%d" % partition),
        (OFFSET_HEADER, b"%d" % offset),
        (TIMESTAMP_HEADER, b"%d" % timestamp_ms),
    )


def replay_headers(letter: Headers, letter_id: str) -> Headers:
    """A dead letter's headers as they came, and which letter it was. ValueError where nothing of ours is behind them.

    Of a letter that was sent back before, only the last is named: each names the one before it.
    """
    original, added = letter[: -len(_ADDED)], letter[-len(_ADDED) :]
    if tuple(name for name, _ in added) != _ADDED:
        raise ValueError("it does not say where it came from")
    kept = (header for header in original if header[0] != REPLAY_HEADER)
    return (*kept, (REPLAY_HEADER, letter_id.encode()))
