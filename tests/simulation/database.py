"""PostgreSQL as the projector's View and the gateway's Claims use it: their named statements over tables in memory,
in transactions that are all or nothing.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import asyncpg

from services.gateway.database import DatabaseAwayError
from services.projector import view
from services.projector.projection import Row
from tests.simulation.loop import Event, Process, SimLoop

LATENCY_S: Final = 0.001
SLOW_STATEMENTS: Final = 0.2
IDLE_IN_TRANSACTION_S: Final = 15.0
_CLOSED: Final = "the database closed the connection"
_NAMES: Final = {sql: name for name, sql in view.QUERIES.items()}
_CHANGING: Final = Row._fields.index("updated_at")


@dataclass
class Tables:
    positions: dict[tuple[str, int], int] = field(default_factory=dict)
    rows: dict[str, Row] = field(default_factory=dict)
    orders: dict[str, tuple[str, int, str, str]] = field(default_factory=dict)
    """Network, megabytes, phone, status."""
    dead_letters: dict[tuple[int, int], tuple[Any, ...]] = field(default_factory=dict)
    providers: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    balances: dict[tuple[str, Any], tuple[Any, ...]] = field(default_factory=dict)
    """By provider and time."""
    quarantine: list[str] = field(default_factory=list)
    events: dict[tuple[int, int], tuple[Any, ...]] = field(default_factory=dict)
    """By partition and offset."""


@dataclass
class _Claim:
    fingerprint: bytes
    event: bytes
    claimed_s: float
    done: bool = False


class Database:
    def __init__(self, loop: SimLoop) -> None:
        self.loop = loop
        self.tables = Tables()
        self.claims: dict[tuple[str, str], _Claim] = {}
        self._writing: Connection | None = None
        self._waiting: deque[tuple[Connection, asyncio.Future[None]]] = deque()
        self.drops = 0
        """Connections that break at their next commit, the transaction being written or not."""

    def connect(self, process: Process) -> "Connection":
        if not process.reaches("database"):
            raise ConnectionRefusedError("the database is away")
        return Connection(self, process)

    def begin(self, connection: "Connection") -> asyncio.Future[None]:
        """One writer at a time; PostgreSQL would let those of other rows go on. The server sees to it: who dies in the
        queue, or having come up, keeps nobody waiting.
        """
        begun: asyncio.Future[None] = self.loop.create_future()
        self._waiting.append((connection, begun))
        self._let_write()
        return begun

    def end(self) -> None:
        self._writing = None
        self._let_write()

    def _let_write(self) -> None:
        while self._writing is None and self._waiting:
            connection, begun = self._waiting.popleft()
            if begun.cancelled():
                continue
            if connection.begin():
                self._writing = connection
                begun.set_result(None)
            else:
                begun.set_exception(ConnectionResetError(_CLOSED))


class Connection:
    """As asyncpg's, for the statements of services/projector/queries.sql."""

    def __init__(self, database: Database, process: Process) -> None:
        self._database = database
        self._process = process
        self._undo: list[Callable[[], None]] | None = None
        self._broken = False
        self._idle: Event | None = None
        process.on_change.append(self._reach_changed)

    # --- life ---------------------------------------------------------------------------------------------------------

    def _reach_changed(self) -> None:
        if not self._process.reaches("database") and self._undo is not None and self._idle is None:
            # A dead client's session ends soon, a silent one's after its time.
            wait_s = 0.05 if self._process.dead else IDLE_IN_TRANSACTION_S
            self._idle = self._database.loop.in_world(wait_s, self._end_idle)

    def _end_idle(self) -> None:
        self._idle = None
        if not self._process.reaches("database"):
            self._break()

    def _break(self) -> None:
        self._broken = True
        if self._undo is not None:
            self._roll_back()

    def _roll_back(self) -> None:
        undo, self._undo = self._undo, None
        for step in reversed(undo or ()):
            step()
        self._database.end()

    def terminate(self) -> None:
        self._break()
        if self._reach_changed in self._process.on_change:
            self._process.on_change.remove(self._reach_changed)

    def begin(self) -> bool:
        """By the server: it is this one's turn to write."""
        if self._broken or self._process.dead:
            return False
        self._undo = []
        self._reach_changed()
        return True

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        await self._travel()
        try:
            await self._database.begin(self)
            yield
            await self._commit()
        except BaseException:
            if self._undo is not None:
                self._roll_back()
            raise

    async def _commit(self) -> None:
        await self._travel()
        fate = None
        if self._database.drops:
            self._database.drops -= 1
            fate = self._database.loop.random.random() < 0.5
        if fate is False:
            self._break()
        else:
            self._undo = None
            self._database.end()
        if fate is not None:
            self._broken = True
            raise ConnectionResetError(_CLOSED)

    async def _be_there(self) -> None:
        """Of a transaction's statements one may take time: whoever dies at another has written no more and no less."""
        if self._undo is None or self._database.loop.random.random() < SLOW_STATEMENTS:
            await self._travel()

    async def _travel(self) -> None:
        await self._database.loop.pause(LATENCY_S)
        if self._broken or not self._process.reaches("database"):
            self._break()
            raise ConnectionResetError(_CLOSED)

    # --- statements ---------------------------------------------------------------------------------------------------

    async def fetch(self, sql: str, *args: Any) -> list[Any]:
        await self._be_there()
        found: list[Any] = getattr(self, "_" + _NAMES[sql])(*args)
        return found

    async def execute(self, sql: str, *columns: Sequence[Any]) -> str:
        await self._be_there()
        count = getattr(self, "_" + _NAMES[sql])(list(zip(*columns, strict=True)))
        return f"DONE {count}"

    def _put(self, table: dict[Any, Any], key: Any, value: Any) -> None:
        missing = object()
        before = table.get(key, missing)

        def undo() -> None:
            if before is missing:
                table.pop(key, None)
            else:
                table[key] = before

        if self._undo is not None:
            self._undo.append(undo)
        table[key] = value

    @property
    def _tables(self) -> Tables:
        return self._database.tables

    def _known_positions(self, topics: Sequence[str], partitions: Sequence[int]) -> list[tuple[str, int, int]]:
        positions = self._tables.positions
        return [(*key, positions.setdefault(key, 0)) for key in zip(topics, partitions, strict=True)]

    def _move_positions(
        self,
        topics: Sequence[str],
        partitions: Sequence[int],
        expected: Sequence[int],
        following: Sequence[int],
        notices: Sequence[str],
        *events: Sequence[Any],
    ) -> list[tuple[int, int, int]]:
        moved = 0
        for topic, partition, before, after in zip(topics, partitions, expected, following, strict=True):
            if self._tables.positions.get((topic, partition)) == before:
                self._put(self._tables.positions, (topic, partition), after)
                moved += 1
        if moved == len(topics):
            self._keep(list(zip(*events, strict=True)))
        return [(moved, 1, len(notices))]

    def _rows(self, order_ids: Sequence[str]) -> list[Row]:
        return [self._tables.rows[order_id] for order_id in order_ids if order_id in self._tables.rows]

    def _without_rows(
        self,
        order_ids: Sequence[str],
        topic: str,
        conflict: str,
        partitions: Sequence[int | None],
        offsets: Sequence[int | None],
    ) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = []
        for order_id, partition, offset in zip(order_ids, partitions, offsets, strict=True):
            if order_id in self._tables.orders:
                continue
            letters = [
                letter
                for letter in self._tables.dead_letters.values()
                if letter[8] == order_id
                and letter[3] == topic
                and letter[6] != conflict
                and not (offset is not None and letter[4] == partition and letter[5] < offset)
            ]
            first = min(letters, key=lambda letter: (letter[2], letter[0], letter[1]), default=None)
            found.append((order_id, *((None, None, None) if first is None else (first[6], first[7], first[2]))))
        return found

    def _show(self, row: Row) -> None:
        self._put(self._tables.rows, row.order_id, row)
        self._put(self._tables.orders, row.order_id, (row.network, row.size_mb, row.phone_number, row.status))

    def _insert_received(self, rows: Sequence[tuple[Any, ...]]) -> int:
        for _, *said, error_code, error_message in rows:
            row = Row(*said, sequence=0, error_code=error_code, error_message=error_message)
            if row.order_id not in self._tables.rows:
                self._show(row)
        return len(rows)

    def _insert_answered(self, rows: Sequence[tuple[Any, ...]]) -> int:
        count = 0
        for _, *said in rows:
            row = Row(*said)
            known = self._tables.rows.get(row.order_id)
            if known is None or known.sequence == 0:
                self._show(row)
                count += 1
        return count

    def _update_rows(self, rows: Sequence[tuple[Any, ...]]) -> int:
        count = 0
        for from_sequence, order_id, *said in rows:
            known = self._tables.rows.get(order_id)
            if known is not None and known.sequence == from_sequence:
                self._show(Row(*known[:_CHANGING], *said))
                count += 1
        return count

    def _insert_quarantined(self, rows: Sequence[tuple[Any, ...]]) -> int:
        places = [f"{topic} {partition}@{offset}" for topic, partition, offset, *_ in rows]
        self._tables.quarantine += places
        if self._undo is not None:
            self._undo.append(lambda: [self._tables.quarantine.remove(place) for place in places] and None)
        return len(rows)

    def _keep(self, events: Sequence[tuple[Any, ...]]) -> None:
        for event in events:
            if (event[0], event[1]) in self._tables.events:
                raise asyncpg.UniqueViolationError(f"event {event[:2]} is there")
            self._put(self._tables.events, (event[0], event[1]), event)

    def _insert_dead_letters(self, rows: Sequence[tuple[Any, ...]]) -> int:
        for letter in rows:
            self._put(self._tables.dead_letters, (letter[0], letter[1]), letter)
        return len(rows)

    def _known_providers(self, names: Sequence[str]) -> list[tuple[Any, ...]]:
        return [self._tables.providers[name] for name in names if name in self._tables.providers]

    def _upsert_providers(self, rows: Sequence[tuple[Any, ...]]) -> int:
        for row in rows:
            self._put(self._tables.providers, row[0], row)
        return len(rows)

    def _upsert_balances(self, rows: Sequence[tuple[Any, ...]]) -> int:
        for row in rows:
            known = self._tables.balances.get(row[:2])
            if known is None or row[-1] >= known[-1]:
                self._put(self._tables.balances, row[:2], row)
        return len(rows)

    def _notify_providers(self, rows: Sequence[tuple[Any, ...]]) -> int:
        """Nobody listens here."""
        return len(rows)


