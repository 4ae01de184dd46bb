"""The delayed topics of a shard. Each has one fixed delay and one writer, so that its head is always the earliest."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from pydantic import ValidationError

from schemas.fulfillment import DelayedAct
from schemas.poison import PoisonError, PoisonKind
from services.fulfiller.log import Reader, Record, Source

HIGH: Final = 2000
LOW: Final = 500
"""Records held of one topic: above HIGH it is paused, below LOW read on."""


def read_delayed(record: Record) -> DelayedAct:
    """PoisonError where it is none."""
    try:
        return DelayedAct.model_validate_json(record.value or b"")
    except ValidationError as error:
        raise PoisonError(PoisonKind.SCHEMA, f"not a delayed act: {error.error_count()} faults") from None


@dataclass(slots=True)
class _Queue:
    held: deque[tuple[Record, DelayedAct | PoisonError]] = field(default_factory=deque)
    paused: bool = False


class DelayedTopics:
    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._queues: dict[Source, _Queue] = {}

    def extend(self, source: Source, records: Sequence[Record]) -> None:
        """Hold what was read."""
        queue = self._queues.setdefault(source, _Queue())
        for record in records:
            try:
                queue.held.append((record, read_delayed(record)))
            except PoisonError as error:
                queue.held.append((record, error))
        if len(queue.held) >= HIGH and not queue.paused:
            self._reader.pause(source)
            queue.paused = True

    def due(self, now: datetime, at_most: int) -> list[tuple[Source, Record, DelayedAct | PoisonError]]:
        """Take the heads whose time has come; never early. What cannot be read is due at once."""
        taken: list[tuple[Source, Record, DelayedAct | PoisonError]] = []
        for source, queue in self._queues.items():
            while queue.held and len(taken) < at_most:
                record, act = queue.held[0]
                if isinstance(act, DelayedAct) and act.due_at > now:
                    break
                queue.held.popleft()
                taken.append((source, record, act))
            if queue.paused and len(queue.held) < LOW:
                self._reader.resume(source)
                queue.paused = False
        return taken

    def held(self, source: Source) -> int:
        """Records of the source that wait for their time."""
        queue = self._queues.get(source)
        return len(queue.held) if queue else 0

    def next_due(self) -> datetime | None:
        """When the earliest head is due, or None."""
        heads = [queue.held[0][1] for queue in self._queues.values() if queue.held]
        return min((act.due_at for act in heads if isinstance(act, DelayedAct)), default=None)
