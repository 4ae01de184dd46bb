"""The alerts that a log of statistics calls for, worked out a second time from docs/alerts.md alone.

As plainly as can be, and as slowly: everything that was ever counted is kept in a list and summed up anew for each
record. Nothing of services.monitor is in it. Severities and durations are read from the document itself.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from pydantic import ValidationError

from schemas.alerts import Alert
from schemas.statistics import Part, Standing, Stands, Statistics, read_statistics
from tests.evidence import Logged
from tests.processes import ROOT

AHEAD_S: Final = 300
COUNTED_LATE_S: Final = 3600
WINDOWS_S: Final = {"success_rate_1m": (60, 0.8), "success_rate_5m": (300, 0.9), "success_rate_1h": (3600, 0.95)}
ATTEMPTS: Final = 5
LETTERS_S: Final = 300
OLDER_S: Final = {
    "orders_waiting": ("waiting_s", 60),
    "retries_late": ("overdue_s", 60),
    "in_doubt_old": ("in_doubt_s", 5400),
}
LAG: Final = 10_000
BALANCE_MB: Final = 100_000


class Change(NamedTuple):
    """What of an alert the log decides."""

    type: str
    name: str
    subject: str
    since: float
    at: float
    figure: float | None
    orders: tuple[str, ...]

    @classmethod
    def of(cls, alert: Alert) -> "Change":
        since, at = alert.since.timestamp(), alert.at.timestamp()
        return cls(alert.type, alert.name, alert.subject, since, at, alert.figure, alert.orders)


def _documented() -> dict[str, float]:
    """How long each must hold, in the document's order."""
    text = (ROOT / "docs" / "alerts.md").read_text()
    found = re.findall(r"^### (\w+)\n(?:Critical|Warning), (?:after (\d+) (s|m)|(at once))", text, re.MULTILINE)
    return {name: float(number or 0) * (60 if unit == "m" else 1) for name, number, unit, _ in found}


DURATIONS_S: Final = _documented()


class _Trouble(NamedTuple):
    subject: str
    figure: float
    is_trouble: bool
    orders: tuple[str, ...] = ()


class _Spell:
    """A trouble's life: it must hold for its duration, and be gone for as long."""

    def __init__(self, began: float) -> None:
        self.began = began
        self.raised = False
        self.gone_since: float | None = None
        self.orders: tuple[str, ...] = ()


