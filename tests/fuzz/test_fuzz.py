"""The inputs that were found to lead somewhere, and whatever hypothesis makes of them."""

import random
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS, seeds

PIECES: Final = (
    *(b'"', b"{", b"}", b"[", b"]", b":", b",", b"\\", b"\\u0000", b"\\ud800", b"null", b"true", b"1e999", b"-0"),
    *(b"NaN", b"\x00", b"\xff", b"\xef\xbb\xbf", "٣".encode(), b"9" * 400, b"[" * 2000, b'"version":2', b'"type":"'),
)
"""What makes JSON other JSON, or none."""


@pytest.mark.parametrize("name", TARGETS)
def test_what_was_found_is_taken(name: str) -> None:
    for data in seeds(name):
        TARGETS[name](data)


@pytest.mark.parametrize("name", TARGETS)
@given(chance=st.randoms(use_true_random=False), piece=st.sampled_from(PIECES) | st.binary(max_size=8))
@settings(max_examples=100, deadline=None)
def test_whatever_comes_is_taken(name: str, chance: random.Random, piece: bytes) -> None:
    data = chance.choice(seeds(name))
    for _ in range(chance.choice((1, 1, 2, 5))):
        at, to = sorted(chance.randrange(len(data) + 1) for _ in range(2))
        match chance.randrange(4):
            case 0:
                data = data[:at] + piece + data[at:]
            case 1:
                data = data[:at] + piece + data[to:]
            case 2:
                data = data[:to] + data[at:]
            case _:
                other = chance.choice(seeds(name))
                data = data[:at] + other[min(at, len(other)) :]
    TARGETS[name](data)
