"""What is worth an alert, and how long it must have been so. Pure: time is the statistics' own."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from schemas.alerts import DOCUMENT, Severity
from schemas.statistics import Standing
from services.monitor.windows import Windows

ALL: Final = "all"
"""The subject of what is about no network alone."""
NO_BALANCE: Final = "INSUFFICIENT_BALANCE"
"""Why a provider is suspended that has nothing left to sell."""


class Bounds(NamedTuple):
    """From the settings; durations in seconds."""

    success_rate_1m: float = 0.8
    success_rate_5m: float = 0.9
    success_rate_1h: float = 0.95
    success_rate_attempts: int = 5
    orders_waiting_s: float = 60
    acts_overdue_s: float = 60
    in_doubt_s: float = 5400
    reviews: int = 1
    dead_letters: int = 1
    lag_records: int = 10_000
    no_orders_s: float | None = None
    balance_mb: int = 100_000
    durations_s: Mapping[str, float] = {}
    """In place of a rule's own, by its name."""


class Look(NamedTuple):
    """How a rule's figure stands about one subject."""

    subject: str
    figure: float
    bound: float
    holds: bool
    """Whether this is trouble."""
    orders: tuple[str, ...] = ()
    unit: str = ""
    """In place of the rule's."""


class Rule(NamedTuple):
    """`for_s`: how long it must have held to be raised, and have been gone to be cleared."""

    name: str
    severity: Severity
    for_s: float
    unit: str
    advice: str
    looks: Callable[[Windows, Bounds], Iterable[Look]]

    @property
    def link(self) -> str:
        return f"{DOCUMENT}#{self.name}"

    def duration_s(self, bounds: Bounds) -> float:
        return bounds.durations_s.get(self.name, self.for_s)


def _success_rate(window_s: int, bound: Callable[[Bounds], float]) -> Callable[[Windows, Bounds], Iterator[Look]]:
    def looks(windows: Windows, bounds: Bounds) -> Iterator[Look]:
        for subject, counts in windows.over(window_s):
            ended = counts.delivered + counts.declined + counts.voided + counts.uncertain
            if ended >= bounds.success_rate_attempts:
                rate = counts.delivered / ended
                yield Look(subject, round(rate, 4), bound(bounds), rate < bound(bounds))

    return looks


def _standing(
    figure: str, bound: Callable[[Bounds], float], *, at_the_bound: bool = False
) -> Callable[[Windows, Bounds], Iterator[Look]]:
    def looks(windows: Windows, bounds: Bounds) -> Iterator[Look]:
        limit = bound(bounds)
        for stand in windows.stands.networks:
            value = float(getattr(stand, figure))
            holds = value >= limit if at_the_bound else value > limit
            yield Look(_subject(stand), round(value, 1), limit, holds, stand.orders.get(figure, ()))

    return looks


def _suspended(windows: Windows, _: Bounds) -> Iterator[Look]:
    """Of a provider that says nothing of itself its orders tell."""
    told = {stand.provider: stand for stand in windows.stands.providers}
    for name, stand in told.items():
        waiting = [one for one in windows.stands.networks if one.provider == name]
        yield Look(name, sum(one.suspended for one in waiting), 0, stand.suspended)
    for one in windows.stands.networks:
        if one.provider not in told:
            yield Look(_subject(one), one.suspended, 1, one.suspended >= 1)


def _balance(windows: Windows, bounds: Bounds) -> Iterator[Look]:
    told = {stand.provider: stand for stand in windows.stands.providers if stand.balance_mb is not None}
    for name, stand in told.items():
        left_mb = stand.balance_mb or 0
        empty = stand.suspended and stand.why == NO_BALANCE
        yield Look(name, left_mb, bounds.balance_mb, left_mb < bounds.balance_mb or empty, unit="MB")
    for one in windows.stands.networks:
        if one.provider not in told:
            yield Look(_subject(one), one.without_balance, 1, one.without_balance >= 1)


def _subject(stand: Standing) -> str:
    return f"{stand.network}/{stand.provider}" if stand.provider else stand.network


