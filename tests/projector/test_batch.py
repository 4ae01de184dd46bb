"""Reading records, whatever is in them."""

import uuid
from datetime import timedelta
from typing import Any

import orjson
import pytest

from schemas.poison import REPLAY_HEADER, PoisonError, PoisonKind, dead_letter_headers
from schemas.providers import By, ProviderBalance, ProviderChanged, ProviderState
from services.projector.batch import Balance, Provider, sort
from tests.projector.events import NOON, Record, Story, created, value

ORDER = "8c9d1d58-6a0e-4d3f-9a3e-2f5c1f0f7a11"


def test_each_kind_goes_where_it_belongs() -> None:
    told = Story(ORDER).requested()
    batch = sort(
        [
            Record("p.fulfillment.events", 1, 7, ORDER.encode(), value(told.events[0])),
            Record("p.orders.events", 1, 3, ORDER.encode(), value(created(ORDER))),
            Record("p.fulfillment.dead-letter", 0, 0, None, b"?"),
        ],
        "p.",
    )
    ((event, place),) = batch.events
    assert (event, place[:3], place.at) == (told.events[0], ("p.fulfillment.events", 1, 7), NOON)
    assert batch.created == {ORDER: created(ORDER)}
    assert [letter.value for letter in batch.dead_letters] == [b"?"]


def test_the_first_record_of_an_order_counts() -> None:
    first, second = created(ORDER, size_mb=1), created(ORDER, size_mb=2)
    records = [Record("orders.events", 0, n, None, value(order)) for n, order in enumerate([first, second])]
    assert sort(records, "").created == {ORDER: first}


def test_an_answered_order_is_not_read_again() -> None:
    other = str(uuid.uuid4())
    records = [
        Record("orders.events", 0, 0, ORDER.encode(), value(created(ORDER))),
        Record("orders.events", 0, 1, ORDER.encode(), value(created(other))),
    ]
    assert list(sort(records, "", answered={ORDER}).created) == [other]


@pytest.mark.parametrize("key", [None, b"", b"\xff", ORDER.encode()])
def test_an_unreadable_event_keeps_its_place_and_what_its_key_names(key: bytes | None) -> None:
    (entry,) = sort([Record("fulfillment.events", 2, 5, key, b'{"type":"Other"}')], "").unreadable
    assert entry[:3] == ("fulfillment.events", 2, 5)
    assert entry.order_id == (ORDER if key == ORDER.encode() else None)


def test_a_dead_letter_keeps_its_bytes_and_says_why() -> None:
    error = PoisonError(PoisonKind.SCHEMA, "size: missing\0")
    original = (("ce_type", b"\xff"), ("empty", None), ("content-type", b"application/json"))
    headers = dead_letter_headers(original, error, topic="orders.events", partition=3, offset=9, timestamp_ms=0)
    record = Record("fulfillment.dead-letter", 1, 4, ORDER.upper().encode(), b"\0\xff", headers=headers)
    (letter,) = sort([record], "").dead_letters
    assert (letter.partition, letter.offset, letter.at) == (1, 4, NOON)
    assert (letter.original_topic, letter.original_partition, letter.original_offset) == ("orders.events", 3, 9)
    assert (letter.reason, letter.message, letter.order_id) == ("schema", "size: missing\ufffd", ORDER)
    assert (letter.key, letter.value) == (ORDER.upper().encode(), b"\0\xff")
    assert orjson.loads(letter.headers)[:3] == [
        {"name": "ce_type", "base64": "/w=="},
        {"name": "empty", "value": None},
        {"name": "content-type", "value": "application/json"},
    ]


def test_a_dead_letter_of_a_stranger_is_taken_as_it_is() -> None:
    headers = (("dead_letter_partition", b"many"), ("dead_letter_offset", b"9" * 40))
    (letter,) = sort([Record("fulfillment.dead-letter", 0, 0, None, None, headers=headers)], "").dead_letters
    assert (letter.reason, letter.original_partition, letter.original_offset) == ("unknown", None, None)


NUL_AS_SHOWN = "\ufffd"


def test_an_unreadable_event_says_why_and_when() -> None:
    (entry,) = sort([Record("fulfillment.events", 2, 5, None, b'{"type":"Other"}')], "").unreadable
    assert entry.at == NOON
    assert entry.why.startswith("the object: Input tag 'Other'")


