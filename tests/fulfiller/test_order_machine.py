"""Any inputs, legal and not, in any order and at any time: what must hold about an order all the same."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import reduce
from typing import Any, Final

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from schemas.cloudevents import json_value
from schemas.commands import COMMAND_TYPES, Command
from schemas.fulfillment import FulfillmentAttempted, FulfillmentEvent, Trigger, read_event
from schemas.ids import reference
from schemas.poison import PoisonError
from services.fulfiller.book import Book
from services.fulfiller.evolution import evolve
from services.fulfiller.fulfillment import confirms_failure, decide
from services.fulfiller.inputs import Asked, Commanded, DoubtExpired, Input, Received, Replied, SlotReserved, Verified
from services.fulfiller.order import ENDS, Order, State, dump_order, load_order
from services.fulfiller.providers.memory import MEMORY_PROFILE
from services.fulfiller.providers.port import Outcome, OutcomeClass
from services.fulfiller.retry import Rules
from tests.fulfiller.lives import CALL_TIMEOUT, Life, cause, command, order_created

DELAYS_S: Final = st.lists(st.floats(0.5, 7200), min_size=1, max_size=4).map(tuple)
STEPS: Final = st.one_of(
    st.just(timedelta(0)), st.timedeltas(timedelta(0), timedelta(hours=2)), st.just(timedelta(days=1, seconds=1))
)
TRANSACTIONS: Final = st.one_of(st.none(), st.sampled_from(["T-1", "T-2", "T-3", "T-4"]))
REPLIES: Final = [kind for kind in OutcomeClass if kind not in {OutcomeClass.NOT_FOUND, OutcomeClass.NO_ANSWER}]
ANSWERS: Final = [
    OutcomeClass.DELIVERED,
    OutcomeClass.ACCEPTED,
    OutcomeClass.DECLINED_PERMANENT,
    OutcomeClass.DECLINED_TRANSIENT,
    OutcomeClass.NOT_FOUND,
    OutcomeClass.NO_ANSWER,
]
MAY_BE_ATTEMPTED: Final = {State.CREATED, State.HELD, State.WAITING, State.FAILED}


@st.composite
def rules_(draw: st.DrawFn) -> Rules:
    profile = replace(
        MEMORY_PROFILE,
        status_query=draw(st.sampled_from([True, True, True, False])),
        idempotent_references=draw(st.sampled_from([True, True, False])),
    )
    return Rules(
        retry_delays_s=draw(DELAYS_S),
        max_attempts=draw(st.integers(1, 4)),
        verify_delays_s=draw(DELAYS_S),
        providers={profile.name: profile} if draw(st.integers(0, 19)) else {},
    )


def outcomes(kinds: Sequence[OutcomeClass]) -> st.SearchStrategy[Outcome]:
    return st.builds(
        Outcome,
        kind=st.sampled_from(kinds),
        code=st.sampled_from([None, "OK", "BARRED", "E4711"]),
        transaction_id=TRANSACTIONS,
        duplicate=st.booleans(),
        retry_after_s=st.sampled_from([None, 0.0, 0.25, 7.0, 3600.0]),
        raw=st.sampled_from([None, {"status": "failed", "nested": {"a": [1, None, "é"]}}]),
    )


def settled(order: Order) -> Order:
    """Without the command that waits, which is in no event."""
    return replace(order, pending=None, pending_cause=None)


class OrderMachine(RuleBasedStateMachine):
    @initialize(rules=rules_())
    def begin(self, rules: Rules) -> None:
        self.life = Life(rules)
        self.before: Order | None = None
        self.commands = 0
        self.feed(Received(order_created(), cause(0)))

    def is_in(self, *states: State) -> bool:
        return self.life.order is not None and self.life.order.state in states

    def feed(self, what: Input) -> None:
        self.before = self.life.order
        try:
            events = self.life.feed(what)
        except PoisonError:
            assert isinstance(what, Received | Commanded)
            return
        for event in events:
            self.check(event)
            self.before = evolve(self.before, event)

    def check(self, event: FulfillmentEvent) -> None:
        assert read_event(json_value(event)) == event
        if not isinstance(event, FulfillmentAttempted):
            return
        before = self.before
        assert before is not None
        assert before.state in MAY_BE_ATTEMPTED, "what may have been delivered is never sent again"
        overridden = before.overrides + (event.trigger is Trigger.OVERRIDE)
        assert event.reference == reference(event.order_id, overridden)
        assert event.attempt == before.attempts + 1
        if not overridden:
            assert event.attempt <= event.max_attempts == self.life.rules.max_attempts
        if event.trigger in {Trigger.FIRST, Trigger.RETRY}:
            assert before.next_at is not None
            assert before.next_at <= event.at, "never before its time"
            assert event.command is None
        else:
            assert event.command is not None
            assert event.cause is not None

    # --- inputs -------------------------------------------------------------------------------------------------------

    @rule(step=STEPS)
    def time_goes_on(self, step: timedelta) -> None:
        self.life.now += step

    @rule(network=st.sampled_from(["AT-iShare", "MTN"]), size_mb=st.sampled_from([1000, 500]))
    def created(self, network: str, size_mb: int) -> None:
        self.feed(Received(order_created(network=network, size_mb=size_mb), cause(1)))

    @rule(kind=st.sampled_from(COMMAND_TYPES), delivered=st.booleans(), again=st.booleans())
    def commanded(self, kind: type[Command], *, delivered: bool, again: bool) -> None:
        self.commands += not again
        self.feed(Commanded(command(kind, self.commands, delivered=delivered), cause(2)))

    @rule(outcome=outcomes(REPLIES))
    def out_of_place(self, outcome: Outcome) -> None:
        """What may come late, early or twice."""
        for what in (SlotReserved(self.life.now + CALL_TIMEOUT), Replied(outcome), DoubtExpired()):
            self.feed(what)

    @precondition(lambda self: self.is_in(*MAY_BE_ATTEMPTED))
    @rule(is_due=st.booleans())
    def slot(self, *, is_due: bool) -> None:
        if is_due:
            self.life.until_due()
        self.feed(SlotReserved(self.life.now + CALL_TIMEOUT))

    @precondition(lambda self: self.is_in(State.ATTEMPTING))
    @rule(outcome=outcomes(REPLIES))
    def replied(self, outcome: Outcome) -> None:
        self.feed(Replied(outcome))

    @precondition(lambda self: self.is_in(State.ATTEMPTING))
    @rule(outcome=outcomes(REPLIES))
    def declined(self, outcome: Outcome) -> None:
        """The way to all that follows."""
        self.feed(Replied(outcome._replace(kind=OutcomeClass.DECLINED_TRANSIENT, duplicate=False)))

    @precondition(lambda self: self.life.order is not None)
    @rule(
        outcome=outcomes(ANSWERS),
        counts=st.sampled_from([(False, False), (True, False), (True, True)]),
        is_due=st.booleans(),
    )
    def verified(self, outcome: Outcome, counts: tuple[bool, bool], *, is_due: bool) -> None:
        """As the shard does: about an order to be overridden, an answer clears the way or stands in it."""
        if is_due:
            self.life.until_due()
        what = Verified(outcome, *counts)
        order = self.life.order
        if order is None or order.pending is None or order.state is not State.FAILED:
            self.feed(what)
        elif confirms_failure(order, what, self.life.rules, self.life.now):
            self.feed(SlotReserved(self.life.now + CALL_TIMEOUT, cleared=True))
        else:
            self.feed(Asked(outcome, order.reference))

    # --- what holds ---------------------------------------------------------------------------------------------------

    @invariant()
    def holds(self) -> None:
        order, events = self.life.order, self.life.events
        if order is None:
            assert not events
            return
        assert [event.sequence for event in events] == list(range(1, len(events) + 1))
        folded = reduce(evolve, events, None)
        assert folded == settled(order), "replay = the fold as it went"
        if order.state in ENDS or order.state is State.HELD:
            assert order.next_act is None
            assert order.next_at is None
        else:
            assert order.next_act is not None
            assert order.next_at is not None
        assert (order.ended_at is not None) == (order.state in ENDS)
        assert load_order(dump_order(order)) == order

    @invariant()
    def is_remembered(self) -> None:
        """What a book gives back answers whatever may still come as the order itself would."""
        order = self.life.order
        if order is None:
            return
        book = Book()
        book.put(order)
        kept = book.get(order.order_id)
        assert kept is not None
        assert (order.is_open or order.state is State.FAILED) <= (kept == order)
        for what in self.still_to_come():
            assert self.answer(kept, what) == self.answer(order, what)

    def still_to_come(self) -> list[Input]:
        return [
            *(Received(order_created(size_mb=size_mb), cause(3)) for size_mb in (1000, 500)),
            *(Commanded(command(kind, 999), cause(3)) for kind in COMMAND_TYPES),
            SlotReserved(self.life.now + CALL_TIMEOUT),
            DoubtExpired(),
            Replied(Outcome(OutcomeClass.DELIVERED)),
            Verified(Outcome(OutcomeClass.DELIVERED), failed_counts=True, not_found_counts=True),
        ]

    def answer(self, order: Order, what: Input) -> Any:
        try:
            return decide(order, what, self.life.rules, self.life.now)
        except PoisonError as error:
            return error.kind


OrderMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestOrderMachine = OrderMachine.TestCase
