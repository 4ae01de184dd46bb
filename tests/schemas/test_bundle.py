"""Phones, sizes and networks as people write them, and as nobody should."""

import re
from decimal import Decimal
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import example, given

from schemas.bundle import (
    NETWORKS,
    canonical_network,
    canonical_phone,
    canonical_size_mb,
    masked_phone,
    spoken_size,
)

NINE_DIGITS = st.from_regex(r"[1-9][0-9]{8}", fullmatch=True)
ARABIC_ZERO, FULLWIDTH_ZERO = 0x0660, 0xFF10


def in_digits(text: str, zero: int) -> str:
    """With other digits than ours."""
    return "".join(chr(zero + int(letter)) if letter.isdecimal() else letter for letter in text)


def numbered(values: list[Any]) -> dict[str, Any]:
    """Parametrize's arguments; a million digits are no name for a test."""
    return {"argvalues": values, "ids": [str(number) for number in range(len(values))]}


HOSTILE_TEXT = st.one_of(st.text(), st.text(st.characters(categories=["Nd", "Cf", "Zs", "Nl"])), st.binary().map(repr))


# --- phones ---------------------------------------------------------------------------------------------------------


@given(NINE_DIGITS, st.sampled_from(["", "0", "233", "+233"]), st.data())
def test_a_phone_in_each_of_its_shapes(digits: str, prefix: str, data: st.DataObject) -> None:
    text = prefix + digits
    for mark in data.draw(st.lists(st.sampled_from(list(" -().")), max_size=5)):
        at = data.draw(st.integers(0, len(text)))
        text = text[:at] + mark + text[at:]
    assert canonical_phone(text) == "+233" + digits


@given(NINE_DIGITS)
def test_a_canonical_phone_is_its_own(digits: str) -> None:
    phone = "+233" + digits
    assert canonical_phone(phone) == phone


def test_the_seed_s_own_number_is_taken() -> None:
    assert canonical_phone("+233123456789") == "+233123456789"


@pytest.mark.parametrize("text", **numbered([
    "", "0", "+", "12345", "0000000000", "+000123456789", "00233244123456", "+44244123456", "+2330244123456",
    "02441234567", "024412345", "0244 12345x", "tel:0244123456", "+233+244123456", "0244123456\n", "\xb244123456",
    in_digits("0244123456", ARABIC_ZERO), in_digits("0244123456", FULLWIDTH_ZERO), "0244\u200b123456",
    "\ufeff0244123456", "0244\u00a0123456", "0" * 1_000_000, "2" * 1_000_000, " " * 50 + "0244123456",
]))  # fmt: skip
def test_what_is_no_phone(text: str) -> None:
    with pytest.raises(ValueError, match="not a Ghanaian phone number"):
        canonical_phone(text)


@given(HOSTILE_TEXT)
def test_a_phone_is_canonical_or_refused(text: str) -> None:
    try:
        phone = canonical_phone(text)
    except ValueError:
        return
    assert re.fullmatch(r"\+233[1-9][0-9]{8}", phone, re.ASCII)
    assert re.sub(r"[^0-9]", "", text).endswith(phone[4:])


@given(NINE_DIGITS)
def test_a_masked_phone_shows_less(digits: str) -> None:
    masked = masked_phone("+233" + digits)
    assert masked == f"+233{digits[:4]}•••{digits[-2:]}"


# --- sizes ----------------------------------------------------------------------------------------------------------


@given(st.integers(1, 10**12 - 1))
def test_a_size_as_spoken_is_read_back(size_mb: int) -> None:
    assert canonical_size_mb(spoken_size(size_mb)) == size_mb
    assert canonical_size_mb(f"{size_mb}mb") == size_mb
    assert canonical_size_mb(f" {size_mb} M ") == size_mb


@pytest.mark.parametrize(("size", "size_mb"), [
    ("1GB", 1000), ("1.5GB", 1500), ("500MB", 500), (1, 1000), (1.5, 1500), ("2", 2000), ("0.25 gb", 250),
    ("1.0", 1000), ("10g", 10_000), (0.1, 100), ("0.001GB", 1), ("1.000GB", 1000), ("999999999999MB", 10**12 - 1),
])  # fmt: skip
def test_sizes(size: object, size_mb: int) -> None:
    assert canonical_size_mb(size) == size_mb


