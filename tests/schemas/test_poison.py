"""What goes with a dead letter, and with one that is sent back."""

import pytest

from schemas.poison import PoisonError, PoisonKind, dead_letter_headers, record_bytes, replay_headers

ORIGINAL = (("ce_type", b"OrderCreated"), ("none", None))
ADDED = (
    ("dead_letter_reason", b"schema"),
    ("dead_letter_message", b"size: missing"),
    ("dead_letter_topic", b"orders.events"),
    ("dead_letter_partition", b"3"),
    ("dead_letter_offset", b"9"),
    ("dead_letter_timestamp", b"1769860800000"),
)


@pytest.mark.parametrize(
    ("key", "value", "headers", "size"),
    [
        (None, None, (), 0),
        (b"ab", b"cde", (), 5),
        # A letter of a name may take four bytes.
        (b"", b"", (("abc", b"12345"),), 3 * 4 + 5 + 10),
        (b"a", None, (("a", None), ("b", b"1")), 1 + 14 + 15),
    ],
)
def test_a_record_takes_no_more_than_is_counted(
    key: bytes | None, value: bytes | None, headers: tuple[tuple[str, bytes | None], ...], size: int
) -> None:
    assert record_bytes(key, value, headers) == size


def test_behind_the_original_headers_it_is_said_why_and_where_from() -> None:
    error = PoisonError(PoisonKind.SCHEMA, "size: missing")
    headers = dead_letter_headers(
        ORIGINAL, error, topic="orders.events", partition=3, offset=9, timestamp_ms=1_769_860_800_000
    )
    assert headers == ORIGINAL + ADDED


def test_a_letter_that_is_sent_back_has_its_own_headers_and_says_which_it_was() -> None:
    assert replay_headers(ORIGINAL + ADDED, "1-4") == (*ORIGINAL, ("dead_letter_replay_of", b"1-4"))


def test_a_letter_that_was_sent_back_before_names_the_last_alone() -> None:
    before = (*ORIGINAL, ("dead_letter_replay_of", b"0-2"))
    assert replay_headers(before + ADDED, "1-4") == (*ORIGINAL, ("dead_letter_replay_of", b"1-4"))


@pytest.mark.parametrize("headers", [(), ORIGINAL, ADDED[:-1], (*ADDED, *ORIGINAL)])
def test_a_letter_of_a_stranger_says_not_where_it_came_from(headers: tuple[tuple[str, bytes | None], ...]) -> None:
    with pytest.raises(ValueError, match=r"^it does not say where it came from$"):
        replay_headers(headers, "1-4")
