"""What the statistics said, over the last minute, five minutes and hour of event time. Pure.

Windows hop by `BUCKET_S`: each is a sum of buckets, so one count is kept once and not in every window that covers it.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from pydantic import BaseModel

from schemas.statistics import BUCKET_S, Part, ProviderStanding, Standing, Stands, Statistics
from schemas.topics import FULFILLMENT_DEAD_LETTER, ORDERS_EVENTS

LONGEST_S: Final = 3600
"""Counts later than the longest window change nothing any more."""
AHEAD_S: Final = 300.0
"""What is further ahead of the broker's clock is nobody's truth."""
SUBJECTS: Final = 16
PARTITIONS: Final = 256
"""So many are followed: what is known is one record, and a megabyte is the most that one may have."""
_SPANS: Final = 16
"""Stretches of the log remembered for each partition; they merge, so there are more than one only out of order."""
_ORDERS: Final = 5
"""Named behind a figure."""
_ID: Final = 36
_WHY: Final = 100


class Counts(NamedTuple):
    requested: int = 0
    delivered: int = 0
    declined: int = 0
    voided: int = 0
    uncertain: int = 0


class Windows(BaseModel):
    """All that is known at `at`, the latest event time seen. `add` changes it in place."""

    at: float = 0
    began: float | None = None
    """The first event time seen."""
    seen: dict[str, list[tuple[int, int, int]]] = {}
    """Of each partition, the stretches that have been counted, each with its last bucket: ascending, apart."""
    lags: dict[str, tuple[float, int]] = {}
    """Of each partition, when it was said how many of its records are not in the view, and how many."""
    buckets: dict[str, dict[int, Counts]] = {}
    """By subject and beginning."""
    letters: dict[int, int] = {}
    ordered_at: float | None = None
    stands: Stands = Stands()
    stands_at: float = 0
    repeated: int = 0
    late: int = 0
    beyond: int = 0
    """What was said of more partitions or subjects than are followed."""

    def add(self, statistics: Statistics, taken_s: float) -> None:
        """Count every part that has not been counted; what is later than the longest window is passed over.

        `taken_s`: when the broker took it, Unix time. Nothing has happened later, whatever a projector's clock says.
        """
        at = min(statistics.at.timestamp(), taken_s)
        self.began = at if self.began is None else min(self.began, at)
        self.at = max(self.at, at)
        for part in statistics.parts:
            if not self._is_followed(part):
                self.beyond += 1
                continue
            if part.end > part.start:
                if self._is_new(part):
                    self._count(part)
                else:
                    self.repeated += 1
            if part.lag_records is not None and at >= self.lags.get(_name(part), (0.0, 0))[0]:
                self.lags[_name(part)] = at, part.lag_records
        if statistics.stands is not None and at >= self.stands_at:
            self.stands, self.stands_at = self._bounded(statistics.stands), at
        self._forget()

    def over(self, window_s: int) -> Iterator[tuple[str, Counts]]:
        """The sums of each subject over the window that ends with the current bucket."""
        after = self.at - window_s
        for subject, buckets in self.buckets.items():
            within = [counts for bucket, counts in buckets.items() if bucket > after]
            if within:
                yield subject, Counts(*map(sum, zip(*within, strict=True)))

    def dead_letters(self, window_s: int) -> int:
        return sum(count for bucket, count in self.letters.items() if bucket > self.at - window_s)

    @property
    def lag_records(self) -> int:
        return sum(records for _, records in self.lags.values()) if self.lags else self.stands.lag_records

    def since_order_s(self) -> float:
        """Since an order came, or since anything has been seen."""
        begun = self.began if self.began is not None else self.at
        return self.at - max(begun, self.ordered_at or 0)

    def _is_followed(self, part: Part) -> bool:
        name = _name(part)
        return name in self.seen or name in self.lags or max(len(self.seen), len(self.lags)) < PARTITIONS

    def _bounded(self, stands: Stands) -> Stands:
        """No more than is known of, and nothing that is not."""
        self.beyond += max(len(stands.networks) - SUBJECTS, 0) + max(len(stands.providers) - SUBJECTS, 0)
        return Stands(
            networks=tuple(map(_few, stands.networks[:SUBJECTS])),
            providers=tuple(map(_brief, stands.providers[:SUBJECTS])),
            lag_records=stands.lag_records,
            quarantined=stands.quarantined,
        )

    def _is_new(self, part: Part) -> bool:
        """Note the stretch; False where any of it has been counted."""
        spans = self.seen.setdefault(_name(part), [])
        overlapped = [last for start, end, last in spans if start < part.end and part.start < end]
        if overlapped and min(part.records, default=0) <= max(overlapped):
            return False
        if overlapped:  # offsets do not come again later: the topic was made anew, or somebody had told a tale
            spans = []
        merged: list[tuple[int, int, int]] = []
        for start, end, last in sorted([*spans, (part.start, part.end, max(part.records, default=0))]):
            if merged and merged[-1][1] == start:
                merged[-1] = (merged[-1][0], end, max(merged[-1][2], last))
            else:
                merged.append((start, end, last))
        if len(merged) > _SPANS:  # what is missing since so long is not waited for
            merged[:2] = [(merged[0][0], merged[1][1], max(merged[0][2], merged[1][2]))]
        self.seen[_name(part)] = merged
        return True

    def _count(self, part: Part) -> None:
        for bucket, records in part.records.items():
            if self._is_late(bucket):
                continue
            if part.topic == FULFILLMENT_DEAD_LETTER:
                self.letters[bucket] = self.letters.get(bucket, 0) + records
            elif part.topic == ORDERS_EVENTS:
                self.ordered_at = max(self.ordered_at or 0, min(bucket + BUCKET_S, self.at))
        for count in part.counts:
            if self._is_late(count.bucket):
                self.late += 1
                continue
            subject = f"{count.network}/{count.provider}" if count.provider else count.network
            if subject not in self.buckets and len(self.buckets) >= SUBJECTS:
                self.beyond += 1
                continue
            buckets = self.buckets.setdefault(subject, {})
            known = buckets.get(count.bucket, Counts())
            buckets[count.bucket] = Counts(*(had + getattr(count, name) for name, had in known._asdict().items()))

    def _is_late(self, bucket: int) -> bool:
        return bucket <= self.at - LONGEST_S

    def _forget(self) -> None:
        for subject, buckets in list(self.buckets.items()):
            for bucket in [bucket for bucket in buckets if self._is_late(bucket)]:
                del buckets[bucket]
            if not buckets:
                del self.buckets[subject]
        for bucket in [bucket for bucket in self.letters if self._is_late(bucket)]:
            del self.letters[bucket]
        for name in [name for name, (at, _) in self.lags.items() if self._is_late(int(at))]:
            del self.lags[name]
        # Whatever is said of them again is late.
        for name in [name for name, spans in self.seen.items() if all(self._is_late(last) for *_, last in spans)]:
            del self.seen[name]


def _name(part: Part) -> str:
    return f"{part.topic}/{part.partition}"


def _few(said: Standing) -> Standing:
    """With what is known of one, a few orders behind each figure, and nothing else that its writer may have added."""
    orders = {
        figure: tuple(order_id[:_ID] for order_id in said.orders[figure][:_ORDERS])
        for figure in said.orders.keys() & Standing.model_fields.keys()
    }
    return Standing(**said.model_dump(include=Standing.model_fields.keys() - {"orders"}), orders=orders)


def _brief(said: ProviderStanding) -> ProviderStanding:
    known = said.model_dump(include=ProviderStanding.model_fields.keys() - {"why"})
    return ProviderStanding(**known, why=said.why and said.why[:_WHY])
