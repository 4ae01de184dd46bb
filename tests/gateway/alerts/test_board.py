"""What stands and what is over, and who has fallen silent: pure."""

from datetime import UTC, datetime
from typing import Any

from schemas.alerts import Alert
from schemas.topics import FULFILLMENT_STATISTICS, MONITOR_CHANGELOG, ORDERS_EVENTS
from services.gateway.alerts.board import Board
from services.gateway.alerts.silence import KINDS, Silence


def alert(kind: str, name: str = "lag", at_s: int = 0, **said: Any) -> Alert:
    at = datetime.fromtimestamp(1_790_000_000 + at_s, UTC)
    about = {
        "id": f"{kind}/{name}/{at_s}",
        "name": name,
        "subject": "all",
        "since": at,
        "at": at,
        "severity": "warning",
    }
    rest = {"figure": 1, "bound": 1, "unit": "s", "advice": "look", "link": "docs/alerts.md#lag"}
    return Alert.model_validate({"type": kind, **about, **rest, **said})


def test_what_is_said_twice_stands_once_and_does_not_come_back() -> None:
    board = Board()
    raised, cleared = alert("AlertRaised"), alert("AlertCleared", at_s=9)
    other = alert("AlertRaised", "reviews", subject="MTN")
    for one in (raised, raised, other, cleared, raised, cleared):
        board.take(one)
    assert board.firing() == [other]
    assert [(shown.raised, shown.cleared) for shown in board.cleared()] == [(raised, cleared)]


def test_the_end_of_what_nobody_heard_of_is_nothing() -> None:
    board = Board()
    board.take(alert("AlertCleared"))
    assert (board.firing(), board.cleared()) == ([], [])


def looks(kind: int, ends: dict[int, tuple[int, int]], until_s: int) -> list[tuple[str, int, float | None]]:
    """What changes, at what time, and for how long nothing was said; `ends` of cause and effect from a second on."""
    silence, changes, now = Silence(KINDS[kind], 60), [], (0, 0)
    for second in range(0, until_s, 5):
        now = ends.get(second, now)
        there = {ORDERS_EVENTS: now[0], FULFILLMENT_STATISTICS: now[1]}
        if kind:
            there = {FULFILLMENT_STATISTICS: now[0], MONITOR_CHANGELOG: now[1]}
        change = silence.look(there, 1_790_000_000 + second)
        if change:
            changes.append((change.type, second, change.figure))
    return changes


def test_no_statistics_for_a_minute_after_an_order_is_an_alert_until_they_come() -> None:
    for kind in (0, 1):
        assert looks(kind, {10: (5, 3), 20: (6, 3), 200: (7, 3), 205: (7, 4)}, 300) == [
            ("AlertRaised", 80, 60.0),
            ("AlertCleared", 205, 0),
        ]


def test_where_no_order_comes_nothing_is_owed() -> None:
    assert looks(0, {0: (5, 3)}, 600) == []


def test_statistics_that_come_in_time_are_enough() -> None:
    assert looks(0, {at: (at, at // 50) for at in range(0, 600, 5)}, 600) == []


def test_the_first_order_after_a_long_quiet_time_waits_as_long_as_any_other() -> None:
    assert looks(0, {1000: (1, 0), 1030: (1, 1)}, 1200) == []
