"""Alerts are a fold of the statistics, and each rule is raised and cleared when it should be."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from schemas.alerts import SILENCES, Alert
from schemas.statistics import BUCKET_S, MAX_NAME, Count, Part, ProviderStanding, Standing, Stands, Statistics
from services.monitor.rules import NO_BALANCE, RULES, Bounds
from services.monitor.watch import Entry, Watch, alerts
from services.monitor.windows import LONGEST_S, PARTITIONS, SUBJECTS
from tests.monitor.second_opinion import Change, SecondOpinion
from tests.monitor.statistics import BEGAN_S, SUBJECT, behind, entries, part, said, standing, troubled_hours, value
from tests.processes import ROOT

_BOUNDS = Bounds()


def _told(changes: list[Alert]) -> list[tuple[str, str, float, float]]:
    """Name, type, since and at, in seconds since the beginning."""
    return [(one.name, one.type, one.since.timestamp() - BEGAN_S, one.at.timestamp() - BEGAN_S) for one in changes]


def _counted(*spells: tuple[range, dict[str, int]]) -> list[Statistics | bytes]:
    place, all_of_them = 0, []
    for spell, counts in spells:
        for second in spell:
            one = part(BEGAN_S + second, place, **counts)
            place = one.end
            all_of_them.append(said(BEGAN_S + second, one))
    return list(all_of_them)


def test_an_alert_needs_its_duration_and_so_does_its_end() -> None:
    log = _counted(
        (range(0, 60, 5), {"delivered": 5}), (range(60, 90, 5), {"declined": 20}), (range(90, 200, 5), {"delivered": 5})
    )
    told = [one for one in _told(alerts(entries(log), _BOUNDS)) if one[0] == "success_rate_1m"]
    assert told == [("success_rate_1m", "AlertRaised", 60, 70), ("success_rate_1m", "AlertCleared", 140, 150)]


def test_what_is_gone_before_its_duration_is_no_alert() -> None:
    log = [
        said(BEGAN_S + second, stands=standing(overdue_s=90 if second in (10, 15) else 0)) for second in range(0, 60, 5)
    ]
    assert alerts(entries(log), _BOUNDS) == []


def test_one_that_comes_back_before_its_end_is_the_same_alert() -> None:
    trouble = {*range(10, 60, 5), *range(65, 100, 5)}
    log = [said(BEGAN_S + second, stands=standing(overdue_s=90 * (second in trouble))) for second in range(0, 120, 5)]
    assert _told(alerts(entries(log), _BOUNDS)) == [
        ("retries_late", "AlertRaised", 10, 20),
        ("retries_late", "AlertCleared", 100, 110),
    ]


def test_a_few_attempts_say_nothing_about_a_share() -> None:
    assert (
        alerts(entries(_counted((range(0, 400, 60), {"declined": 1}))), _BOUNDS._replace(success_rate_attempts=8)) == []
    )


def test_what_stood_before_statistics_that_are_lost_is_taken_over_and_cleared() -> None:
    trouble = {*range(10, 60, 5)}
    log = entries(
        [said(BEGAN_S + second, stands=standing(overdue_s=90 * (second in trouble))) for second in range(0, 120, 5)]
    )
    raised, cleared = alerts(log, _BOUNDS)
    still = [entry for entry in log if raised.at.timestamp() < entry.timestamp <= cleared.since.timestamp()]
    assert len(still) > 5
    for first in still:
        watch = Watch()
        assert [one for entry in log[first.offset :] for one in watch.see(entry, _BOUNDS, [raised])] == [cleared]
        assert Watch().see(first, _BOUNDS, [raised, cleared.model_copy(update={"at": raised.at})]) == []
    # Nothing of its trouble is left: it ends when it is seen to be gone.
    watch = Watch()
    (over,) = (one for entry in log[20:] for one in watch.see(entry, _BOUNDS, [raised]))
    assert (over.type, over.name, over.subject) == ("AlertCleared", raised.name, raised.subject)


@pytest.mark.parametrize("seed", range(3))
def test_where_nothing_is_lost_nothing_is_taken_over(seed: int) -> None:
    log = entries(troubled_hours(seed))
    told, watch = alerts(log, _BOUNDS), Watch()
    assert told
    assert [alert for entry in log for alert in watch.see(entry, _BOUNDS, told)] == told


def test_durations_can_be_set() -> None:
    log = [said(BEGAN_S + second, stands=standing(overdue_s=90)) for second in range(0, 60, 5)]
    assert _told(alerts(entries(log), _BOUNDS._replace(durations_s={"retries_late": 40})))[0][3] == 40


@pytest.mark.parametrize("seed", range(8))
def test_repeats_garbage_and_the_future_change_nothing(seed: int) -> None:
    spoilt = troubled_hours(seed, count=150)
    clean: list[Statistics | bytes] = []
    for one in spoilt:
        if isinstance(one, Statistics) and one.parts and one not in clean:
            clean.append(one)
    assert alerts(entries(clean), _BOUNDS) == alerts(_at_the_broker(spoilt), _BOUNDS)


def _at_the_broker(log: list[Statistics | bytes]) -> list[Entry]:
    """Taken when those were said that are no dreams."""
    at_s = max(one.at.timestamp() for one in log if isinstance(one, Statistics) and one.parts)
    return [entry._replace(timestamp=at_s) for entry in entries(log)]


@pytest.mark.parametrize("seed", range(5))
def test_written_down_and_read_at_any_point_it_goes_on_as_if_nothing_had_been(seed: int) -> None:
    log = _at_the_broker(troubled_hours(seed, count=200))
    changes, watch = [], Watch()
    for entry in log:
        watch = Watch.model_validate_json(watch.model_dump_json()) if entry.offset % 7 == seed else watch
        changes += watch.see(entry, _BOUNDS)
    assert changes == alerts(log, _BOUNDS)
    assert len(changes) > 3
    assert len({one.id for one in changes}) == len(changes)


@pytest.mark.parametrize("seed", range(12))
def test_a_second_opinion_from_the_document_alone_comes_to_the_same(seed: int) -> None:
    log = entries(troubled_hours(seed, count=150))
    opinion = SecondOpinion()
    second = [change for entry in log for change in opinion.hear(entry.timestamp, entry.value)]
    assert [Change.of(alert) for alert in alerts(log, _BOUNDS)] == second
    assert len(second) > 3


def test_out_of_order_everything_is_counted_once() -> None:
    parts = [part(BEGAN_S + n, 10 * n, delivered=10) for n in range(30)]
    watch = Watch()
    for entry in entries([said(BEGAN_S + 30, one) for one in (*parts[1::2], *parts[::2], *parts)]):
        watch.see(entry, _BOUNDS)
    ((subject, counts),) = watch.windows.over(60)
    assert (subject, counts.delivered, watch.windows.repeated) == (SUBJECT, 300, 30)
    assert watch.windows.seen == {"fulfillment.events/0": [(0, 300, BEGAN_S + 20)]}


def test_what_overlaps_is_a_repeat() -> None:
    watch = Watch()
    for entry in entries(
        [said(BEGAN_S, part(BEGAN_S, 0, delivered=10)), said(BEGAN_S, part(BEGAN_S, 5, delivered=10))]
    ):
        watch.see(entry, _BOUNDS)
    assert next(watch.windows.over(60))[1].delivered == 10


@pytest.mark.parametrize("figure", ["Infinity", "-Infinity", "NaN", "1e999", "-1"])
def test_what_is_no_figure_is_no_statistics_and_what_is_kept_can_be_read_again(figure: str) -> None:
    at = value(said(BEGAN_S)).decode()
    spoilt = at.replace("{", f'{{"stands":{{"networks":[{{"network":"MTN","waiting_s":{figure}}}]}},', 1).encode()
    watch = Watch()
    watch.see(Entry(0, BEGAN_S, spoilt), _BOUNDS)
    assert watch.unreadable == 1
    assert Watch.model_validate_json(watch.model_dump_json()) == watch


def test_a_projector_whose_clock_is_ahead_silences_nobody() -> None:
    """Nothing has happened later than the broker took what is said of it."""
    log = _counted((range(0, 100, 5), {"declined": 5}))
    taken = entries(log)
    ahead = [
        one._replace(value=value(said(one.timestamp + 120, *_statistics(one).parts, stands=Stands()))) for one in taken
    ]
    told = _told(alerts(ahead, _BOUNDS))
    assert told == _told(alerts(taken, _BOUNDS))
    assert ("success_rate_1m", "AlertRaised") in [(name, kind) for name, kind, *_ in told]


def _statistics(entry: Entry) -> Statistics:
    return Statistics.model_validate_json(entry.value or b"")


@pytest.mark.parametrize(
    "tale",
    [
        Part(topic="fulfillment.events", partition=0, start=0, end=2**52, records={BEGAN_S: 1}),
        Part(topic="fulfillment.events", partition=0, start=0, end=2**52),
        Part(topic="fulfillment.events", partition=0, start=7, end=10**9, records={BEGAN_S: 10**9}),
    ],
)
def test_who_tells_a_tale_of_offsets_blinds_nobody_for_longer_than_a_bucket(tale: Part) -> None:
    log = _counted((range(20, 120, 5), {"declined": 5}))
    clean, told = alerts(entries(log), _BOUNDS), alerts(entries([said(BEGAN_S + 1, tale), *log]), _BOUNDS)
    assert _told(told) == _told(clean)
    assert told


def test_a_count_of_later_than_now_is_nobodys_truth() -> None:
    watch = Watch()
    for entry in entries([said(BEGAN_S, part(BEGAN_S + 3600, 0, declined=50), part(BEGAN_S, 50, delivered=5))]):
        watch.see(entry, _BOUNDS)
    assert (watch.unreadable, list(watch.windows.over(60))) == (1, [])


def test_a_topic_that_was_made_anew_is_counted_from_its_beginning() -> None:
    watch = Watch()
    before = [part(BEGAN_S + n, 10 * n, delivered=10) for n in range(0, 100, 10)]
    anew = [part(BEGAN_S + 100 + n, 10 * n, declined=10) for n in range(0, 100, 10)]
    for entry in entries([said(BEGAN_S + 200, one) for one in (*before, *anew, *anew)]):
        watch.see(entry, _BOUNDS)
    ((_, counts),) = watch.windows.over(3600)
    assert (counts.delivered, counts.declined, watch.windows.repeated) == (100, 100, 10)


def test_whatever_is_told_what_is_known_of_it_is_a_record_that_kafka_takes() -> None:
    """More networks, providers, partitions, gaps and orders than there are, all with names as long as may be."""
    most, long, ids = 2**53 - 1, "n" * (MAX_NAME - 4), ("i" * 99,) * 99
    figures = {"waiting_s": 1e15, "overdue_s": 1e15, "in_doubt_s": 1e15, "reviews": most, "suspended": most}
    stands = Stands(
        networks=tuple(
            Standing.model_validate(
                {"network": f"{n}{long}", "provider": f"{n}{long}", "more": ids, **figures}
            ).model_copy(update={"orders": dict.fromkeys((*figures, "strange"), ids)})
            for n in range(200)
        ),
        providers=tuple(
            ProviderStanding(provider=f"p{n}{long}", suspended=True, why="w" * 9999, balance_mb=-most)
            for n in range(200)
        ),
        lag_records=most,
        quarantined=most,
    )
    buckets = range(BEGAN_S + BUCKET_S, BEGAN_S + LONGEST_S + BUCKET_S, BUCKET_S)
    ended = dict.fromkeys(("requested", "delivered", "declined", "voided", "uncertain"), most // LONGEST_S)
    counts = tuple(
        Count(bucket=bucket, network=f"{n}{long}", provider=f"{n}{long}", **ended)
        for n in range(20)
        for bucket in buckets
    )
    parts = [
        Part(topic=long, partition=n, start=start, end=start + 1, records={buckets[-1]: most}, lag_records=most)
        for n in range(1, 400)
        for start in range(most - 60, most, 3)
    ]
    parts.append(Part(topic=long, partition=1, start=0, end=1, records={buckets[-1]: 1}, counts=counts))
    told = [said(BEGAN_S + LONGEST_S, *parts, stands=stands), said(BEGAN_S + LONGEST_S + 600, stands=stands)]
    watch = Watch()
    for entry in entries(told):
        watch.see(entry, _BOUNDS)
    kept = watch.model_dump_json().encode()
    assert len(kept) < 1_000_000
    assert watch.windows.beyond > 0
    assert (len(watch.windows.buckets), len(watch.windows.seen)) == (SUBJECTS, PARTITIONS)
    assert Watch.model_validate_json(kept) == watch


def test_the_lag_is_that_of_every_projector_and_of_who_has_a_partition_now() -> None:
    watch = Watch()
    first, second = [behind(6000, partition=n) for n in (0, 1)], [behind(5000, partition=2)]
    moved = [behind(10, partition=1)]
    for number, parts in enumerate((first, second, moved)):
        watch.see(Entry(number, BEGAN_S + 5 * number, value(said(BEGAN_S + 5 * number, *parts))), _BOUNDS)
    assert watch.windows.lag_records == 6000 + 10 + 5000


def test_later_than_the_longest_window_is_passed_over() -> None:
    watch = Watch()
    late = part(BEGAN_S, 0, declined=50)
    for entry in entries([said(BEGAN_S + LONGEST_S + 10), said(BEGAN_S + LONGEST_S + 10, late)]):
        watch.see(entry, _BOUNDS)
    assert (watch.windows.late, list(watch.windows.over(LONGEST_S))) == (1, [])


def test_the_windows_end_with_their_time() -> None:
    watch = Watch()
    for entry in entries(_counted((range(0, 3700, 10), {"delivered": 1}))):
        watch.see(entry, _BOUNDS)
    sums = {window_s: next(watch.windows.over(window_s))[1].delivered for window_s in (60, 300, 3600)}
    assert sums == {60: 6, 300: 30, 3600: 360}


TROUBLES: dict[str, Callable[[float], Statistics]] = {
    "orders_waiting": lambda at_s: said(at_s, stands=standing(waiting_s=61)),
    "retries_late": lambda at_s: said(at_s, stands=standing(overdue_s=61)),
    "in_doubt_old": lambda at_s: said(at_s, stands=standing(in_doubt_s=5401)),
    "reviews": lambda at_s: said(at_s, stands=standing(reviews=1)),
    "provider_suspended": lambda at_s: said(at_s, stands=standing(suspended=1)),
    "balance_low": lambda at_s: said(at_s, stands=standing(without_balance=1)),
    "lag": lambda at_s: said(at_s, *(behind(5001, partition=n) for n in range(2))),
    "quarantined": lambda at_s: said(at_s, stands=Stands(quarantined=1)),
    "dead_letters": lambda at_s: said(at_s, part(at_s, int(at_s), topic="fulfillment.dead-letter")),
    "no_orders": lambda at_s: said(at_s, part(at_s, int(at_s), delivered=1)),
    "success_rate_1m": lambda at_s: said(at_s, part(at_s, 10 * int(at_s), declined=9)),
    "success_rate_5m": lambda at_s: said(at_s, part(at_s, 10 * int(at_s), uncertain=9)),
    "success_rate_1h": lambda at_s: said(at_s, part(at_s, 10 * int(at_s), voided=9)),
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule.name))
def test_every_rule_is_raised_after_its_duration_and_cleared(rule: object) -> None:
    name = rule.name  # type: ignore[attr-defined] # pytest hands it over as it is
    trouble = [TROUBLES[name](BEGAN_S + second) for second in range(1, 400, 5)]
    well = [
        said(
            BEGAN_S + second,
            part(BEGAN_S + second, 10**12 + 1000 * second, delivered=999),
            part(BEGAN_S + second, second, topic="orders.events"),
            *(behind(0, partition=n) for n in range(2)),
            stands=Stands(),
        )
        for second in range(401, 1500, 5)
    ]
    changes = [one for one in alerts(entries([*trouble, *well]), _BOUNDS._replace(no_orders_s=120)) if one.name == name]
    assert [one.type for one in changes] == ["AlertRaised", "AlertCleared"]
    raised = changes[0]
    held_s = (raised.at - raised.since).total_seconds()
    assert rule.for_s <= held_s <= rule.for_s + 5  # type: ignore[attr-defined] # as above
    assert raised.figure is not None
    assert raised.advice
    assert raised.link == f"docs/alerts.md#{name}"
    assert changes[1].since > raised.at


def _provider(second: int, orders: dict[str, float], **said_of_it: Any) -> Statistics:
    stands = standing(**orders)
    told = (ProviderStanding(provider="at-ishare", **said_of_it),)
    return said(BEGAN_S + second, stands=stands.model_copy(update={"providers": told}))


def test_a_provider_that_says_how_it_stands_is_believed_over_its_orders() -> None:
    waiting = {"suspended": 7, "without_balance": 7}
    log = [_provider(second, waiting, suspended=True, why=NO_BALANCE, balance_mb=300) for second in range(0, 60, 5)]
    # Topped up: what still waits is on its way, as fast as the provider takes it.
    log += [_provider(second, waiting, balance_mb=900_000) for second in range(60, 120, 5)]
    changes = alerts(entries(log), _BOUNDS)
    assert [(one.name, one.type, one.subject) for one in changes] == [
        ("provider_suspended", "AlertRaised", "at-ishare"),
        ("balance_low", "AlertRaised", "at-ishare"),
        ("provider_suspended", "AlertCleared", "at-ishare"),
        ("balance_low", "AlertCleared", "at-ishare"),
    ]
    suspended, low = changes[:2]
    assert (suspended.figure, suspended.unit) == (7, "orders")
    assert (low.figure, low.bound, low.unit) == (300, 100_000, "MB")


def test_a_balance_is_low_before_an_order_fails_for_it() -> None:
    log = [_provider(second, {}, balance_mb=99_999) for second in range(0, 20, 5)]
    assert [one.name for one in alerts(entries(log), _BOUNDS)] == ["balance_low"]
    assert alerts(entries(log), _BOUNDS._replace(balance_mb=50_000)) == []


def test_the_document_has_every_rule_under_its_link() -> None:
    text = (ROOT / "docs" / "alerts.md").read_text()
    assert re.findall(r"^### (\w+)$", text, re.MULTILINE) == [rule.name for rule in RULES] + list(SILENCES)


def test_a_record_is_as_small_as_what_it_says() -> None:
    assert len(value(said(BEGAN_S, part(BEGAN_S, 0, delivered=10)))) < 300