@pytest.mark.parametrize("size", **numbered([
    "", " ", "0", 0, "0GB", "-1", -1, "+1GB", "1,5GB", "1 GB MB", "GB", "1.GB", ".5GB", "1..5GB", "1e3MB", 1e308,
    1e-308, float("nan"), float("inf"), -float("inf"), "NaN", "Infinity", "1.5MB", "0.0005GB", 0.1 + 0.2, True, False,
    None, [], {}, b"1GB", Decimal(1), in_digits("1GB", ARABIC_ZERO), in_digits("1GB", FULLWIDTH_ZERO), "1\u200bGB",
    "1GB\u0000", "\xbdGB", "1TB", "0x10", "1_000MB", "9" * 1_000_000, "1." + "0" * 1_000_000, 10**5000, -(10**5000),
    "1GB" * 100,
]))  # fmt: skip
def test_what_is_no_size(size: object) -> None:
    with pytest.raises(ValueError, match=r"not a size|Exceeds the limit"):
        canonical_size_mb(size)


@given(st.one_of(HOSTILE_TEXT, st.floats(), st.integers(), st.none(), st.booleans(), st.lists(st.none())))
@example(size=10**4300)
def test_a_size_is_whole_and_positive_or_refused(size: Any) -> None:
    try:
        size_mb = canonical_size_mb(size)
    except ValueError:
        return
    assert type(size_mb) is int
    assert size_mb > 0
    if not isinstance(size, str):
        assert size_mb == Decimal(str(size)) * 1000


# --- networks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "network"), [
    ("AT - iShare", "AT-iShare"), ("at_ishare", "AT-iShare"), ("ATN-iShare", "AT-iShare"), ("mtn", "MTN"),
    ("AirtelTigo", "AT-iShare"), ("MTN Ghana", "MTN"), ("TELECEL", "Telecel"), ("Vodafone", "Telecel"),
    ("AT BigTime", "AT-BigTime"),
])  # fmt: skip
def test_networks_in_every_spelling(text: str, network: str) -> None:
    assert canonical_network(text) == network


@given(st.sampled_from(NETWORKS), st.data())
def test_a_network_is_known_whatever_its_case_and_marks(network: str, data: st.DataObject) -> None:
    text = "".join(data.draw(st.sampled_from([letter.lower(), letter.upper()])) for letter in network)
    text = text.replace("-", data.draw(st.sampled_from(["", " ", "-", "_", " - ", "."])))
    assert canonical_network(text) == network


@pytest.mark.parametrize("text", **numbered(
    ["", " ", "MTM", "Glo", "MTN\u200b", "\u041cTN", "at-i share!", "x" * 1_000_000, "mtn\x00"]
))  # fmt: skip
def test_what_is_no_network(text: str) -> None:
    with pytest.raises(ValueError, match="unknown network"):
        canonical_network(text)


@given(HOSTILE_TEXT)
def test_a_network_is_canonical_or_refused(text: str) -> None:
    try:
        assert canonical_network(text) in NETWORKS
    except ValueError:
        return


@pytest.mark.parametrize(
    ("size", "why"),
    [
        ("GB", 'not a size: write it as "1GB", "1.5GB" or "500MB"'),
        (True, 'not a size: write it as "1GB", "1.5GB" or "500MB"'),
        ("0GB", "not a size: it must be a positive whole number of megabytes"),
    ],
)
def test_how_a_size_is_written_is_said(size: object, why: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(why)}$"):
        canonical_size_mb(size)


@pytest.mark.parametrize(("size_mb", "spoken"), [(999, "999MB"), (1000, "1GB"), (1001, "1.001GB"), (10_000, "10GB")])
def test_a_gigabyte_is_spoken_as_one(size_mb: int, spoken: str) -> None:
    assert spoken_size(size_mb) == spoken


def test_how_a_phone_and_a_network_are_written_is_said() -> None:
    written = "not a Ghanaian phone number: write it as 0XXXXXXXXX, 233XXXXXXXXX or +233XXXXXXXXX"
    with pytest.raises(ValueError, match=f"^{re.escape(written)}$"):
        canonical_phone("12")
    with pytest.raises(ValueError, match=r"^unknown network: write one of AT-iShare, AT-BigTime, MTN, Telecel$"):
        canonical_network("Glo")


@pytest.mark.parametrize("marks", [40, 41])
def test_a_text_of_forty_letters_is_read_and_no_longer_one(marks: int) -> None:
    for read, text, meant in (
        (canonical_phone, "0244123456", "+233244123456"),
        (canonical_network, "MTN", "MTN"),
    ):
        if marks == 40:
            assert read(text.ljust(marks)) == meant
        else:
            with pytest.raises(ValueError, match=r"phone|network"):
                read(text.ljust(marks))
