"""One partition's orders and the loop that moves them on: gather what is ready, commit it at once, then act on it."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from schemas.admission import Admission
from schemas.commands import ProviderCommand
from schemas.fulfillment import Cause
from schemas.poison import PoisonError
from schemas.topics import FULFILLMENT_COMMANDS, ORDERS_EVENTS
from services.crashpoints import crashpoint
from services.fulfiller import metrics
from services.fulfiller.calls import Calls
from services.fulfiller.clock import Clock
from services.fulfiller.delayed import DelayedTopics
from services.fulfiller.dispatch import Dispatch
from services.fulfiller.doubts import Doubts
from services.fulfiller.intake import Intake
from services.fulfiller.lane import Lane
from services.fulfiller.log import Source
from services.fulfiller.retry import Rules
from services.fulfiller.takeover import Takeover
from services.fulfiller.turn import Turn
from services.fulfiller.warden import BALANCE_INTERVAL_S, Warden
from services.fulfiller.warden import PARTITION as PROVIDERS_PARTITION

GATHER_S: Final = 0.0015
"""Between a commit and the next begin: the broker still writes the last one's markers, and what comes meanwhile is
committed together."""
HOLD_S: Final = 0.01
"""What a delayed topic brings within that time is waited for before a turn: it would come due during the commit, which
takes about as long, and be late by the rest of it."""
POLL_S: Final = 0.2
MAX_DELAYED_A_TURN: Final = 500
MAX_QUEUED: Final = 20_000
"""Orders that wait for a slot of a provider that is up: at this many, orders.events is read no further."""
MIN_WAIT_S: Final = 1e-6
"""A shorter one may end where it began."""
SWEEP_S: Final = 1.0
"""At the least so often a shard looks what is due."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Shared:
    """What all shards of a worker share."""

    partitions: int
    clock: Clock
    rules: Rules
    admission: Admission
    lanes: Mapping[str, Lane]
    delay_topics: frozenset[str]
    """Of the present settings."""
    balance_interval_s: float = BALANCE_INTERVAL_S