class GatewayDatabase:
    """In place of services.gateway.database.Database, for the statements of Claims."""

    def __init__(self, database: Database, process: Process) -> None:
        self._database = database
        self._process = process

    async def fetchrow(self, name: str, *args: Any, timeout_s: float) -> Mapping[str, Any] | None:
        await self._database.loop.pause(LATENCY_S)
        if not self._process.reaches("database"):
            await asyncio.sleep(timeout_s)
            raise DatabaseAwayError("no answer")
        found: Mapping[str, Any] | None = getattr(self, "_" + name)(*args)
        await self._database.loop.pause(LATENCY_S)
        return found

    def _claim(  # noqa: PLR0917 - the statement's parameters
        self, account: str, key: str, fingerprint: bytes, event: bytes, order_id: str, fresh_s: float
    ) -> Mapping[str, Any] | None:
        if order_id in self._database.tables.orders:
            return None
        now_s, claims = self._database.loop.now_s, self._database.claims
        claim = claims.get((account, key))
        if claim is None:
            claims[account, key] = claim = _Claim(fingerprint, event, now_s)
        elif claim.done or claim.claimed_s >= now_s - fresh_s or claim.fingerprint != fingerprint:
            return None
        claim.claimed_s = now_s
        return {"event": claim.event}

    def _earlier(self, account: str, key: str, order_id: str, fresh_s: float) -> Mapping[str, Any]:
        claim = self._database.claims.get((account, key))
        row = self._database.tables.rows.get(order_id)
        found: dict[str, Any] = {"event": None, "done": None, "fresh_for_s": None, "order_id": None}
        if claim is not None:
            fresh_for_s = max(0.0, fresh_s - (self._database.loop.now_s - claim.claimed_s))
            found |= {"event": claim.event, "done": claim.done, "fresh_for_s": fresh_for_s}
        if row is not None:
            names = ("order_id", "network", "size_mb", "phone_number", "price", "package_id", "created_at")
            found |= {name: getattr(row, name) for name in names}
        return found

    def _settle_claim(self, account: str, key: str) -> None:
        claim = self._database.claims.get((account, key))
        if claim is not None:
            claim.done = True

    def _release_claim(self, account: str, key: str) -> None:
        claim = self._database.claims.get((account, key))
        if claim is not None and not claim.done:
            claim.claimed_s = float("-inf")
