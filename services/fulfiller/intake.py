"""What a shard read of orders.events and fulfillment.commands, and how each record is answered, once."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from schemas.admission import MAX_AHEAD, Admission, check_key, check_record_size
from schemas.cloudevents import decode_command, decode_order
from schemas.commands import Command, ProviderCommand, ResumeProvider, SuspendProvider
from schemas.fulfillment import Cause
from schemas.poison import PoisonError, PoisonKind, record_bytes
from schemas.topics import FULFILLMENT_COMMANDS, ORDERS_EVENTS
from services.fulfiller import metrics
from services.fulfiller.book import Book
from services.fulfiller.inputs import Commanded, Received
from services.fulfiller.log import LogError, Reader, Record, Source
from services.fulfiller.order import Order
from services.fulfiller.positions import Positions
from services.fulfiller.turn import Turn
from services.fulfiller.warden import PARTITION as PROVIDERS_PARTITION
from services.partition import home_partition

MAX_A_TURN: Final = 100
"""Records: a long turn keeps every other shard's replies and commits waiting."""
MAX_HELD: Final = 5_000
MAX_FORGOTTEN_A_TURN: Final = 500
CLOCK_ALARM: Final = timedelta(minutes=1)
"""A record that was appended so long after our now: our clock is behind, and orders would be forgotten early."""

Act = Callable[[Turn, Order | None, Received | Commanded], object]
ActOnProvider = Callable[[Turn, ProviderCommand], None]
"""PoisonError where nobody knows the provider."""
log = structlog.get_logger()


