"""Which OrderCreated are taken up, to the second and to the byte."""

from datetime import datetime, timedelta

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from schemas.admission import MAX_AHEAD, Admission, check_key, check_record_size
from schemas.poison import MAX_RECORD_BYTES, PoisonError, PoisonKind, record_bytes
from services.fulfiller.positions import LastRead, Positions
from tests.fulfiller.lives import NOW, ORDER_ID, order_created
from tests.memory_log import MemoryRecord

SECOND = timedelta(seconds=1)
WINDOW = timedelta(days=7)
ADMISSION = Admission(WINDOW, max_size_mb=1000)


@pytest.mark.parametrize(
    ("appended_at", "forgotten_before", "size_mb", "refused"),
    [
        (NOW, None, 1000, None),
        (NOW, None, 1001, (PoisonKind.TOO_LARGE, "1001 MB is more than MAX_SIZE_MB=1000")),
        (NOW - MAX_AHEAD, None, 1, None),
        (NOW - MAX_AHEAD - SECOND, None, 1, (PoisonKind.FUTURE, f"created_at {NOW.isoformat()} lies in the future")),
        (NOW + WINDOW, None, 1, None),
        (NOW + WINDOW + SECOND, None, 1, (PoisonKind.STALE, f"created_at {NOW.isoformat()} is before DEDUPE_WINDOW")),
        (NOW, NOW, 1, None),
        (
            *(NOW, NOW + SECOND, 1),
            (PoisonKind.STALE, f"created_at {NOW.isoformat()} is before what is still remembered"),
        ),
    ],
)
def test_what_may_be_a_replay_is_refused(
    appended_at: datetime, forgotten_before: datetime | None, size_mb: int, refused: tuple[PoisonKind, str] | None
) -> None:
    created = order_created(size_mb=size_mb)
    if refused is None:
        ADMISSION.check(created, appended_at, forgotten_before)
        return
    with pytest.raises(PoisonError) as told:
        ADMISSION.check(created, appended_at, forgotten_before)
    assert (told.value.kind, str(told.value)) == refused


def test_a_record_too_large_to_be_read_is_refused() -> None:
    check_record_size(MAX_RECORD_BYTES)
    with pytest.raises(PoisonError, match="the record has 262145 bytes, more than 262144") as told:
        check_record_size(MAX_RECORD_BYTES + 1)
    assert told.value.kind is PoisonKind.SCHEMA


@pytest.mark.parametrize(
    "headers", [[("", None)] * 5000, [("\U00010348", b"")] * 5000, [("name", b"value")], [("n" * 300, b"v" * 300)], []]
)
def test_what_a_record_takes_is_never_underrated(headers: list[tuple[str, bytes | None]]) -> None:
    """Compressed, a million empty headers are a small record; set aside as they are, they would not be."""
    assert record_bytes(b"key", b"value", headers) >= DefaultRecordBatchBuilder.size_of(b"key", b"value", headers) - 10


@pytest.mark.parametrize("key", [None, b"", b"\xff", b"a customer", ORDER_ID.encode(), ORDER_ID.upper().encode()])
def test_a_key_that_names_no_other_order_is_taken(key: bytes | None) -> None:
    check_key(key, ORDER_ID)


def test_a_key_that_names_another_order_is_refused() -> None:
    other = ORDER_ID.replace("1", "2").replace("4222", "4111")
    with pytest.raises(PoisonError) as told:
        check_key(other.encode(), ORDER_ID)
    assert told.value.kind is PoisonKind.KEY
    assert str(told.value).endswith(f"its value {ORDER_ID}")
    assert str(told.value).startswith("the record's key names order 2222")


@pytest.mark.parametrize(
    "other",
    [MemoryRecord(8, 1, b"k", b"v"), MemoryRecord(7, 2, b"k", b"v"), MemoryRecord(7, 1, None, b"v")],
)
def test_a_record_read_before_is_known_by_its_place_its_time_and_its_key(other: MemoryRecord) -> None:
    record = MemoryRecord(7, 1, b"k", b"v")
    last = LastRead.of(record)
    assert last == LastRead(offset=7, timestamp=1, key="k")
    assert last.is_record(record)
    assert not last.is_record(other)


def test_a_key_is_remembered_as_text_and_not_longer_than_64_bytes() -> None:
    assert LastRead.of(MemoryRecord(0, 0, None, None)).key is None
    assert LastRead.of(MemoryRecord(0, 0, b"\xff" + b"k" * 99, None)).key == "\\xff" + "k" * 63
    assert Positions().inputs == {}
