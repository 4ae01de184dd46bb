"""Applies records to a view in the order of the log, whatever is in them."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import asyncpg
import structlog

from schemas.topics import FULFILLMENT_EVENTS, ORDERS_EVENTS
from services.projector import metrics
from services.projector.batch import Batch, order_id, sort, unreadable
from services.projector.view import Moves, Overtaken, Partition, View

log = structlog.get_logger()

# What one record's content can cause, and another attempt cannot mend.
_UNSTORABLE = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError)


class Writer:
    """One view, and where it stands in each partition that is applied to it.

    `rereads`: most orders have had their answers; it is asked which have not before their records are read.
    `applied` is told of what has been committed.
    """

    def __init__(
        self,
        view: View,
        positions: Mapping[Partition, int],
        prefix: str,
        *,
        rereads: bool = False,
        applied: Callable[[Sequence[Any], Batch, Moves], None] | None = None,
    ) -> None:
        self.positions = dict(positions)
        self._applied = applied
        self._view = view
        self._prefix = prefix
        self._rereads = rereads

    async def apply(self, records: Sequence[Any]) -> None:
        """One transaction; where a record cannot be stored, halves of it, until that record is alone.

        Overtaken where the view is not where it was left.
        """
        try:
            answered = await self._answered(records) if self._rereads else ()
            await self._write(records, sort(records, self._prefix, answered))
        except _UNSTORABLE as error:
            if len(records) > 1:
                half = len(records) // 2
                await self.apply(records[:half])
                await self.apply(records[half:])
                return
            await self._set_aside(records[0], error)

    async def _answered(self, records: Iterable[Any]) -> set[str]:
        topic = self._prefix + ORDERS_EVENTS
        named = {named for record in records if record.topic == topic and (named := order_id(record.key))}
        return named - {absent for absent, *_ in await self._view.without_rows(list(named))} if named else set()

    async def _set_aside(self, record: Any, error: Exception) -> None:
        """Go past a record that no row can hold: an event is quarantined, anything else is a stranger's."""
        why = f"it cannot be stored: {type(error).__name__}"
        batch = Batch([], [], {}, [])
        if record.topic == self._prefix + FULFILLMENT_EVENTS:
            batch.unreadable.append(unreadable(record, why))
        else:
            metrics.UNSTORABLE.labels(record.topic).inc()
            log.warning(
                "unstorable", topic=record.topic, partition=record.partition, offset=record.offset, why=str(error)
            )
        await self._write([record], batch)

    async def _write(self, records: Sequence[Any], batch: Batch) -> None:
        moves = self._moves(records)
        quarantined = await self._view.apply(batch, moves)
        self.positions.update((partition, following) for partition, (_, following) in moves.items())
        if self._applied is not None:
            self._applied(records, batch, moves)
        for topic, count in Counter(record.topic for record in records).items():
            metrics.RECORDS.labels(topic).inc(count)
        for letter in batch.dead_letters:
            metrics.DEAD_LETTERS.labels(letter.reason).inc()
        for entry in quarantined:
            metrics.QUARANTINED.inc()
            log.error("quarantined", **entry._asdict())

    def _moves(self, records: Iterable[Any]) -> Moves:
        moves: dict[Partition, tuple[int, int]] = {}
        for record in records:
            partition = (record.topic, record.partition)
            expected, following = moves.get(partition) or (self.positions[partition], self.positions[partition])
            if record.offset < following:
                raise Overtaken("the consumer is not where the view is")
            moves[partition] = (expected, record.offset + 1)
        return moves
