"""The view in PostgreSQL: one batch of the log is one transaction of rows and positions."""

from __future__ import annotations  # asyncpg's classes take parameters in its stubs alone

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from schemas.ids import log_id
from schemas.poison import PoisonKind
from schemas.topics import ORDERS_EVENTS
from services import queries
from services.crashpoints import crashpoint
from services.projector.batch import Batch, DeadLetter, Provider
from services.projector.projection import Quarantined, Row, State, ends_orders, fold, received, rejected

Partition = tuple[str, int]
"""Topic and partition."""

Moves = Mapping[Partition, tuple[int, int]]
"""From which offset to which other a batch takes each partition."""

QUERIES = queries.load(__file__)
_REMEMBERED_ROWS = 10_000
_STATUS = Row._fields.index("status")
_ORDER_COLUMNS = ("id", *Row._fields[1:9], "fulfillment_status")
_EVENT_COLUMNS = ("partition", "offset", "order_id", "value")
_IDS_IN_A_NOTICE = 200  # 37 bytes each; PostgreSQL takes less than 8,000


class Overtaken(Exception):  # noqa: N818 - nothing is wrong: somebody else is at work
    """The view is not where this projector believed: begin again from the positions in it."""


class _Contradicted(Exception):  # noqa: N818 - as above
    """A row is not what it was taken for: look at the rows, instead of assuming."""