class SecondOpinion:
    def __init__(self) -> None:
        self.now = 0.0
        self.parts: list[Part] = []
        """Those that count."""
        self.letters: list[tuple[int, int]] = []
        self.outcomes: list[tuple[int, str, int, int]] = []
        """Bucket, subject, delivered, attempts."""
        self.stands, self.stood_at = Stands(), 0.0
        self.lags: dict[tuple[str, int], tuple[float, int]] = {}
        self.spells: dict[tuple[str, str], _Spell] = {}

    def hear(self, taken_s: float, value: bytes | None) -> Iterator[Change]:
        try:
            told = read_statistics(value or b"")
        except ValidationError:
            return
        if any(time > taken_s + AHEAD_S for time in _times(told)):
            return
        at = min(told.at.timestamp(), taken_s)
        self.now = max(self.now, at)
        for part in told.parts:
            if part.end > part.start and self._counts(part):
                self._count(part)
            where = (part.topic, part.partition)
            if part.lag_records is not None and at >= self.lags.get(where, (0.0, 0))[0]:
                self.lags[where] = (at, part.lag_records)
        if told.stands is not None and at >= self.stood_at:
            self.stands, self.stood_at = told.stands, at
        for name, duration_s in DURATIONS_S.items():
            if name not in _SILENCES_AND_OFF:
                yield from self._judge(name, duration_s)

    def _counts(self, part: Part) -> bool:
        same_place = [one for one in self.parts if (one.topic, one.partition) == (part.topic, part.partition)]
        overlapping = [one for one in same_place if one.start < part.end and part.start < one.end]
        if not overlapping:
            return True
        if not part.records or min(part.records) <= max(max(one.records, default=0) for one in overlapping):
            return False
        for one in same_place:  # offsets do not come again: the topic is another one
            self.parts.remove(one)
        return True

    def _count(self, part: Part) -> None:
        self.parts.append(part)
        oldest = self.now - COUNTED_LATE_S
        if part.topic == "fulfillment.dead-letter":
            self.letters += [(bucket, count) for bucket, count in part.records.items() if bucket > oldest]
        for one in part.counts:
            if one.bucket > oldest:
                subject = f"{one.network}/{one.provider}" if one.provider else one.network
                attempts = one.delivered + one.declined + one.voided + one.uncertain
                self.outcomes.append((one.bucket, subject, one.delivered, attempts))

    def _judge(self, name: str, duration_s: float) -> Iterator[Change]:
        found = {one.subject: one for one in self._look(name)}
        for subject in sorted({*found, *(about for rule, about in self.spells if rule == name)}):
            seen, spell = found.get(subject), self.spells.get((name, subject))
            if seen is not None and seen.is_trouble:
                spell = spell or self.spells.setdefault((name, subject), _Spell(self.now))
                spell.gone_since, spell.orders = None, seen.orders
                if not spell.raised and self.now - spell.began >= duration_s:
                    spell.raised = True
                    yield Change("AlertRaised", name, subject, spell.began, self.now, seen.figure, seen.orders)
            elif spell is not None:
                spell.gone_since = self.now if spell.gone_since is None else spell.gone_since
                if not spell.raised:
                    del self.spells[name, subject]
                elif self.now - spell.gone_since >= duration_s:
                    del self.spells[name, subject]
                    figure = seen.figure if seen else None
                    yield Change("AlertCleared", name, subject, spell.gone_since, self.now, figure, spell.orders)

    def _look(self, name: str) -> Iterable[_Trouble]:
        if name in WINDOWS_S:
            return self._rates(*WINDOWS_S[name])
        if name in OLDER_S:
            field, limit = OLDER_S[name]
            return [_aged(one, field, limit) for one in self.stands.networks]
        if name == "reviews":
            return [
                _Trouble(_subject(one), one.reviews, one.reviews >= 1, one.orders.get("reviews", ()))
                for one in self.stands.networks
            ]
        if name == "provider_suspended":
            return [*self._of_providers(suspended=True), *self._of_orders("suspended", known=self._heard_of())]
        if name == "balance_low":
            with_balance = {one.provider for one in self.stands.providers if one.balance_mb is not None}
            return [*self._of_providers(suspended=False), *self._of_orders("without_balance", known=with_balance)]
        figure, limit = {
            "dead_letters": (sum(count for bucket, count in self.letters if bucket > self.now - LETTERS_S), 1),
            "lag": (sum(lag for at, lag in self.lags.values() if at > self.now - COUNTED_LATE_S), LAG + 1),
            "quarantined": (self.stands.quarantined, 1),
        }[name]
        return [_Trouble("all", figure, figure >= limit)]

    def _rates(self, window_s: int, bound: float) -> list[_Trouble]:
        troubles = []
        for subject in {subject for _, subject, _, _ in self.outcomes}:
            within = [one for one in self.outcomes if one[1] == subject and one[0] > self.now - window_s]
            delivered, attempts = sum(one[2] for one in within), sum(one[3] for one in within)
            if attempts >= ATTEMPTS:
                troubles.append(_Trouble(subject, round(delivered / attempts, 4), delivered / attempts < bound))
        return troubles

    def _heard_of(self) -> set[str]:
        return {one.provider for one in self.stands.providers}

    def _of_providers(self, *, suspended: bool) -> Iterator[_Trouble]:
        for one in self.stands.providers:
            if suspended:
                waiting = sum(stand.suspended for stand in self.stands.networks if stand.provider == one.provider)
                yield _Trouble(one.provider, waiting, one.suspended)
            elif one.balance_mb is not None:
                empty = one.suspended and one.why == "INSUFFICIENT_BALANCE"
                yield _Trouble(one.provider, one.balance_mb, empty or one.balance_mb < BALANCE_MB)

    def _of_orders(self, figure: str, known: set[str]) -> Iterator[_Trouble]:
        for one in self.stands.networks:
            if one.provider not in known:
                waiting = getattr(one, figure)
                yield _Trouble(_subject(one), waiting, waiting >= 1)


_SILENCES_AND_OFF: Final = {"no_orders", "statistics_silent", "monitor_silent"}


def _times(told: Statistics) -> Iterator[float]:
    yield told.at.timestamp()
    for part in told.parts:
        yield from part.records
        yield from (one.bucket for one in part.counts)


def _aged(one: Standing, field: str, limit: float) -> _Trouble:
    age_s = getattr(one, field)
    return _Trouble(_subject(one), round(age_s, 1), age_s > limit, one.orders.get(field, ()))


def _subject(one: Standing) -> str:
    return f"{one.network}/{one.provider}" if one.provider else one.network


def called_for(log: Sequence[Logged]) -> list[Change]:
    """By the records of fulfillment.statistics."""
    opinion = SecondOpinion()
    return [change for one in log for change in opinion.hear(one.timestamp / 1000, one.value)]
