"""A provider's limits in whole parts, and the pace of one of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.fulfiller.pacing import Pace, part, spacing_s


@given(st.integers(0, 10_000), st.integers(1, 200))
def test_the_parts_are_whole_alike_and_add_up(limit: int, partitions: int) -> None:
    parts = [part(limit, partition, partitions) for partition in range(partitions)]
    assert sum(parts) == limit
    assert max(parts) - min(parts) <= 1
    assert parts == sorted(parts, reverse=True)


@pytest.mark.parametrize(
    ("rate_per_s", "partition", "partitions", "spacing"),
    [
        (8.0, 0, 4, 0.5 * 1.05),
        (8.0, 3, 4, 0.5 * 1.05),
        (10.0, 0, 4, 1 / 3 * 1.05),
        (10.0, 3, 4, 0.5 * 1.05),
        (10.9, 3, 4, 0.5 * 1.05),
        # Below one a second and partition each has one in the time that all of them take.
        (2.0, 1, 4, 2.0 * 1.05),
        (0.1, 0, 1, 10.0 * 1.05),
        (0.3, 0, 3, 10.0 * 1.05),
    ],
)
def test_calls_are_so_far_apart(rate_per_s: float, partition: int, partitions: int, spacing: float) -> None:
    assert spacing_s(rate_per_s, partition, partitions) == pytest.approx(spacing)


def test_the_first_slot_comes_a_spacing_after_the_last_owner_s() -> None:
    pace = Pace(2.0, 100.0)
    assert pace.wait_s(100.0) == pytest.approx(1.9), "a little early, for turns are not evenly spaced"
    assert pace.wait_s(101.9) == 0
    assert pace.send_wait_s(100.0) == pytest.approx(2.0), "but not sent early"
    assert (pace.send_wait_s(102.0), pace.send_wait_s(500.0)) == (0, 0)


def test_slots_that_were_late_are_not_made_up_for() -> None:
    pace = Pace(2.0, 100.0)
    pace.take(102.0)
    assert pace.wait_s(102.0) == pytest.approx(1.9)
    pace.take(110.0)
    assert pace.wait_s(110.0) == pytest.approx(1.8)


def test_a_send_counts_from_when_it_was() -> None:
    pace = Pace(2.0, 100.0)
    pace.send(110.5)
    assert pace.send_wait_s(110.5) == pytest.approx(2.0)
    assert pace.send_wait_s(112.0) == pytest.approx(0.5)