class View:
    """What one connection writes; `max_attempts` is a received order's.

    `fills`: the view is empty at first and nobody looks at it yet. Then rows come by COPY and nobody is told of them.

    Rows of open orders are remembered, so that most batches read nothing. That holds because only one projector
    applies a partition: as soon as `positions` say otherwise, everything is forgotten.
    """

    def __init__(
        self,
        connection: asyncpg.Connection[Any] | PoolConnectionProxy[Any],
        *,
        max_attempts: int,
        fills: bool = False,
    ) -> None:
        self._connection = connection
        self._max_attempts = max_attempts
        self._fills = fills
        self._remembered: OrderedDict[str, Row] = OrderedDict()
        self._table: int | None = None

    async def positions(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """Where to go on in each partition."""
        wanted = list(partitions)
        found = await self._connection.fetch(
            QUERIES["known_positions"], [topic for topic, _ in wanted], [number for _, number in wanted]
        )
        return {(topic, partition): offset for topic, partition, offset in found}

    async def apply(self, batch: Batch, moves: Moves) -> list[Quarantined]:
        """Write the batch and move the positions, or do neither; the events that could not be applied.

        Overtaken where a position is not what `moves` expects; asyncpg.DataError and IntegrityConstraintViolationError
        where a row cannot hold what a record says.
        """
        try:
            try:
                return await self._transact(batch, moves, careful=False)
            except _Contradicted:
                self._remembered.clear()
                return await self._transact(batch, moves, careful=True)
        except (_Contradicted, asyncpg.TransactionRollbackError) as error:
            self._remembered.clear()
            raise Overtaken("another projector writes the same rows") from error
        except BaseException:
            self._remembered.clear()
            raise

    async def _transact(self, batch: Batch, moves: Moves, *, careful: bool) -> list[Quarantined]:
        async with self._connection.transaction():
            known = await self._known(batch, careful=careful)
            folded = fold(known, batch.events)
            quarantined = batch.unreadable + folded.quarantined
            await self._move(batch, moves, _applied(batch, folded.quarantined))
            await self._write(known, folded.rows, careful=careful)
            if batch.dead_letters:
                await self._execute(QUERIES["insert_dead_letters"], batch.dead_letters)
                await self._reject(batch.dead_letters)
            if quarantined:
                await self._execute(QUERIES["insert_quarantined"], quarantined)
            await self._receive(batch, known, folded.rows)
            if batch.providers:
                await self._note_providers(batch)
            crashpoint("projector.before_commit")
        crashpoint("projector.after_commit")
        self._remember(folded.rows)
        return quarantined

    async def _move(self, batch: Batch, moves: Moves, events: Sequence[tuple[Any, ...]]) -> None:
        """Move the positions, and write the events that were applied: the orders' timelines."""
        written = () if self._fills else events
        ((moved, table, _),) = await self._connection.fetch(
            QUERIES["move_positions"],
            [topic for topic, _ in moves],
            [partition for _, partition in moves],
            [expected for expected, _ in moves.values()],
            [following for _, following in moves.values()],
            [] if self._fills else _notices(batch),
            *([event[column] for event in written] for column in range(len(_EVENT_COLUMNS))),
        )
        if moved != len(moves):
            raise Overtaken("another projector has moved a position")
        if self._table not in (None, table):
            self._table = table
            raise Overtaken("the view was made anew")
        self._table = table
        if events and self._fills:
            await self._connection.copy_records_to_table("events", records=events, columns=_EVENT_COLUMNS)

    async def _known(self, batch: Batch, *, careful: bool) -> dict[str, Row]:
        """The rows that the batch's events go on from. An order's first event is taken for what it says that it is."""
        firsts: dict[str, int] = {}
        for event, _ in batch.events:
            firsts.setdefault(event.order_id, event.sequence)
        known = {order_id: self._remembered[order_id] for order_id in firsts if order_id in self._remembered}
        asked = [order_id for order_id, first in firsts.items() if order_id not in known and (careful or first > 1)]
        return known | await self._rows(asked) if asked else known

    async def _rows(self, order_ids: Iterable[str]) -> dict[str, Row]:
        found = await self._connection.fetch(QUERIES["rows"], list(order_ids))
        return {record[0]: Row(*record) for record in found}

    async def _write(self, known: Mapping[str, Row], rows: Mapping[str, Row], *, careful: bool) -> None:
        answered, going_on = [], []
        for order_id, row in rows.items():
            base = known.get(order_id)
            if base is None or base.sequence == 0:
                answered.append((log_id(order_id), *row))
            else:
                going_on.append((base.sequence, order_id, *row[8:]))
        if answered and self._fills and not careful:
            await self._copy(answered)
        elif answered:
            await self._execute(QUERIES["insert_answered"], answered)
        if going_on:
            await self._execute(QUERIES["update_rows"], going_on)

    async def _copy(self, rows: Sequence[tuple[Any, ...]]) -> None:
        orders = [(*row[1:10], row[_STATUS + 1]) for row in rows]
        try:
            await self._connection.copy_records_to_table("orders", records=orders, columns=_ORDER_COLUMNS)
            await self._connection.copy_records_to_table("fulfillment_logs", records=rows, columns=("id", *Row._fields))
        except (asyncpg.UniqueViolationError, asyncpg.DataError, TypeError, ValueError, OverflowError):
            raise _Contradicted from None  # one of them; the careful way finds out which

    async def _receive(self, batch: Batch, known: Mapping[str, Row], written: Mapping[str, Row]) -> None:
        """Make rows for orders that have none, rejected at once where their dead letter came first."""
        new = [
            order_id
            for order_id in batch.created
            if order_id not in written and order_id not in known and order_id not in self._remembered
        ]
        absent = await self.without_rows(new, batch.found_at) if new else []
        rows = []
        for order_id, reason, message, at in absent:
            row = received(batch.created[order_id], self._max_attempts)
            row = row if reason is None else rejected(row, reason, message, at)
            rows.append((log_id(order_id), *row[:12], row.error_code, row.error_message))
        if rows:
            await self._connection.execute(QUERIES["insert_received"], *zip(*rows, strict=True))

    async def without_rows(
        self, order_ids: Sequence[str], found_at: Mapping[str, tuple[int, int]] = MappingProxyType({})
    ) -> list[Any]:
        """Which of these orders have no row: order_id, and reason, message and time of a dead letter about it.

        A letter about a record before the one that was found says nothing: the faulty order was sent again, mended.
        """
        places = [found_at.get(order_id, (None, None)) for order_id in order_ids]
        return list(
            await self._connection.fetch(
                QUERIES["without_rows"],
                order_ids,
                ORDERS_EVENTS,
                PoisonKind.CONFLICT.value,
                [partition for partition, _ in places],
                [offset for _, offset in places],
            )
        )

    async def _reject(self, letters: Sequence[DeadLetter]) -> None:
        """End the orders that the letters are about and that nothing else was said about."""
        about: dict[str, DeadLetter] = {}
        for letter in letters:
            if letter.order_id and letter.original_topic == ORDERS_EVENTS and ends_orders(letter.reason):
                about.setdefault(letter.order_id, letter)
        rows = await self._rows(about) if about else {}
        changed = {}
        for order_id, row in rows.items():
            letter = about[order_id]
            if row.state == State.RECEIVED:
                changed[order_id] = rejected(row, letter.reason, letter.message, letter.at)
        if changed:
            going_on = [(0, order_id, *row[8:]) for order_id, row in changed.items()]
            await self._execute(QUERIES["update_rows"], going_on)

    async def _note_providers(self, batch: Batch) -> None:
        names = list({changed.provider for changed in batch.providers})
        found = await self._connection.fetch(QUERIES["known_providers"], names)
        rows, balances = batch.stands({record[0]: Provider(*record) for record in found}), batch.balances()
        await self._execute(QUERIES["upsert_providers"], rows)
        if balances:
            await self._execute(QUERIES["upsert_balances"], balances)
        if not self._fills:
            await self._connection.execute(QUERIES["notify_providers"], [row.name for row in rows])

    async def _execute(self, query: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Run a statement that writes each of the rows, or finds one that is not what it was taken for."""
        tag = await self._connection.execute(query, *zip(*rows, strict=True))
        if int(tag.rpartition(" ")[2]) != len(rows):
            raise _Contradicted

    def _remember(self, rows: Mapping[str, Row]) -> None:
        for order_id, row in rows.items():
            self._remembered.pop(order_id, None)
            if row.next_act is not None:  # nothing more is expected of the others
                self._remembered[order_id] = row
        while len(self._remembered) > _REMEMBERED_ROWS:
            self._remembered.popitem(last=False)


def _applied(batch: Batch, refused: Sequence[Quarantined]) -> list[tuple[Any, ...]]:
    """The events but for those that were refused, by `_EVENT_COLUMNS`."""
    aside = {(entry.partition, entry.offset) for entry in refused}
    return [
        (at.partition, at.offset, event.order_id, at.value)
        for event, at in batch.events
        if not aside or (at.partition, at.offset) not in aside
    ]


def _notices(batch: Batch) -> list[str]:
    """The orders that the batch is about, comma-separated, in payloads that PostgreSQL takes."""
    concerned = {event.order_id for event, _ in batch.events}.union(batch.created)
    concerned.update(letter.order_id for letter in batch.dead_letters if letter.order_id)
    ids = list(concerned)
    return [",".join(ids[i : i + _IDS_IN_A_NOTICE]) for i in range(0, len(ids), _IDS_IN_A_NOTICE)]