def _dead_letters(windows: Windows, bounds: Bounds) -> Iterator[Look]:
    letters = windows.dead_letters(300)
    yield Look(ALL, letters, bounds.dead_letters, letters >= bounds.dead_letters)


def _lag(windows: Windows, bounds: Bounds) -> Iterator[Look]:
    lag = windows.lag_records
    yield Look(ALL, lag, bounds.lag_records, lag > bounds.lag_records)


def _quarantined(windows: Windows, _: Bounds) -> Iterator[Look]:
    count = windows.stands.quarantined
    yield Look(ALL, count, 1, count >= 1)


def _no_orders(windows: Windows, bounds: Bounds) -> Iterator[Look]:
    """Nothing can be said before as much time as that has been seen."""
    if bounds.no_orders_s is not None:
        silent_s = windows.since_order_s()
        yield Look(ALL, round(silent_s), bounds.no_orders_s, silent_s > bounds.no_orders_s)


RULES: Final = (
    Rule(
        "success_rate_1m",
        Severity.CRITICAL,
        10,
        "share",
        "Most attempts of the last minute went wrong: see the error codes, and ask the provider.",
        _success_rate(60, lambda bounds: bounds.success_rate_1m),
    ),
    Rule(
        "success_rate_5m",
        Severity.WARNING,
        60,
        "share",
        "More attempts than usual went wrong for five minutes: see which error codes grow.",
        _success_rate(300, lambda bounds: bounds.success_rate_5m),
    ),
    Rule(
        "success_rate_1h",
        Severity.WARNING,
        300,
        "share",
        "The hour is worse than it should be: compare the error codes with yesterday's.",
        _success_rate(3600, lambda bounds: bounds.success_rate_1h),
    ),
    Rule(
        "orders_waiting",
        Severity.CRITICAL,
        10,
        "s",
        "Orders come and nobody takes them up: see whether the fulfillers run and hold every partition.",
        _standing("waiting_s", lambda bounds: bounds.orders_waiting_s),
    ),
    Rule(
        "retries_late",
        Severity.WARNING,
        10,
        "s",
        "Retries or questions are overdue: see whether the fulfillers run, and whether the provider is suspended.",
        _standing("overdue_s", lambda bounds: bounds.acts_overdue_s),
    ),
    Rule(
        "in_doubt_old",
        Severity.WARNING,
        60,
        "s",
        "Nobody has found out whether these were delivered: ask the provider by their references.",
        _standing("in_doubt_s", lambda bounds: bounds.in_doubt_s),
    ),
    Rule(
        "reviews",
        Severity.WARNING,
        10,
        "orders",
        "A person has to find out what became of these orders, and resolve them.",
        _standing("reviews", lambda bounds: bounds.reviews, at_the_bound=True),
    ),
    Rule(
        "provider_suspended",
        Severity.CRITICAL,
        10,
        "orders",
        "The provider takes no orders and they wait: see why; they go on by themselves once it does, unless a person "
        "suspended it.",
        _suspended,
    ),
    Rule(
        "balance_low",
        Severity.CRITICAL,
        10,
        "orders",
        "The dealer's balance does not suffice, or soon will not: top it up; nothing else is needed.",
        _balance,
    ),
    Rule(
        "dead_letters",
        Severity.WARNING,
        0,
        "records",
        "Records came that cannot be acted on: see their reasons, mend their producer, and replay them.",
        _dead_letters,
    ),
    Rule(
        "lag",
        Severity.WARNING,
        60,
        "records",
        "The view is behind the log: see whether every projector runs, and how busy PostgreSQL is.",
        _lag,
    ),
    Rule(
        "quarantined",
        Severity.CRITICAL,
        0,
        "records",
        "The log contradicts itself about an order: look at its events before anything is done about it.",
        _quarantined,
    ),
    Rule(
        "no_orders",
        Severity.WARNING,
        10,
        "s",
        "No order has come for too long: try a purchase, and see whether the shops can reach the gateway.",
        _no_orders,
    ),
)
