"""Batches are begun at once where a few orders come, and far apart where many do."""

import pytest

from services.projector.spacing import BATCH_RECORDS, SPACING_S, THICK_SPACING_S, Spacing


def waits_s(spacing: Spacing, records_per_s: float, for_s: float, began_s: float = 100.0) -> list[float]:
    """After each batch, where records come at an even rate."""
    waits: list[float] = []
    at_s = began_s
    while at_s < began_s + for_s:
        wait_s = waits[-1] if waits else SPACING_S
        at_s += max(wait_s, 0.008)  # a batch takes its time
        spacing.took(round(records_per_s * max(wait_s, 0.008)), at_s)
        waits.append(spacing.wait_s(at_s))
    return waits


@pytest.mark.parametrize("records_per_s", [1, 100, 700, 1900])
def test_what_comes_by_ones_and_twos_is_applied_at_once(records_per_s: float) -> None:
    assert max(waits_s(Spacing(), records_per_s, 10)) <= SPACING_S * 1.01


def test_a_few_orders_at_once_after_a_pause_are_not_held_back() -> None:
    spacing = Spacing()
    spacing.took(300, 100.0)
    spacing.took(30, 100.01)
    assert spacing.wait_s(100.01) == pytest.approx(SPACING_S)


def test_a_backlog_is_gathered_within_a_second_and_no_longer_than_it_lasts() -> None:
    spacing = Spacing()
    assert waits_s(spacing, 5600, 1)[-1] == pytest.approx(THICK_SPACING_S)
    assert waits_s(spacing, 700, 1, began_s=101.0)[-1] == pytest.approx(SPACING_S)


def test_a_full_batch_is_followed_at_once() -> None:
    spacing = Spacing()
    spacing.took(BATCH_RECORDS, 100.0)
    assert spacing.wait_s(100.0) == 0
