"""A shard's calls to providers that are under way, and what came back."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

import structlog

from schemas.bundle import masked_phone, spoken_size
from schemas.commands import OverrideFulfillment
from services.crashpoints import crashpoint
from services.fulfiller import metrics
from services.fulfiller.clock import Clock
from services.fulfiller.lane import Lane
from services.fulfiller.order import Order
from services.fulfiller.providers.port import Deadline, Outcome, OutcomeClass
from services.fulfiller.time_limit import TimeLimit

_FAILED: Final = frozenset({OutcomeClass.DECLINED_PERMANENT, OutcomeClass.DECLINED_TRANSIENT})
_ABSENT: Final = _FAILED | {OutcomeClass.NOT_FOUND}
GRACE_S: Final = 5.0
"""Beyond the time that an adapter has: one that hangs must hold neither a slot nor an order for ever."""
# An adapter must not raise. If it does, nothing is known.
_CALL_RAISED: Final = Outcome(OutcomeClass.UNKNOWN, code="INTERNAL", alert=True)
_HELD_BACK: Final = Outcome(OutcomeClass.SUSPENDED, code="SUSPENDED", message="suspended before the call was sent")
_QUESTION_RAISED: Final = Outcome(OutcomeClass.NO_ANSWER, code="INTERNAL", alert=True)

log = structlog.get_logger()


class Reply(NamedTuple):
    """To a delivery call."""

    order_id: str
    attempt: int
    outcome: Outcome


class Answer(NamedTuple):
    """To a question about a reference."""

    order_id: str
    asked_at_s: float
    """Monotonic, before the question left."""
    reference: str
    outcome: Outcome


class Calls:
    def __init__(self, clock: Clock, wake: Callable[[], None]) -> None:
        self._clock = clock
        self._wake = wake
        self._log = log.bind()
        """For the line that each call has: the lazy one binds itself anew each time."""
        self._sends: set[asyncio.Task[None]] = set()
        self._questions: set[asyncio.Task[None]] = set()
        self.asking: set[str] = set()
        """Orders that are being asked about."""
        self.replies: deque[Reply] = deque()
        self.answers: deque[Answer] = deque()
        self.failure: BaseException | None = None
        """A call ended without telling its reply: what is in memory does not hold any more."""

    @property
    def settled(self) -> bool:
        """No delivery call is under way, nor its reply untold."""
        return not self._sends and not self.replies

    @property
    def in_flight(self) -> int:
        return len(self._sends)

    def send(self, lane: Lane, order: Order, deadline: Deadline) -> None:
        """Begin a delivery call; its slot of the lane was taken before, and is given back when it is over."""
        task = asyncio.create_task(self._send(lane, order, deadline))
        self._sends.add(task)

        def over(ended: asyncio.Task[None]) -> None:
            # Here, not in the task: one that is cancelled before its first step runs none of its code.
            self._sends.discard(ended)
            lane.release(self._wake)
            if not ended.cancelled() and (error := ended.exception()) is not None:
                self.failure = error
            self._wake()

        task.add_done_callback(over)

    async def _send(self, lane: Lane, order: Order, deadline: Deadline) -> None:
        whom = masked_phone(order.phone_number)
        self._log.info("[AT-ISHARE] Fulfilling order %s for %s - %s", order.order_id, whom, spoken_size(order.size_mb))
        await lane.pace(self._wake)
        epoch = lane.standing.epoch
        outcome = _HELD_BACK if lane.suspended_because else await self._deliver(lane, order, deadline)
        crashpoint("fulfiller.replied")
        lane.observe(outcome, epoch, order.size_mb)
        metrics.outcomes(lane.name, outcome.kind).inc()
        if outcome.alert:
            metrics.ALARMS.labels("unknown_answer").inc()
            log.error("unknown_answer", provider=lane.name, code=outcome.code, order_id=order.order_id)
        self.replies.append(Reply(order.order_id, order.attempts, outcome))

    async def _deliver(self, lane: Lane, order: Order, deadline: Deadline) -> Outcome:
        try:
            with TimeLimit(max(deadline.monotonic_s - self._clock.monotonic_s(), 0.0) + GRACE_S):
                return await lane.provider.deliver(
                    order.reference, order.phone_number, order.size_mb, order.network, deadline
                )
        except Exception:
            log.exception("provider_adapter_raised", provider=lane.name)
            return _CALL_RAISED

    def ask(self, lane: Lane, order: Order) -> None:
        """Ask what became of an order, unless that is being asked already."""
        if order.order_id in self.asking:
            return
        self.asking.add(order.order_id)
        task = asyncio.create_task(self._ask(lane, order))
        self._questions.add(task)
        task.add_done_callback(self._questions.discard)

    async def _ask(self, lane: Lane, order: Order) -> None:
        # Another reference is used only when each of the earlier ones is known to have failed.
        references = order.references if isinstance(order.pending, OverrideFulfillment) else (order.reference,)
        answer: Answer | None = None
        async with lane.questions:
            for reference in references:
                asked_at_s = self._clock.monotonic_s()
                outcome = await self._verify(lane, reference)
                # Of several failures the last one told: it is about the latest reference.
                if answer is None or answer.outcome.kind in _FAILED or outcome.kind not in _FAILED:
                    answer = Answer(order.order_id, asked_at_s, reference, outcome)
                if outcome.kind not in _ABSENT:
                    break
        self.asking.discard(order.order_id)
        if answer is not None:
            self.answers.append(answer)
        self._wake()

    async def _verify(self, lane: Lane, reference: str) -> Outcome:
        try:
            with TimeLimit(lane.provider.profile.call_timeout_s + GRACE_S):
                return await lane.provider.verify(reference)
        except Exception:
            log.exception("provider_adapter_raised", provider=lane.name)
            return _QUESTION_RAISED

    async def cancel(self) -> None:
        """End every call; what they would have said is not known any more."""
        tasks = (*self._sends, *self._questions)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