class Intake:
    def __init__(  # noqa: PLR0917 - made in one place
        self,
        partition: int,
        partitions: int,
        reader: Reader,
        book: Book,
        positions: Positions,
        admission: Admission,
        act: Act,
        act_on_provider: ActOnProvider,
        wake: Callable[[], None],
    ) -> None:
        self._partition = partition
        self._partitions = partitions
        self._reader = reader
        self._book = book
        self._positions = positions
        self._admission = admission
        self._act = act
        self._act_on_provider = act_on_provider
        self._wake = wake
        self._orders: deque[Record] = deque()
        self._commands: deque[Record] = deque()
        self._commands_paused = False
        self._taken = asyncio.Event()
        self._polled = asyncio.Event()
        self._orders_offset = -1
        """Of the last order taken."""
        self._barrier: _Barrier | None = None

    def extend(self, topic: str, records: Sequence[Record]) -> None:
        """Hold what was read, until turns take it."""
        (self._orders if topic == ORDERS_EVENTS else self._commands).extend(records)
        self._wake()

    def held(self, topic: str) -> int:
        """Records of the topic that no turn took yet."""
        return {ORDERS_EVENTS: len(self._orders), FULFILLMENT_COMMANDS: len(self._commands)}.get(topic, 0)

    def note_poll(self) -> None:
        """Everything that a poll brought is held."""
        self._polled.set()
        # Commands may wait for orders, so that reading on must not wait for commands.
        source = Source(FULFILLMENT_COMMANDS, self._partition)
        if len(self._commands) >= MAX_HELD and not self._commands_paused:
            self._reader.pause(source)
            self._commands_paused = True
        elif len(self._commands) < MAX_HELD // 2 and self._commands_paused:
            self._reader.resume(source)
            self._commands_paused = False

    async def wait_for_room(self, stopping: Callable[[], bool]) -> None:
        while len(self._orders) >= MAX_HELD and not stopping():
            self._taken.clear()
            await self._taken.wait()

    def stop(self) -> None:
        """Let go of whoever waits."""
        self._taken.set()
        if self._barrier is not None:
            self._barrier.task.cancel()

    def take(self, turn: Turn) -> None:
        """Answer what was read, a bounded part of it; an order before the commands about it."""
        for _ in range(min(len(self._orders), MAX_A_TURN)):
            record = self._orders.popleft()
            self._orders_offset = record.offset
            self._positions.appended_ms = max(self._positions.appended_ms, record.timestamp)
            self._answer(turn, ORDERS_EVENTS, record, self._take_order)
        for _ in range(min(len(self._commands), MAX_A_TURN)):
            if not self._answer(turn, FULFILLMENT_COMMANDS, self._commands[0], self._take_command):
                break
            self._commands.popleft()
            self._barrier = None
        if self._orders or (self._commands and self._barrier is None):
            self._wake()
        self._taken.set()

    def _answer(self, turn: Turn, topic: str, record: Record, take: Callable[[Turn, Record], bool]) -> bool:
        """Act on one record: whatever is wrong with it, it is answered and the next one follows. False: not yet."""
        written = len(turn.records)
        try:
            check_record_size(record_bytes(record.key, record.value, record.headers))
            if not take(turn, record):
                return False
        except LogError:
            raise
        except PoisonError as error:
            log.warning("dead_letter", topic=topic, partition=self._partition, offset=record.offset, reason=error.kind)
            turn.dead_letter(topic, record, error)
        except Exception as error:
            log.exception("record_failed", topic=topic, partition=self._partition, offset=record.offset)
            metrics.ALARMS.labels("internal").inc()
            del turn.records[written:]
            turn.dead_letter(topic, record, PoisonError(PoisonKind.INTERNAL, repr(error)))
        turn.last_read[topic] = record
        return True

    def _take_order(self, turn: Turn, record: Record) -> bool:
        created = decode_order(record.value, record.headers)
        check_key(record.key, created.order_id)
        home = home_partition(created.order_id, self._partitions)
        if home != self._partition:
            turn.forward(ORDERS_EVENTS, home, created.order_id, record)
            return True
        order = self._book.get(created.order_id)
        if order is None:
            appended_at = datetime.fromtimestamp(record.timestamp / 1000, UTC)
            self._admission.check(created, appended_at, self._positions.forgotten_before)
            self._check_clock(turn, appended_at)
        self._act(turn, order, Received(created, self._cause(ORDERS_EVENTS, record)))
        return True

    def _take_command(self, turn: Turn, record: Record) -> bool:
        command = decode_command(record.value, record.headers)
        if isinstance(command, SuspendProvider | ResumeProvider):
            if self._partition == PROVIDERS_PARTITION:
                self._act_on_provider(turn, command)
            else:
                turn.forward(FULFILLMENT_COMMANDS, PROVIDERS_PARTITION, command.provider, record)
            return True
        check_key(record.key, command.order_id)
        home = home_partition(command.order_id, self._partitions)
        if home != self._partition:
            turn.forward(FULFILLMENT_COMMANDS, home, command.order_id, record)
            return True
        order = self._book.get(command.order_id)
        if order is None and not self._orders_were_read_before(record, command):
            return False
        self._act(turn, order, Commanded(command, self._cause(FULFILLMENT_COMMANDS, record)))
        return True

    def _cause(self, topic: str, record: Record) -> Cause:
        return Cause(topic=topic, partition=self._partition, offset=record.offset)

    def _check_clock(self, turn: Turn, appended_at: datetime) -> None:
        if appended_at > turn.now + CLOCK_ALARM:
            metrics.ALARMS.labels("clock_behind").inc()
            log.error("clock_behind", behind_s=round((appended_at - turn.now).total_seconds()))

    # --- a command that comes before its order ------------------------------------------------------------------------

    def _orders_were_read_before(self, record: Record, command: Command) -> bool:
        """The two topics have no common order: before a command's order is called unknown, orders.events is read to
        where it ended when the command was seen.
        """
        barrier = self._barrier
        if barrier is None or barrier.command_offset != record.offset:
            log.info("command_waits_for_its_order", order_id=command.order_id)
            task = asyncio.create_task(self._read_orders_on())
            task.add_done_callback(self._were_read)
            self._barrier = _Barrier(record.offset, task)
            return False
        if not barrier.task.done():
            return False
        return self._orders_offset >= barrier.task.result()

    def _were_read(self, task: asyncio.Task[int]) -> None:
        if not task.cancelled():
            task.exception()  # the next turn raises it, unless the shard has ended before
        self._wake()

    async def _read_orders_on(self) -> int:
        """The offset of the last order that was read once everything was that is there now."""
        source = Source(ORDERS_EVENTS, self._partition)
        end = (await self._reader.bounds([source]))[source].end
        while await self._reader.position(source) < end:
            self._polled.clear()
            await self._polled.wait()
        return self._orders[-1].offset if self._orders else self._orders_offset

    # --- forgetting ---------------------------------------------------------------------------------------------------

    def forget(self, turn: Turn) -> None:
        """Drop what ended longer ago than orders are remembered, by the log's own clock."""
        if not turn.last_read:
            return
        appended_at = datetime.fromtimestamp(self._positions.appended_ms / 1000, UTC)
        before = appended_at - self._admission.dedupe_window
        # An order may be dated a little later than its end, and more so where our clock is a little behind.
        forgotten = self._book.forget(before - MAX_AHEAD - CLOCK_ALARM, MAX_FORGOTTEN_A_TURN)
        if forgotten:
            # What was forgotten stays so, though orders be remembered for longer since the last start.
            self._positions.forgotten_before = max(self._positions.forgotten_before or before, before)
            turn.tombstones(forgotten)


class _Barrier:
    """What a command of an unknown order waits for."""

    def __init__(self, command_offset: int, task: asyncio.Task[int]) -> None:
        self.command_offset = command_offset
        self.task = task
