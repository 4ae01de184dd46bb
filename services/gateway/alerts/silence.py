"""Who has fallen silent while there was something to say: what the monitor cannot know of itself. Pure."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, NamedTuple

from schemas.alerts import DOCUMENT, MONITOR_SILENT, STATISTICS_SILENT, Alert, Severity
from schemas.ids import derived
from schemas.topics import FULFILLMENT_STATISTICS, MONITOR_CHANGELOG, ORDERS_EVENTS


class Kind(NamedTuple):
    """After every record of `cause` one of `effect` is to follow."""

    name: str
    cause: str
    effect: str
    advice: str


KINDS: Final = (
    Kind(
        STATISTICS_SILENT,
        ORDERS_EVENTS,
        FULFILLMENT_STATISTICS,
        "Orders come and nothing is said of them, so no other alert can be raised: see whether the projectors run.",
    ),
    Kind(
        MONITOR_SILENT,
        FULFILLMENT_STATISTICS,
        MONITOR_CHANGELOG,
        "Nobody reads the statistics, so no other alert can be raised: see whether a monitor runs.",
    ),
)


class Silence:
    """Of one kind. `look` is told where both topics end, and answers with what changes."""

    def __init__(self, kind: Kind, bound_s: float) -> None:
        self._kind = kind
        self._bound_s = bound_s
        self._ends: tuple[int, int] | None = None
        self._owed_since_s: float | None = None
        self._raised: Alert | None = None

    def look(self, ends: Mapping[str, int], now_s: float) -> Alert | None:
        """`ends`: of each topic, how many records it has had; `now_s`: Unix time."""
        cause, effect = ends[self._kind.cause], ends[self._kind.effect]
        before, self._ends = self._ends, (cause, effect)
        if before is None:
            return None
        if effect != before[1]:
            self._owed_since_s = None
            return self._clear(now_s)
        if cause != before[0] and self._owed_since_s is None:
            self._owed_since_s = now_s
        owed_s = 0.0 if self._owed_since_s is None else now_s - self._owed_since_s
        return self._raise(owed_s, now_s) if owed_s >= self._bound_s and self._raised is None else None

    def _raise(self, owed_s: float, now_s: float) -> Alert:
        since = self._owed_since_s or now_s
        self._raised = self._alert("AlertRaised", since, now_s, round(owed_s, 1))
        return self._raised

    def _clear(self, now_s: float) -> Alert | None:
        raised, self._raised = self._raised, None
        return None if raised is None else self._alert("AlertCleared", now_s, now_s, 0)

    def _alert(self, kind: str, since_s: float, now_s: float, figure: float) -> Alert:
        return Alert.model_validate(
            {
                "type": kind,
                "id": derived(f"alert:{kind}:{self._kind.name}:{since_s:.6f}"),
                "name": self._kind.name,
                "severity": Severity.CRITICAL,
                "subject": "all",
                "since": datetime.fromtimestamp(since_s, UTC),
                "at": datetime.fromtimestamp(now_s, UTC),
                "figure": figure,
                "bound": self._bound_s,
                "unit": "s",
                "advice": self._kind.advice,
                "link": f"{DOCUMENT}#{self._kind.name}",
            }
        )
