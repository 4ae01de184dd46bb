"""From statistics to changes of alerts: a fold, the same however often and by whomever it is done. Pure."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from pydantic import BaseModel, ValidationError

from schemas.alerts import Alert
from schemas.ids import derived
from schemas.statistics import Statistics, read_statistics
from services.monitor.rules import RULES, Bounds, Look, Rule
from services.monitor.windows import AHEAD_S, Windows


class Entry(NamedTuple):
    """A record of fulfillment.statistics; `timestamp` is when the broker took it, Unix time in seconds."""

    offset: int
    timestamp: float
    value: bytes | None


class Condition(BaseModel):
    """A rule's trouble about one subject: under way, raised, or about to be over. Times are event time."""

    since: float
    raised: bool = False
    gone: float | None = None
    figure: float | None = None
    bound: float = 0
    unit: str = ""
    """In place of the rule's."""
    orders: tuple[str, ...] = ()


class Watch(BaseModel):
    """All that the monitor knows once it has seen the statistics up to and with `offset`."""

    offset: int = -1
    windows: Windows = Windows()
    conditions: dict[str, dict[str, Condition]] = {}
    """By rule and subject."""
    unreadable: int = 0

    def see(self, entry: Entry, bounds: Bounds, told: Iterable[Alert] = ()) -> list[Alert]:
        """Take the next record in; what changes, in order. One that is no statistics moves the offset alone.

        `told`: every change that was ever sent. A watch that begins takes over what stood before its first statistics.
        """
        self.offset = entry.offset
        statistics = _read(entry)
        if statistics is None:
            self.unreadable += 1
            return []
        if self.windows.began is None:
            self._take_over(told, statistics.at)
        self.windows.add(statistics, entry.timestamp)
        return [alert for rule in RULES for alert in self._judge(rule, bounds)]

    def firing(self) -> list[tuple[Rule, str, Condition]]:
        return [
            (rule, subject, condition)
            for rule in RULES
            for subject, condition in self.conditions.get(rule.name, {}).items()
            if condition.raised
        ]

    def _take_over(self, told: Iterable[Alert], began: datetime) -> None:
        """What was raised by statistics that are no more, and would never be cleared."""
        names = {rule.name for rule in RULES}
        # Event time only grows, so whatever these statistics called for themselves is not earlier than their first.
        for alert in (one for one in told if one.name in names and one.at < began):
            known = self.conditions.setdefault(alert.name, {})
            known.pop(alert.subject, None)
            if alert.type == "AlertRaised":
                known[alert.subject] = Condition(
                    since=alert.since.timestamp(),
                    raised=True,
                    figure=alert.figure,
                    bound=alert.bound,
                    unit=alert.unit,
                    orders=alert.orders,
                )

    def _judge(self, rule: Rule, bounds: Bounds) -> Iterable[Alert]:
        looks = {look.subject: look for look in rule.looks(self.windows, bounds)}
        known = self.conditions.setdefault(rule.name, {})
        for subject in sorted(looks.keys() | known.keys()):
            change = self._move(rule, subject, looks.get(subject), bounds)
            if change is not None:
                yield change
        if not known:
            del self.conditions[rule.name]

    def _move(self, rule: Rule, subject: str, look: Look | None, bounds: Bounds) -> Alert | None:
        known, now = self.conditions[rule.name], self.windows.at
        condition = known.get(subject)
        if look is not None and look.holds:
            if condition is None:
                condition = known[subject] = Condition(since=now)
            condition.gone = None
            condition.figure, condition.bound, condition.orders = look.figure, look.bound, look.orders
            condition.unit = look.unit
            if not condition.raised and now - condition.since >= rule.duration_s(bounds):
                condition.raised = True
                return _alert("AlertRaised", rule, subject, condition, now)
        elif condition is not None and not condition.raised:
            del known[subject]
        elif condition is not None:
            if condition.gone is None:
                condition.gone = now
            condition.figure = look.figure if look else None
            if now - condition.gone >= rule.duration_s(bounds):
                del known[subject]
                return _alert("AlertCleared", rule, subject, condition, now)
        return None


def alerts(entries: Iterable[Entry], bounds: Bounds) -> list[Alert]:
    """Every change that these statistics call for."""
    watch = Watch()
    return [alert for entry in entries for alert in watch.see(entry, bounds)]


def _read(entry: Entry) -> Statistics | None:
    try:
        statistics = read_statistics(entry.value or b"")
    except ValidationError:
        return None
    times = [statistics.at.timestamp()]
    for part in statistics.parts:
        times += [*part.records, *(one.bucket for one in part.counts)]
    return statistics if max(times) <= entry.timestamp + AHEAD_S else None


def _alert(
    kind: Literal["AlertRaised", "AlertCleared"], rule: Rule, subject: str, about: Condition, now: float
) -> Alert:
    since = about.since if kind == "AlertRaised" or about.gone is None else about.gone
    return Alert(
        type=kind,
        id=derived(f"alert:{kind}:{rule.name}:{subject}:{about.since:.6f}:{since:.6f}"),
        name=rule.name,
        severity=rule.severity,
        subject=subject,
        since=_time(since),
        at=_time(now),
        figure=about.figure,
        bound=about.bound,
        unit=about.unit or rule.unit,
        advice=rule.advice,
        link=rule.link,
        orders=about.orders,
    )


def _time(unix_s: float) -> datetime:
    return datetime.fromtimestamp(unix_s, UTC)