class Shard:
    """Crash-only: any doubt about the log ends `run`, and what was in memory with it."""

    def __init__(self, partition: int, taken: Takeover, shared: Shared) -> None:
        self.partition = partition
        self._shared = shared
        self._clock = shared.clock
        self._writer = taken.writer
        self._reader = taken.reader
        self.book = taken.book
        self._positions = taken.positions
        self._inputs = taken.inputs
        self._doubts = Doubts(taken.book, shared.lanes, shared.clock, taken.fenced_at_s)
        self._calls = Calls(shared.clock, self._wake)
        self._dispatch = Dispatch(
            taken.book,
            self._doubts,
            self._calls,
            shared.clock,
            shared.rules,
            shared.lanes,
            shared.delay_topics & {source.topic for source in taken.inputs},
            self._wake,
        )
        self._intake = Intake(
            partition,
            shared.partitions,
            taken.reader,
            taken.book,
            taken.positions,
            shared.admission,
            self._dispatch.decide,
            self._act_on_provider,
            self._wake,
        )
        self._delayed = DelayedTopics(taken.reader)
        self._fenced_at_s = taken.fenced_at_s
        self._warden: Warden | None = None
        """Of all providers, where this is their partition."""
        if partition == PROVIDERS_PARTITION:
            self._warden = Warden(
                shared.lanes,
                shared.clock,
                self._wake,
                fenced_at_s=taken.fenced_at_s,
                balance_interval_s=shared.balance_interval_s,
            )
        self._woken = asyncio.Event()
        self._settled = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._draining = False
        self._stopping = False
        self._orders_paused = False
        self._hidden_since: dict[str, tuple[int | None, float]] = {}

    # --- life ---------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Work until `stop`. LogError (FencedError among them): the shard is of no more use."""
        self._open_lanes()
        self._dispatch.resume()
        reading = asyncio.create_task(self._read())
        turning = asyncio.create_task(self._turn_for_ever())
        keeping = [asyncio.create_task(self._writer.keep())]
        if self._warden is not None:
            keeping.append(asyncio.create_task(self._warden.keep()))
        try:
            done, _ = await asyncio.wait({reading, turning, *keeping}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            self.stop()
            for task in keeping:
                task.cancel()
            await asyncio.gather(*keeping, return_exceptions=True)
            # Neither is cancelled: the reader's poll and the writer's commit end by themselves.
            await asyncio.gather(reading, turning, return_exceptions=True)
            await self._calls.cancel()
            self._settled.set()
            if self._timer is not None:
                self._timer.cancel()
            for lane in self._shared.lanes.values():
                lane.close(self._wake)
            await self._writer.close()
            await self._reader.close()

    def _open_lanes(self) -> None:
        doubtful = self._doubts.by_provider()
        for name, lane in self._shared.lanes.items():
            lane.open(
                self._wake,
                self.partition,
                fenced_at_s=self._fenced_at_s,
                doubtful=doubtful[name],
                doubts_end_s=self._doubts.end_s,
            )

    def stop(self) -> None:
        """End `run` after the turn under way; no call begins any more."""
        self._stopping = True
        self._intake.stop()
        self._wake()

    async def drain(self, timeout_s: float) -> None:
        """Begin no call any more, and wait for those under way to be answered and committed, but no longer."""
        self._draining = True
        for lane in self._shared.lanes.values():
            lane.leave(self._wake)
        self._settled.clear()
        self._wake()
        try:
            async with asyncio.timeout(timeout_s):
                await self._settled.wait()
        except TimeoutError:
            log.info("drain_ended_with_calls_under_way", partition=self.partition, calls=self._calls.in_flight)

    def resume(self) -> None:
        """Go on after a drain: the partition was given back."""
        self._draining = False
        self._wake()

    @property
    def position(self) -> int | None:
        """The next offset of orders.events, for the group's lag."""
        last = self._positions.inputs.get(ORDERS_EVENTS)
        return None if last is None else last.offset + 1

    async def lag(self) -> dict[str, int]:
        """Records of each input that were not acted on yet; delayed ones are not due, mostly."""
        behind: dict[str, int] = {}
        for source in self._inputs:
            end = self._reader.end(source)
            if end is not None:
                # The reader's position, for it steps over the transactions' markers.
                unread = max(end - await self._reader.position(source), 0)
                behind[source.topic] = unread + self._intake.held(source.topic) + self._delayed.held(source)
        return behind

    @property
    def topics(self) -> frozenset[str]:
        return frozenset(source.topic for source in self._inputs)

    def hidden_s(self) -> dict[str, float]:
        """For how long an open transaction has hidden the end of each input: a stranger's may do so for a minute."""
        now_s = self._clock.monotonic_s()
        for source in self._inputs:
            end = self._reader.end(source)
            since = self._hidden_since.get(source.topic)
            if not self._reader.hidden(source):
                self._hidden_since.pop(source.topic, None)
            elif since is None or since[0] != end:
                self._hidden_since[source.topic] = (end, now_s)
        return {topic: now_s - since_s for topic, (_, since_s) in self._hidden_since.items()}

    def waiting(self) -> dict[str, int]:
        """Orders that wait for a slot, by provider."""
        return self._dispatch.waiting()

    @property
    def doubtful_count(self) -> int:
        return len(self._doubts)

    def _wake(self) -> None:
        self._woken.set()

    # --- reading ------------------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        while not self._stopping:
            polled = await self._reader.poll(POLL_S)
            for source, records in polled.items():
                crashpoint("fulfiller.polled")
                if source.topic in {ORDERS_EVENTS, FULFILLMENT_COMMANDS}:
                    self._intake.extend(source.topic, records)
                else:
                    self._delayed.extend(source, records)
                    self._wake()
            self._intake.note_poll()
            self._pause_or_resume_orders()
            await self._intake.wait_for_room(lambda: self._stopping)

    def _pause_or_resume_orders(self) -> None:
        lanes = self._shared.lanes
        queued = sum(count for name, count in self.waiting().items() if lanes[name].suspended_because is None)
        source = Source(ORDERS_EVENTS, self.partition)
        if queued >= MAX_QUEUED and not self._orders_paused:
            self._reader.pause(source)
            self._orders_paused = True
        elif queued < MAX_QUEUED // 2 and self._orders_paused:
            self._reader.resume(source)
            self._orders_paused = False

    # --- the loop -----------------------------------------------------------------------------------------------------

    async def _turn_for_ever(self) -> None:
        while True:
            await self._woken.wait()
            await self._let_come_due()
            if self._stopping:
                return
            self._woken.clear()
            turn = Turn(self.partition, self._clock.now())
            try:
                self._gather(turn)
            except BaseException:
                self._take_back(turn)
                raise
            if turn.records:
                await self._commit(turn)
            if self._calls.settled:
                self._settled.set()
            self._set_timer()
            # Even a turn that wrote nothing lets the others go on: a set event is not waited for.
            await asyncio.sleep(GATHER_S if turn.records else 0)

    async def _let_come_due(self) -> None:
        until_s = self._clock.monotonic_s() + HOLD_S
        while not self._stopping and (head := self._delayed.next_due()) is not None:
            wait_s = (head - self._clock.now()).total_seconds()
            if not 0 < wait_s <= until_s - self._clock.monotonic_s():
                return
            await asyncio.sleep(wait_s)

    async def _commit(self, turn: Turn) -> None:
        began_s = time.perf_counter()
        try:
            if turn.has_outcomes:
                crashpoint("fulfiller.outcome_uncommitted")
            await self._writer.commit(turn.records)
        except BaseException:
            self._take_back(turn)
            raise
        metrics.COMMIT_SECONDS.observe(time.perf_counter() - began_s)
        turn.measure()
        if turn.calls:
            crashpoint("fulfiller.intent_committed")
        for lane, order, deadline in turn.calls:
            if self._stopping:
                lane.release(self._wake)
            else:
                self._calls.send(lane, order, deadline)

    def _take_back(self, turn: Turn) -> None:
        for lane, _, _ in turn.calls:
            lane.release(self._wake)
        for lane in turn.verdicts:
            lane.unsaid()

    def _gather(self, turn: Turn) -> None:
        """Decide everything that is ready. What that changes in memory is true once the turn is committed."""
        if self._calls.failure is not None:
            raise self._calls.failure
        self._dispatch.take_replies(turn)
        self._dispatch.take_answers(turn)
        self._dispatch.expire_doubts(turn)
        self._intake.take(turn)
        self._take_delayed(turn)
        self._dispatch.take_due(turn)
        if not self._draining:
            self._dispatch.begin_attempts(turn)
        self._say_verdicts(turn)
        self._intake.forget(turn)
        turn.state(self._positions)

    def _take_delayed(self, turn: Turn) -> None:
        for source, record, act in self._delayed.due(turn.now, MAX_DELAYED_A_TURN):
            turn.last_read[source.topic] = record
            if isinstance(act, PoisonError):
                turn.dead_letter(source.topic, record, act)
                continue
            metrics.LATENESS_SECONDS.observe((turn.now - act.due_at).total_seconds())
            self._dispatch.bring(act, Cause(topic=source.topic, partition=self.partition, offset=record.offset))

    def _say_verdicts(self, turn: Turn) -> None:
        """What this worker found out about its providers, in the turn that tells of the orders it was found with."""
        for lane in self._shared.lanes.values():
            changed = lane.say(turn.now)
            if changed is not None:
                turn.provider(changed)
                turn.verdicts.append(lane)
        if self._warden is not None:
            self._warden.say(turn)

    def _act_on_provider(self, turn: Turn, command: ProviderCommand) -> None:
        if self._warden is None:
            raise RuntimeError("a command about a provider was not sent home")
        self._warden.follow(turn, command)

    def _set_timer(self) -> None:
        """Wake when the next thing is due."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self._clock.now()
        # The wall clock may be set while we wait by another one.
        waits_s = [SWEEP_S]
        if (due_s := self._dispatch.next_s()) is not None:
            waits_s.append(due_s - now.timestamp())
        if (head := self._delayed.next_due()) is not None:
            waits_s.append((head - now).total_seconds())
        if (wait_s := self._doubts.wait_s()) is not None:
            waits_s.append(wait_s)
        self._timer = asyncio.get_running_loop().call_later(max(min(waits_s), MIN_WAIT_S), self._wake)