@pytest.mark.parametrize("field", ["package_id", "account"])
def test_a_text_that_postgresql_cannot_hold_is_shown(field: str) -> None:
    records = [Record("orders.events", 0, 0, None, value(created(ORDER, **{field: "a\0b"})))]
    assert sort(records, "").created[ORDER] == created(ORDER, **{field: f"a{NUL_AS_SHOWN}b"})


def test_an_event_that_postgresql_cannot_hold_is_shown() -> None:
    told = Story(ORDER).requested().attempted().failed(error_message="a\0b \\u0000")
    (_, (event, _)) = sort([Record("fulfillment.events", 0, n, None, value(told.events[n])) for n in (0, 2)], "").events
    assert getattr(event, "error_message") == f"a{NUL_AS_SHOWN}b \\u0000"  # noqa: B009 - of a failure, as told


@pytest.mark.parametrize(("size_mb", "is_read"), [(2**31 - 1, True), (2**31, False)])
def test_a_size_that_no_row_can_hold_is_left_to_the_fulfiller(size_mb: int, *, is_read: bool) -> None:
    records = [Record("orders.events", 0, 0, None, value(created(ORDER, size_mb=size_mb)))]
    assert bool(sort(records, "").created) == is_read


def test_a_dead_letter_is_about_the_order_that_its_value_names() -> None:
    other = str(uuid.uuid4())
    record = Record("fulfillment.dead-letter", 0, 0, other.encode(), value(created(ORDER)))
    assert sort([record], "").dead_letters[0].order_id == ORDER


def test_a_dead_letter_s_headers_are_shown_whatever_is_in_them() -> None:
    headers: tuple[tuple[str, bytes | None], ...] = (
        ("dead_letter_reason", b"\xff\0"),
        ("dead_letter_offset", b"9" * 18),
        ("a", b"b\0c"),
        ("d\0", b"e"),
    )
    (letter,) = sort([Record("fulfillment.dead-letter", 0, 0, None, None, headers=headers)], "").dead_letters
    assert (letter.reason, letter.original_offset) == (NUL_AS_SHOWN * 2, int("9" * 18))
    assert orjson.loads(letter.headers)[2:] == [
        {"name": "a", "base64": "YgBj"},
        {"name": f"d{NUL_AS_SHOWN}", "name_base64": "ZAA=", "value": "e"},
    ]


@pytest.mark.parametrize(
    ("said", "meant"), [(b"0-17", "0-17"), (b"0-17\0", None), (b"0", None), (b"1" * 11 + b"-1", None), (None, None)]
)
def test_a_dead_letter_names_the_one_that_it_was_before(said: bytes | None, meant: str | None) -> None:
    headers = ((REPLAY_HEADER, said),)
    (letter,) = sort([Record("fulfillment.dead-letter", 0, 0, None, None, headers=headers)], "").dead_letters
    assert letter.replay_of == meant


def test_an_order_whose_value_names_another_than_its_key_is_read() -> None:
    records = [Record("orders.events", 0, 0, str(uuid.uuid4()).encode(), value(created(ORDER)))]
    assert list(sort(records, "", answered={records[0].key.decode()} if records[0].key else ()).created) == [ORDER]


def test_an_event_s_place_has_its_value() -> None:
    said = value(Story(ORDER).requested().events[0])
    ((_, place),) = sort([Record("fulfillment.events", 1, 7, None, said)], "").events
    assert place.value == said


def test_an_offset_of_a_size_that_no_log_reaches_is_none() -> None:
    headers: tuple[tuple[str, bytes | None], ...] = (("dead_letter_offset", b"9" * 19),)
    (letter,) = sort([Record("fulfillment.dead-letter", 0, 0, None, None, headers=headers)], "").dead_letters
    assert letter.original_offset is None


def said_of_a_provider(**said: Any) -> Record:
    fields = {"provider": "mtn", "state": ProviderState.UP, "since": NOON, "at": NOON}
    return Record("fulfillment.providers", 0, 3, b"mtn", value(ProviderChanged(**(fields | said))))


