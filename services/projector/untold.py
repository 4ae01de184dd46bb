"""What was applied to the view and has not been told to the monitor yet, in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from schemas.fulfillment import (
    AttemptVoided,
    FulfillmentAttempted,
    FulfillmentEvent,
    FulfillmentFailed,
    FulfillmentRequested,
    FulfillmentSucceeded,
    FulfillmentUncertain,
    Source,
)
from schemas.statistics import BUCKET_S, MAX_NAME, Count, Part
from services.projector.batch import Batch
from services.projector.projection import Place
from services.projector.view import Moves, Partition

_TOLD_S: Final = 3600
"""What is older than the longest window changes nothing, and a record has its limits."""


@dataclass
class _Untold:
    """Of one partition: what was applied from `start` to `end`."""

    start: int
    end: int
    records: Counter[int] = field(default_factory=Counter)
    counts: Counter[tuple[int, str, str]] = field(default_factory=Counter)
    """By bucket, network and what happened."""


class Told:
    """Of all partitions; whoever takes it, tells it."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._untold: dict[Partition, list[_Untold]] = {}
        self._seams: dict[Partition, int] = {}
        """Up to where another has told of a partition."""
        self.providers: dict[str, str | None] = {}
        """Who serves a network, as the last order of it said."""
        self.at_s = 0.0
        """The broker's time of the latest record applied, Unix seconds."""

    def note(self, records: Iterable[Any], batch: Batch, moves: Moves) -> None:
        """Take in what has just been committed."""
        for partition, (start, end) in moves.items():
            seam = self._seams.get(partition, start)
            if start < seam < end:
                self._stretch(partition, start, seam)
                start = seam  # noqa: PLW2901 - what is left of it
            self._stretch(partition, start, end)
        latest_ms = 0
        for record in records:
            self._at(record).records[_bucket(record.timestamp)] += 1
            latest_ms = max(latest_ms, record.timestamp)
        self.at_s = max(self.at_s, latest_ms / 1000)
        for event, place in batch.events:
            self._note_event(event, place)

    def _stretch(self, partition: Partition, start: int, end: int) -> None:
        stretches = self._untold.setdefault(partition, [])
        if stretches and stretches[-1].end == start != self._seams.get(partition):
            stretches[-1].end = end
        else:
            stretches.append(_Untold(start, end))

    def _at(self, place: Any) -> _Untold:
        stretches = self._untold[place.topic, place.partition]
        return next(one for one in reversed(stretches) if one.start <= place.offset)

    def _note_event(self, event: FulfillmentEvent, place: Place) -> None:
        network = event.network[:MAX_NAME]
        if isinstance(event, FulfillmentRequested | FulfillmentAttempted):
            self.providers[network] = event.provider and event.provider[:MAX_NAME]
        what = _what(event)
        if what is not None:
            self._at(place).counts[_bucket(place.timestamp_ms), network, what] += 1

    def networks(self) -> set[str]:
        """Those that there is something to tell of."""
        return {network for parts in self._untold.values() for part in parts for _, network, _ in part.counts}

    def end(self, partition: Partition) -> int | None:
        """Up to where there is something to tell of it."""
        stretches = self._untold.get(partition)
        return stretches[-1].end if stretches else None

    def seam(self, partition: Partition, offset: int) -> None:
        """No stretch goes on across this."""
        self._seams[partition] = offset

    def drop(self, partition: Partition) -> None:
        """It is to be read again."""
        self._untold.pop(partition, None)

    def join(self, other: Told) -> None:
        """Take over what another holds."""
        self.at_s = max(self.at_s, other.at_s)
        for partition, parts in other._untold.items():
            self._untold[partition] = parts + self._untold.get(partition, [])
        self.providers = other.providers | self.providers

    def take(self) -> tuple[Part, ...]:
        """All of it, once."""
        untold, self._untold = self._untold, {}
        return tuple(self._part(partition, part) for partition, parts in untold.items() for part in parts)

    def _part(self, partition: Partition, part: _Untold) -> Part:
        oldest = self.at_s - _TOLD_S
        by_place: dict[tuple[int, str], dict[str, int]] = {}
        for (bucket, network, what), count in part.counts.items():
            if bucket <= oldest:
                continue
            by_place.setdefault((bucket, network), {})[what] = count
        return Part(
            topic=partition[0].removeprefix(self._prefix),
            partition=partition[1],
            start=part.start,
            end=part.end,
            records={bucket: count for bucket, count in part.records.items() if bucket > oldest},
            counts=tuple(
                Count(bucket=bucket, network=network, provider=self.providers.get(network), **counts)
                for (bucket, network), counts in by_place.items()
            ),
        )


def _what(event: FulfillmentEvent) -> str | None:
    """How an event counts; what a person resolved says nothing about the provider."""
    match event:
        case FulfillmentRequested():
            return "requested"
        case FulfillmentSucceeded():
            return None if event.source is Source.RESOLUTION else "delivered"
        case FulfillmentFailed():
            return None if event.source is Source.RESOLUTION or event.settled else "declined"
        case AttemptVoided():
            return "voided"
        case FulfillmentUncertain():
            return "uncertain"
        case _:
            return None


def _bucket(timestamp_ms: int) -> int:
    seconds = timestamp_ms // 1000
    return int(seconds - seconds % BUCKET_S)
