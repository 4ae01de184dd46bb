"""What is done about a shard's orders: what was said and what is due is decided, and what follows is seen to."""

from collections import deque
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta

import structlog

from schemas.commands import OverrideFulfillment, ResolveFulfillment
from schemas.fulfillment import Act, Cause, DelayedAct, Next
from schemas.topics import retry_topic
from services.fulfiller import metrics
from services.fulfiller.agenda import Agenda
from services.fulfiller.book import Book
from services.fulfiller.calls import Answer, Calls
from services.fulfiller.clock import Clock
from services.fulfiller.doubts import Doubts
from services.fulfiller.evolution import evolve
from services.fulfiller.fulfillment import confirms_failure, decide
from services.fulfiller.inputs import (
    Asked,
    Decision,
    DoubtExpired,
    Input,
    Replied,
    SlotReserved,
    Verified,
)
from services.fulfiller.lane import Lane, Wake
from services.fulfiller.order import ENDS, Order, State
from services.fulfiller.providers.port import Deadline
from services.fulfiller.retry import Rules
from services.fulfiller.turn import Turn

log = structlog.get_logger()


class Dispatch:
    """What it changes in memory is true once the turn is committed."""

    def __init__(  # noqa: PLR0917 - made in one place
        self,
        book: Book,
        doubts: Doubts,
        calls: Calls,
        clock: Clock,
        rules: Rules,
        lanes: Mapping[str, Lane],
        delay_topics: AbstractSet[str],
        wake: Wake,
    ) -> None:
        self._book = book
        self._doubts = doubts
        self._calls = calls
        self._clock = clock
        self._rules = rules
        self._lanes = lanes
        self._delay_topics = delay_topics
        self._wake = wake
        self._agenda = Agenda()
        self._ready: dict[str, deque[str]] = {name: deque() for name in lanes}
        self._queued: dict[str, Cause | None] = {}
        """Orders that wait for a slot, and the delayed record that brought them, if one did."""
        self._cleared: set[str] = set()
        """Orders to be overridden of which every reference is known to have failed."""
        self._unanswered: dict[str, int] = {}
        """Orders whose question is in the agenda once more, and the plan that it belongs to."""

    def waiting(self) -> dict[str, int]:
        """Orders that wait for a slot, by provider."""
        return {name: len(ready) for name, ready in self._ready.items()}

    def next_s(self) -> float | None:
        """Unix time of what is due next by the clock alone, or None."""
        return self._agenda.next_s()

    def resume(self) -> None:
        """After a takeover: do what is due, plan what is not, and ask about what the last owner left in doubt."""
        now = self._clock.now()
        later: list[Order] = []
        for order in list(self._book.open_orders()):
            is_due = order.pending is not None or (order.next_at is not None and order.next_at <= now)
            if order.state is State.ATTEMPTING or is_due:
                self._act(order)
            else:
                later.append(order)
        self._agenda.fill(later)
        self._wake()

    # --- what providers said ------------------------------------------------------------------------------------------

    def take_replies(self, turn: Turn) -> None:
        while self._calls.replies:
            reply = self._calls.replies.popleft()
            order = self._book.get(reply.order_id)
            if order is not None and order.attempts == reply.attempt:
                turn.has_outcomes = True
                self.decide(turn, order, Replied(reply.outcome))

    def take_answers(self, turn: Turn) -> None:
        while self._calls.answers:
            answer = self._calls.answers.popleft()
            order = self._book.get(answer.order_id)
            if order is None:
                continue
            verified = self._verified(order, answer)
            if not isinstance(order.pending, OverrideFulfillment):
                changed = self.decide(turn, order, verified)
                if changed is None or changed.schedule_id == order.schedule_id:
                    self._ask_again(order, turn.now)
            elif confirms_failure(order, verified, self._rules, turn.now):
                self._cleared.add(order.order_id)
                self._queue(order)
            else:
                self.decide(turn, order, Asked(answer.outcome, answer.reference))

    def _verified(self, order: Order, answer: Answer) -> Verified:
        """Say what an answer can prove, given when it was asked for."""
        lane = self._lane(order)
        final_s = lane.provider.profile.not_found_final_s if lane else 0.0
        counts = self._doubts.counts(order.order_id, answer.asked_at_s, final_s)
        return Verified(answer.outcome, failed_counts=counts.failed, not_found_counts=counts.not_found)

    def _ask_again(self, order: Order, now: datetime) -> None:
        """Nothing was answered, or what was answered planned nothing: the same question again."""
        unanswered = self._unanswered.get(order.order_id) == order.schedule_id
        if order.next_act in {Act.VERIFY, Act.SETTLE} and not unanswered:
            self._unanswered[order.order_id] = order.schedule_id
            self._agenda.at(now + timedelta(seconds=self._rules.verify_delays_s[0]), order)

    def expire_doubts(self, turn: Turn) -> None:
        for order_id in self._doubts.expired():
            order = self._book.get(order_id)
            if order is not None:
                self.decide(turn, order, DoubtExpired())

    # --- what is due --------------------------------------------------------------------------------------------------

    def take_due(self, turn: Turn) -> None:
        for entry in self._agenda.due(turn.now):
            order = self._book.get(entry.order_id)
            if order is None or order.schedule_id != entry.schedule_id or order.state is State.ATTEMPTING:
                continue
            if not entry.carried:
                self._unanswered.pop(order.order_id, None)
            elif self._is_at_hand(order):
                continue
            else:
                metrics.OVERDUE.inc()
                log.error("act_overdue", act=order.next_act, order_id=order.order_id)
            self._act(order)

    def _is_at_hand(self, order: Order) -> bool:
        """Whether what is due is being seen to: it waits for a slot, is being asked about, or will be once more."""
        order_id = order.order_id
        unanswered = self._unanswered.get(order_id) == order.schedule_id
        return unanswered or order_id in self._queued or order_id in self._calls.asking

    def bring(self, act: DelayedAct, cause: Cause) -> None:
        """What a delayed topic brought in its time; the order may have another plan by now."""
        order = self._book.get(act.order_id)
        if order is not None and (order.schedule_id, order.next_act) == (act.schedule_id, act.act):
            self._act(order, cause)

    # --- acting -------------------------------------------------------------------------------------------------------

    def _act(self, order: Order, cause: Cause | None = None) -> None:
        """Do what is due: queue for a slot, or ask."""
        asks_first = isinstance(order.pending, ResolveFulfillment | OverrideFulfillment)
        if not asks_first and (order.pending is not None or order.next_act is Act.ATTEMPT):
            self._queue(order, cause)
        elif asks_first or order.next_act in {Act.VERIFY, Act.SETTLE, Act.REPLY}:
            lane = self._lane(order)
            if lane is not None:
                self._calls.ask(lane, order)

    def _lane(self, order: Order) -> Lane | None:
        name = order.provider
        if name is None:
            profile = self._rules.provider_of(order.network)
            name = profile.name if profile else ""
        lane = self._lanes.get(name)
        if lane is None:
            metrics.ALARMS.labels("no_provider").inc()
            log.error("no_provider", order_id=order.order_id, provider=name, network=order.network)
        return lane

    def _queue(self, order: Order, cause: Cause | None = None) -> None:
        lane = self._lane(order)
        if lane is not None and order.order_id not in self._queued:
            self._queued[order.order_id] = cause
            self._ready[lane.name].append(order.order_id)
            self._wake()

    def begin_attempts(self, turn: Turn) -> None:
        for name, ready in self._ready.items():
            lane = self._lanes[name]
            while ready and lane.take(self._wake):
                order_id = ready.popleft()
                cause = self._queued.pop(order_id)
                order = self._book.get(order_id)
                began = False
                try:
                    began = order is not None and self._begin_attempt(turn, lane, order, cause)
                finally:
                    if not began:
                        lane.release(self._wake)
            if not ready:
                lane.leave(self._wake)

    def _begin_attempt(self, turn: Turn, lane: Lane, order: Order, cause: Cause | None) -> bool:
        """Write the intent; the call follows the commit."""
        timeout_s = lane.provider.profile.call_timeout_s
        deadline_s = self._clock.monotonic_s() + timeout_s
        deadline = turn.now + timedelta(seconds=timeout_s)
        changed = self.decide(turn, order, SlotReserved(deadline, order.order_id in self._cleared, cause))
        if changed is None:
            self._not_yet(turn, order)
            return False
        self._cleared.discard(order.order_id)
        self._doubts.begin(order.order_id, deadline_s)
        turn.calls.append((lane, changed, Deadline(deadline_s, deadline.timestamp())))
        return True

    def _not_yet(self, turn: Turn, order: Order) -> None:
        """A plan whose time came, and is to come again since the wall clock was set back."""
        if order.next_act is Act.ATTEMPT and order.next_at is not None and order.next_at > turn.now:
            self._agenda.at(order.next_at, order)

    # --- what follows -------------------------------------------------------------------------------------------------

    def decide(self, turn: Turn, order: Order | None, what: Input) -> Order | None:
        return self._apply(turn, order, decide(order, what, self._rules, turn.now))

    def _apply(self, turn: Turn, order: Order | None, decision: Decision) -> Order | None:
        """Take a decision into memory and into the turn; the changed order, or None where nothing follows."""
        if decision.pending is not None and order is not None:
            order = order.with_pending(decision.pending, decision.cause)
            self._keep(turn, order)
            self._act(order)
            return order
        planned: Next | None = None
        for event in decision.events:
            order = evolve(order, event)
            planned = event.__dict__.get("next", planned)  # not all have one; pydantic's own way to say so is slow
            turn.event(event)
        if order is None or not decision.events:
            return None
        self._keep(turn, order)
        if planned is not None and planned.schedule_id == order.schedule_id:
            self._plan(turn, order, planned)
        return order

    def _keep(self, turn: Turn, order: Order) -> None:
        self._book.put(order)
        turn.touched[order.order_id] = order
        if order.state in ENDS:
            self._doubts.forget(order.order_id)
            self._unanswered.pop(order.order_id, None)

    def _plan(self, turn: Turn, order: Order, planned: Next) -> None:
        """See to it that the next act comes: at once, by a delayed topic, or by the clock alone."""
        delay = planned.at - turn.now
        topic = retry_topic(delay.total_seconds())
        if delay <= timedelta(0):
            self._act(order)
        elif topic in self._delay_topics:
            turn.delayed(topic, order, planned)
            self._agenda.carried(planned.at, order)
        else:
            self._agenda.at(planned.at, order)
