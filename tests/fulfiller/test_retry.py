from datetime import UTC, datetime, timedelta

import hypothesis.strategies as st
import pytest
from hypothesis import given

from schemas.fulfillment import Act
from services.fulfiller.providers.memory import MEMORY_PROFILE
from services.fulfiller.retry import Rules, after_check, after_failure, turned_away_too_long, unanswered_too_long
from tests.fulfiller.lives import RULES

NOW = datetime(2026, 1, 31, tzinfo=UTC)
DELAYS_S = st.lists(st.floats(0.001, 30 * 86400), min_size=1, max_size=8).map(tuple)


@pytest.mark.parametrize(
    ("attempt", "act", "delay_s"), [(1, Act.ATTEMPT, 300), (2, Act.ATTEMPT, 900), (3, Act.SETTLE, 3600)]
)
def test_the_ladder_as_it_comes(attempt: int, act: Act, delay_s: float) -> None:
    assert after_failure(RULES, attempt) == (act, timedelta(seconds=delay_s))


@given(DELAYS_S, st.integers(1, 20), st.integers(1, 25))
def test_no_attempt_follows_the_last(delays_s: tuple[float, ...], max_attempts: int, attempt: int) -> None:
    rules = Rules(delays_s, max_attempts, (15.0,), {})
    act, delay = after_failure(rules, attempt)
    assert (act is Act.ATTEMPT) == (attempt < max_attempts)
    assert delay == timedelta(seconds=delays_s[min(attempt, len(delays_s)) - 1]), "the last delay repeats"


@given(DELAYS_S)
def test_the_questions_come_at_their_delays_and_end(delays_s: tuple[float, ...]) -> None:
    rules = Rules((300.0,), 3, delays_s, {})
    gaps = [after_check(rules, steps) for steps in range(len(delays_s) + 1)]
    assert gaps == [*(timedelta(seconds=delay_s) for delay_s in delays_s), None]


def test_limits_count_from_their_first_time() -> None:
    assert not turned_away_too_long(None, NOW)
    assert not turned_away_too_long(NOW - timedelta(minutes=59), NOW)
    assert turned_away_too_long(NOW - timedelta(hours=1), NOW)
    assert not unanswered_too_long(None, NOW)
    assert not unanswered_too_long(NOW - timedelta(hours=23), NOW)
    assert unanswered_too_long(NOW - timedelta(days=1), NOW)


def test_a_network_has_the_provider_that_serves_it() -> None:
    assert RULES.provider_of("AT-iShare") is MEMORY_PROFILE
    assert RULES.provider_of("MTN") is None
