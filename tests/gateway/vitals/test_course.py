"""What the last hour of statistics says: pure."""

from datetime import UTC, datetime
from typing import Any, Final

from schemas.statistics import Count, Part, Standing, Stands, Statistics
from services.gateway.vitals.course import KEPT_S, SUBJECTS, Course, Point

NOW_S: Final = 1_790_000_000


def said(*parts: Part, **standing: Any) -> Statistics:
    stands = Stands(networks=(Standing(network="AT-iShare", **standing),)) if standing else None
    return Statistics(at=datetime.fromtimestamp(NOW_S, UTC), parts=parts, stands=stands)


def part(start: int, end: int, *, partition: int = 0, lag: int | None = None, **counts: Any) -> Part:
    about = {"bucket": NOW_S - 10, "network": "AT-iShare", "provider": "at-ishare"} | counts
    return Part(
        topic="fulfillment.events",
        partition=partition,
        start=start,
        end=end,
        counts=(Count(**about),) if counts else (),
        lag_records=lag,
    )


def test_the_worst_of_ten_seconds_is_kept_and_lags_are_added_up() -> None:
    course = Course()
    course.add(said(part(0, 0, lag=4), part(0, 0, partition=1, lag=3), overdue_s=7, waiting_s=1), NOW_S)
    course.add(said(part(0, 0, lag=1), overdue_s=2, in_doubt_s=9), NOW_S + 1)
    course.add(said(part(0, 0, partition=1, lag=0)), NOW_S + 10)
    assert course.points(NOW_S + 11) == [(NOW_S, Point(7, 7, 1, 9)), (NOW_S + 10, Point(1, 2, 0, 9))]


def test_what_is_an_hour_old_is_forgotten() -> None:
    course = Course()
    course.add(said(part(0, 1, delivered=1), overdue_s=7), NOW_S)
    course.add(said(), NOW_S + KEPT_S + 10)
    assert [start for start, _ in course.points(NOW_S + KEPT_S + 10)] == [NOW_S + KEPT_S + 10]
    assert course.rates_per_s(NOW_S) == {"at-ishare": 0}


def test_a_rate_is_of_the_minute_that_is_over_and_counts_nothing_twice() -> None:
    course = Course()
    again = part(0, 9, delivered=20, declined=5, voided=3, uncertain=2)
    for one in (again, again, part(9, 12, bucket=NOW_S - 60, delivered=30), part(12, 13, bucket=NOW_S, delivered=99)):
        course.add(said(one), NOW_S)
    course.add(said(part(13, 14, bucket=NOW_S - 70, delivered=99), part(14, 15, provider=None, delivered=1)), NOW_S)
    assert course.rates_per_s(NOW_S) == {"at-ishare": 1.0}


def test_what_strangers_say_does_not_fill_the_memory() -> None:
    course = Course()
    for n in range(5 * SUBJECTS):
        course.add(said(part(0, 1, partition=n, lag=1, provider=f"p{n}", delivered=1)), NOW_S)
    assert len(course.rates_per_s(NOW_S)) == SUBJECTS
    assert course.points(NOW_S)[-1][1].lag_records == 4 * SUBJECTS
