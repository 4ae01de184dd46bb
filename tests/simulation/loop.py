"""An event loop for many simulated processes: virtual time, an interleaving drawn from a seed, and between any two
steps a process may be killed, frozen or cut off.

Within one process callbacks run in the order in which they were scheduled, as asyncio promises; between processes
there is no order but the seed's.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from datetime import datetime, timedelta
from functools import partial
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Any, Final

from tests.virtual_time import BEGIN, NothingLeftError

BEGIN_S: Final = BEGIN.timestamp()
MANY: Final = 50
"""Tasks; when there are more than twice those that were not done, the done ones are let go of."""
_PROCESS: ContextVar["Process"] = ContextVar("process")


class Process:
    """What is killed as a whole; everything that it starts belongs to it."""

    def __init__(self, loop: "SimLoop", name: str) -> None:
        self._loop = loop
        self.name = name
        self.steps = 0
        self.dead = False
        self.frozen = False
        self.cut_from: set[str] = set()
        """Servers that it cannot reach now."""
        self.ahead_s = 0.0
        """Of its wall clock."""
        self._now_s, self._now = 0.0, BEGIN
        self.ready: deque[Event] = deque()
        self.traps: list[tuple[int, Callable[[], None]]] = []
        """What happens once so many steps are done; the earliest last."""
        self.commits = 0
        self.commit_traps: dict[int, list[Callable[[], None]]] = {}
        """What happens as it hears of a commit, by its number."""
        self.on_change: list[Callable[[], None]] = []
        """Called when it dies, is frozen or thawed, is cut off or reached again."""
        self._on_their_way: dict[str, list[tuple[float, Callable[..., object], tuple[Any, ...]]]] = {}
        self.context = loop.world.context.copy() if name != "world" else copy_context()
        """Of all its tasks: nothing of theirs is kept in one, and to copy it for each takes time."""
        self.context.run(_PROCESS.set, self)

    def start(self, main: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        return self._loop.create_task(main, context=self.context)

    def committed(self) -> None:
        self.commits += 1
        for act in self.commit_traps.get(self.commits, ()):
            act()

    def reaches(self, server: str) -> bool:
        return not (self.dead or self.frozen or server in self.cut_from)

    def once_reached(self, server: str, within_s: float, act: Callable[..., object], *args: Any) -> None:
        """What a cut holds up, and is sent again and again: it is done soon after the cut is mended."""
        if not self.dead:
            self._on_their_way.setdefault(server, []).append((within_s, act, args))

    def kill(self) -> None:
        self.dead = True
        self.ready.clear()
        self._on_their_way.clear()
        self._loop.leave(self)
        self._changed()

    def freeze(self) -> None:
        self.frozen = True
        self._loop.leave(self)
        self._changed()

    def thaw(self) -> None:
        self.frozen = False
        self._loop.join(self)
        self._changed()

    def cut(self, server: str) -> None:
        self.cut_from.add(server)
        self._changed()

    def mend(self, server: str) -> None:
        self.cut_from.discard(server)
        for within_s, act, args in self._on_their_way.pop(server, ()):
            self._loop.in_world(self._loop.random.random() * within_s, act, *args)
        self._changed()

    def _changed(self) -> None:
        for tell in list(self.on_change):
            tell()

    # --- its clock ----------------------------------------------------------------------------------------------------

    def now(self) -> datetime:
        at_s = self._loop.now_s + self.ahead_s
        if at_s != self._now_s:
            self._now_s, self._now = at_s, BEGIN + timedelta(seconds=at_s)
        return self._now

    def monotonic_s(self) -> float:
        return self._loop.now_s

    def wall_s(self) -> float:
        return BEGIN_S + self._loop.now_s + self.ahead_s


class Event(list[Any]):
    """Something that is to be done: what, with which arguments, and in which context. Without a context it comes of
    itself, in no process: an arrival, a server's timer. (A list, for that is made without a call; a history has
    thousands.)
    """

    __slots__ = ()
    __eq__ = object.__eq__
    __hash__ = object.__hash__  # type: ignore[assignment] # two of them are never the same

    def cancel(self) -> None:
        self[0] = None


class _Task(asyncio.Task[Any]):
    """Hashed by its number: sets of tasks have one order, in every run."""

    def __init__(self, coro: Any, *, loop: "SimLoop", name: str | None = None, context: Context | None = None) -> None:
        self._hash = next(loop.numbers)
        super().__init__(coro, loop=loop, name=name or "task", context=context)
        self._log_destroy_pending = False  # a killed process leaves its tasks behind

    def __hash__(self) -> int:
        return self._hash


class SimLoop(asyncio.BaseEventLoop):
    def __init__(self, seed: object) -> None:
        super().__init__()
        self.random = Random(f"schedule {seed}")  # noqa: S311 - it is to be repeated
        self.now_s = 0.0
        self.failures: list[str] = []
        """What no task took care of."""
        self._runnable: list[Process] = []
        self._due: list[tuple[float, int, Event]] = []
        self._timers = count()
        self.numbers = count()
        """Of tasks."""
        self.world = Process(self, "world")
        self.steps = 0
        self._tasks: list[_Task] = []
        """Kept to the end: what a killed process leaves behind must not clean up after itself."""
        self._many = MANY
        self.create_future = partial(asyncio.Future, loop=self)  # type: ignore[method-assign] # and cheaper
        self.set_exception_handler(self._note_failure)

    def create_task(self, coro: Any, *, name: str | None = None, context: Context | None = None) -> _Task:
        task = _Task(coro, loop=self, name=name, context=context or _PROCESS.get(self.world).context)
        self._tasks.append(task)
        if len(self._tasks) > self._many:
            self._tasks = [task for task in self._tasks if not task.done()]
            self._many = 2 * len(self._tasks) + MANY
        return task

    def _note_failure(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.failures.append(f"{context.get('message')}: {context.get('exception')!r}")

    def time(self) -> float:
        return self.now_s

    get_debug = staticmethod(bool)
    """Never; every future asks."""

    # --- scheduling ---------------------------------------------------------------------------------------------------

    def call_soon(self, callback: Any, *args: Any, context: Context | None = None) -> Any:
        # As `_enqueue`, without the call: half of all steps come this way.
        process = _PROCESS.get(self.world) if context is None else context.get(_PROCESS, self.world)
        event = Event((callback, args, process.context if context is None else context))
        if not process.dead:
            ready = process.ready
            if not ready and not process.frozen:
                self._runnable.append(process)
            ready.append(event)
        return event

    call_soon_threadsafe = call_soon

    def call_at(self, when: float, callback: Any, *args: Any, context: Context | None = None) -> Any:
        event = Event((callback, args, _PROCESS.get(self.world).context if context is None else context))
        heappush(self._due, (when, next(self._timers), event))
        return event

    def call_later(self, delay: float, callback: Any, *args: Any, context: Context | None = None) -> Any:
        return self.call_at(self.now_s + delay, callback, *args, context=context)

    def in_world(self, delay_s: float, act: Callable[..., object], *args: Any) -> Event:
        """Not of any process: the network, a server, the weather. It must not raise."""
        event = Event((act, args, None))
        heappush(self._due, (self.now_s + delay_s, next(self._timers), event))
        return event

    def pause(self, delay_s: float) -> asyncio.Future[None]:
        """As asyncio.sleep, and cheaper."""
        over: asyncio.Future[None] = self.create_future()
        self.in_world(delay_s, let_go, over)
        return over

    def _enqueue(self, event: Event) -> None:
        process = event[2].get(_PROCESS, self.world)
        if process.dead:
            return
        ready = process.ready
        if not ready and not process.frozen:
            self._runnable.append(process)
        ready.append(event)

    def leave(self, process: Process) -> None:
        if process in self._runnable:
            self._runnable.remove(process)

    def join(self, process: Process) -> None:
        if process.ready and process not in self._runnable and not process.dead:
            self._runnable.append(process)

    def _run_once(self) -> None:
        due, runnable, draw = self._due, self._runnable, self.random.random
        in_world, now_s = self.world.context.run, self.now_s
        while not self._stopping:
            if not runnable:
                # Nobody has anything left to do now: time goes on to the next thing that is due, or things.
                if not due:
                    raise NothingLeftError
                if due[0][0] > now_s:
                    self.now_s = now_s = due[0][0]
                while due and due[0][0] <= now_s:
                    event = heappop(due)[2]
                    act, args, context = event
                    if act is None:
                        continue
                    if context is None:
                        self.steps += 1
                        in_world(act, *args)
                    else:
                        self._enqueue(event)
                continue
            process = runnable[int(draw() * len(runnable))] if len(runnable) > 1 else runnable[0]
            if process.traps and process.steps >= process.traps[-1][0]:
                process.traps.pop()[1]()
                continue
            act, args, context = process.ready.popleft()
            if not process.ready:
                runnable.remove(process)
            if act is not None:
                process.steps += 1
                self.steps += 1
                try:
                    context.run(act, *args)
                except Exception as error:  # noqa: BLE001 - as asyncio does
                    self.failures.append(f"{act!r}: {error!r}")

    def _process_events(self, event_list: Any) -> None:
        """There are none: nothing here is real."""

    def _write_to_self(self) -> None:
        """As above."""

    async def shutdown_default_executor(self, *_: Any) -> None:
        """As above."""


def let_go(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


def drawn_latency(random: Random) -> float:
    """Seconds on the way: mostly a millisecond or two, now and then a tenth, seldom a second."""
    draw = random.random()
    if draw < 0.94:
        return 0.0005 + draw * 0.002
    return random.uniform(0.005, 0.15) if draw < 0.995 else random.uniform(0.2, 2.0)