def test_a_provider_s_row_has_all_that_was_said_of_it() -> None:
    record = said_of_a_provider(
        state=ProviderState.SUSPENDED,
        why="INSUFFICIENT_BALANCE",
        by=By.PROVIDER,
        actor="ama",
        command_id=ORDER,
        since=NOON - timedelta(hours=1),
        next_probe_at=NOON + timedelta(seconds=5),
        needs_mb=1000,
        balance=ProviderBalance(available_mb=7, reserved_mb=2, at=NOON - timedelta(seconds=1)),
    )
    assert sort([record], "").stands({}) == [
        Provider(
            name="mtn",
            state="suspended",
            why="INSUFFICIENT_BALANCE",
            brought_by="provider",
            actor="ama",
            command_id=ORDER,
            since=NOON - timedelta(hours=1),
            next_probe_at=NOON + timedelta(seconds=5),
            available_mb=7,
            reserved_mb=2,
            balance_at=NOON - timedelta(seconds=1),
            at=NOON,
            needs_mb=1000,
        )
    ]


def test_a_provider_of_whom_little_was_said_has_a_row_that_says_no_more() -> None:
    (row,) = sort([said_of_a_provider()], "").stands({})
    assert (row.name, row.state, row.brought_by, row.available_mb, row.reserved_mb, row.balance_at) == (
        *("mtn", "up"),
        *(None, None, None, None),
    )


def test_what_an_operator_suspended_stays_so_whatever_a_worker_says() -> None:
    by_hand = said_of_a_provider(state=ProviderState.SUSPENDED, by=By.OPERATOR, why="ticket")
    late, resumed = said_of_a_provider(by=By.PROVIDER), said_of_a_provider(by=By.OPERATOR)
    (held,) = sort([late, by_hand, late], "").stands({})
    assert (held.state, held.why) == ("suspended", "ticket")
    assert sort([late], "").stands({"mtn": held}) == [held], "nor in a later batch"
    assert [row.state for row in sort([resumed, late], "").stands({"mtn": held})] == ["up"]
    ((other,), (again,)) = (sort([said_of_a_provider(why=why)], "").stands({}) for why in ("one", "two"))
    assert sort([said_of_a_provider(why="two")], "").stands({"mtn": other}) == [again], "others only hold until then"


def test_of_five_minutes_the_last_balance_is_kept() -> None:
    def at(seconds: int, mb: int, name: str = "mtn") -> Record:
        balance = ProviderBalance(available_mb=mb, reserved_mb=mb + 1, at=NOON + timedelta(seconds=seconds))
        return said_of_a_provider(provider=name, balance=balance)

    batch = sort([at(0, 1), at(299, 2), at(300, 3), said_of_a_provider(), at(301, 4, "telecel")], "")
    assert batch.balances() == [
        Balance("mtn", NOON, 2, 3, NOON + timedelta(seconds=299)),
        Balance("mtn", NOON + timedelta(seconds=300), 3, 4, NOON + timedelta(seconds=300)),
        Balance("telecel", NOON + timedelta(seconds=300), 4, 5, NOON + timedelta(seconds=301)),
    ]


def test_what_was_said_of_a_provider_and_cannot_be_read_is_set_aside() -> None:
    records = [
        Record("fulfillment.providers", 0, 1, b"mtn", None),
        Record("fulfillment.providers", 0, 2, b"mtn", b"?"),
        said_of_a_provider(why="a\0b"),
    ]
    batch = sort(records, "")
    assert [changed.why for changed in batch.providers] == [f"a{NUL_AS_SHOWN}b"]
    ((topic, partition, offset, *_, why, at),) = batch.unreadable
    assert (topic, partition, offset, at) == ("fulfillment.providers", 0, 2, NOON)
    assert why.startswith("the object: Invalid JSON")


def test_where_an_order_was_found_first_is_known() -> None:
    records = [Record("orders.events", 2, offset, None, value(created(ORDER))) for offset in (5, 6)]
    assert sort(records, "").found_at == {ORDER: (2, 5)}


@pytest.mark.parametrize(("topic", "key"), [("orders.events", b""), ("fulfillment.dead-letter", None)])
def test_a_record_without_key_or_value_is_about_nobody(topic: str, key: bytes | None) -> None:
    batch = sort([Record(topic, 0, 0, key, None)], "", answered={ORDER})
    assert (batch.created, [letter.order_id for letter in batch.dead_letters]) == ({}, [None] * (key is None))


def test_a_fault_deep_in_a_record_is_named_by_its_path() -> None:
    said = orjson.loads(said_of_a_provider().value or b"") | {"balance": {"available_mb": "many"}}
    record = Record("fulfillment.providers", 0, 1, b"mtn", orjson.dumps(said))
    (entry,) = sort([record], "").unreadable
    assert entry.why.startswith("balance.available_mb: ")
