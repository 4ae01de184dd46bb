"""How late all was, and what each provider answered, in the course of the last hour: a fold of statistics. Pure."""

from collections import Counter
from typing import Final, NamedTuple

from schemas.statistics import BUCKET_S, Part, Stands, Statistics

KEPT_S: Final = 3600
RATE_S: Final = 60
"""A rate is of the last minute."""
SUBJECTS: Final = 64
"""So many providers, and so many partitions times four, are followed: more are nobody's."""


class Point(NamedTuple):
    """The worst within a bucket."""

    lag_records: int = 0
    overdue_s: float = 0
    waiting_s: float = 0
    in_doubt_s: float = 0

    def or_worse(self, other: "Point") -> "Point":
        return Point(
            max(self.lag_records, other.lag_records),
            max(self.overdue_s, other.overdue_s),
            max(self.waiting_s, other.waiting_s),
            max(self.in_doubt_s, other.in_doubt_s),
        )


class Course:
    def __init__(self) -> None:
        self._points: dict[int, Point] = {}
        self._outcomes: dict[str, Counter[int]] = {}
        """By provider and bucket."""
        self._lags: dict[tuple[str, int], int] = {}
        self._ends: dict[tuple[str, int], int] = {}
        self._stands = Stands()

    def add(self, statistics: Statistics, taken_s: float) -> None:
        """The next record; `taken_s`: when the broker took it, Unix time."""
        for part in statistics.parts:
            self._take(part)
        if statistics.stands is not None:
            self._stands = statistics.stands
        bucket = _bucket(taken_s)
        self._points[bucket] = self._now().or_worse(self._points.get(bucket, Point()))
        self._forget(taken_s - KEPT_S)

    def points(self, now_s: float) -> list[tuple[int, Point]]:
        """With the beginning of each bucket, Unix time in seconds; in order of time."""
        return sorted((start, point) for start, point in self._points.items() if start > now_s - KEPT_S)

    def rates_per_s(self, now_s: float) -> dict[str, float]:
        """What was learnt of attempts, a second, in the last minute that is over; by provider."""
        end = _bucket(now_s)
        return {
            provider: sum(count for start, count in counts.items() if end - RATE_S <= start < end) / RATE_S
            for provider, counts in self._outcomes.items()
        }

    def _take(self, part: Part) -> None:
        name = (part.topic, part.partition)
        if name not in self._ends and len(self._ends) >= 4 * SUBJECTS:
            return
        if part.lag_records is not None:
            self._lags[name] = part.lag_records
        # What a killed projector's heir tells again has been counted.
        if part.end > self._ends.get(name, -1):
            for count in part.counts:
                self._count(
                    count.provider, count.bucket, count.delivered + count.declined + count.voided + count.uncertain
                )
        self._ends[name] = max(part.end, self._ends.get(name, -1))

    def _count(self, provider: str | None, bucket: int, outcomes: int) -> None:
        if provider is not None and (provider in self._outcomes or len(self._outcomes) < SUBJECTS):
            self._outcomes.setdefault(provider, Counter())[bucket] += outcomes

    def _now(self) -> Point:
        networks = self._stands.networks
        return Point(
            sum(self._lags.values()) + self._stands.lag_records,
            max((one.overdue_s for one in networks), default=0),
            max((one.waiting_s for one in networks), default=0),
            max((one.in_doubt_s for one in networks), default=0),
        )

    def _forget(self, before_s: float) -> None:
        for start in [start for start in self._points if start < before_s]:
            del self._points[start]
        for counts in self._outcomes.values():
            for start in [start for start in counts if start < before_s]:
                del counts[start]


def _bucket(at_s: float) -> int:
    return int(at_s - at_s % BUCKET_S)
