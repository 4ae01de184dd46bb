"""docs/order-life.md, its table and its drawing, held to the code: neither says what the other does not."""

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from schemas.commands import (
    COMMAND_TYPES,
    CancelFulfillment,
    Command,
    OverrideFulfillment,
    ResolveFulfillment,
    RetryFulfillment,
    TriggerFulfillment,
)
from schemas.poison import PoisonError
from services.fulfiller.fulfillment import confirms_failure
from services.fulfiller.inputs import Asked, Commanded, DoubtExpired, Received, Verified
from services.fulfiller.order import State
from services.fulfiller.providers.port import Outcome, OutcomeClass
from services.fulfiller.retry import UNANSWERED_LIMIT, Rules
from services.projector.projection import STATUS
from tests.fulfiller import lives
from tests.fulfiller.lives import SITUATIONS, Life, cause, command, order_created, replied, slot, verified

PAGE: Final = Path(__file__).parents[2] / "docs" / "order-life.md"


class Transition(NamedTuple):
    state: str
    given: str
    events: tuple[str, ...]
    then: str


# --- the code -------------------------------------------------------------------------------------------------------


def commanded(kind: type[Command], *, delivered: bool = True) -> Commanded:
    # Another one than those that brought the order where it is.
    return Commanded(command(kind, 2, delivered=delivered), cause(1))


def with_slot(kind: type[Command]) -> Callable[[Life], None]:
    def act(life: Life) -> None:
        life.rules = lives.RULES
        life.feed(commanded(kind))
        if life.order is not None and life.order.pending is not None:
            life.feed(slot(life.now))

    return act


def resolve(answer: Verified, *, delivered: bool) -> Callable[[Life], None]:
    def act(life: Life) -> None:
        life.feed(commanded(ResolveFulfillment, delivered=delivered))
        if life.order is not None and life.order.pending is not None:
            life.feed(answer)

    return act


def override(answer: Verified) -> Callable[[Life], None]:
    """As the shard does: ask first."""

    def act(life: Life) -> None:
        life.feed(commanded(OverrideFulfillment))
        if life.order is None or life.order.pending is None:
            return
        if confirms_failure(life.order, answer, life.rules, life.now):
            life.feed(slot(life.now, cleared=True))
        else:
            life.feed(Asked(answer.outcome, life.order.reference))

    return act


def after_an_hour_away(life: Life) -> None:
    life.feed(replied(OutcomeClass.TURNED_AWAY))
    life.now += timedelta(hours=1)
    life.attempting()
    del life.events[:]
    life.feed(replied(OutcomeClass.TURNED_AWAY))


def duplicate_on_a_first_send(life: Life) -> None:
    if life.known.is_first_send:
        life.feed(replied(OutcomeClass.DELIVERED, "T-x", duplicate=True))


def earlier_attempt_failed(life: Life) -> None:
    if life.order is not None and life.order.spent_transaction_ids:
        spent = life.order.spent_transaction_ids[0]
        life.until_due().feed(verified(OutcomeClass.DECLINED_TRANSIENT, spent, not_found_counts=False))


def conflicting(life: Life) -> None:
    if life.order is not None:
        life.feed(Received(order_created(size_mb=5000), cause()))


def day_without_answer(life: Life) -> None:
    life.until_due().now += UNANSWERED_LIMIT
    life.feed(verified(OutcomeClass.NO_ANSWER))


def of_rules(rules: Rules, act: Callable[[Life], object]) -> Callable[[Life], None]:
    def acting(life: Life) -> None:
        life.rules = rules
        act(life)

    return acting


NOT_FOUND = verified(OutcomeClass.NOT_FOUND)
TOO_EARLY = verified(OutcomeClass.NOT_FOUND, not_found_counts=False)
THIS = verified(OutcomeClass.DECLINED_TRANSIENT, "T-new", not_found_counts=False)
IS_DELIVERED = verified(OutcomeClass.DELIVERED, "T-ok")
IS_QUEUED = verified(OutcomeClass.ACCEPTED)
NO_ANSWER = verified(OutcomeClass.NO_ANSWER)

INPUTS: Final[dict[str, Callable[[Life], object]]] = {
    "OrderCreated": of_rules(lives.RULES, lambda life: life.feed(Received(order_created(), cause()))),
    "OrderCreated, nobody serves the network": of_rules(
        lives.NOBODY, lambda life: life.feed(Received(order_created(), cause()))
    ),
    "OrderCreated with another phone, size or network": conflicting,
    "due, a slot": lambda life: life.until_due().feed(slot(life.now)),
    "TriggerFulfillment, a slot": with_slot(TriggerFulfillment),
    "RetryFulfillment, a slot": with_slot(RetryFulfillment),
    "CancelFulfillment": lambda life: life.feed(commanded(CancelFulfillment)),
    "OverrideFulfillment, proven undelivered, a slot": override(NOT_FOUND),
    "OverrideFulfillment, delivered after all": override(IS_DELIVERED),
    "OverrideFulfillment, not proven": override(NO_ANSWER),
    "ResolveFulfillment delivered, not contradicted": resolve(TOO_EARLY, delivered=True),
    "ResolveFulfillment delivered, proven undelivered": resolve(NOT_FOUND, delivered=True),
    "ResolveFulfillment not delivered, not contradicted": resolve(NO_ANSWER, delivered=False),
    "ResolveFulfillment not delivered, still queued": resolve(IS_QUEUED, delivered=False),
    "ResolveFulfillment not delivered, delivered after all": resolve(IS_DELIVERED, delivered=False),
    "reply: delivered": lambda life: life.feed(replied(OutcomeClass.DELIVERED, "T-ok")),
    "reply: accepted": lambda life: life.feed(replied(OutcomeClass.ACCEPTED, "T-new")),
    "reply: declined for good": lambda life: life.feed(replied(OutcomeClass.DECLINED_PERMANENT)),
    "reply: declined for now": lambda life: life.feed(replied(OutcomeClass.DECLINED_TRANSIENT)),
    "reply: declined for now, no status query": of_rules(
        lives.BLIND, lambda life: life.feed(replied(OutcomeClass.DECLINED_TRANSIENT))
    ),
    "reply: never left": lambda life: life.feed(replied(OutcomeClass.NOT_SENT)),
    "reply: turned away": lambda life: life.feed(replied(OutcomeClass.TURNED_AWAY)),
    "reply: provider suspended": lambda life: life.feed(replied(OutcomeClass.SUSPENDED)),
    "reply: unknown": lambda life: life.feed(replied(OutcomeClass.UNKNOWN)),
    "reply: unknown, no status query": of_rules(lives.BLIND, lambda life: life.feed(replied(OutcomeClass.UNKNOWN))),
    "in doubt after a takeover, deadline passed": lambda life: life.feed(DoubtExpired()),
    "query: delivered": lambda life: life.until_due().feed(IS_DELIVERED),
    "query: queued": lambda life: life.until_due().feed(IS_QUEUED),
    "query: this attempt failed": lambda life: life.until_due().feed(THIS),
    "query: an earlier attempt failed": earlier_attempt_failed,
    "query: not found, as proof": lambda life: life.until_due().feed(NOT_FOUND),
    "query: not found, as proof, references not idempotent": of_rules(
        lives.FORGETFUL, lambda life: life.until_due().feed(NOT_FOUND)
    ),
    "query: not found, too early": lambda life: life.until_due().feed(TOO_EARLY),
    "query: no answer": lambda life: life.until_due().feed(NO_ANSWER),
    "query: no answer for a day": day_without_answer,
}
COMMANDS: Final = [given for given in INPUTS if given.startswith(tuple(kind.__name__ for kind in COMMAND_TYPES))]
ATTEMPTING_ONLY: Final[dict[str, Callable[[Life], object]]] = {
    "reply: turned away, an hour of it": after_an_hour_away,
    "reply: duplicate, on a first send": duplicate_on_a_first_send,
}
NOBODY_SERVES: Final = "TriggerFulfillment, nobody serves the network"


def said_by_the_code() -> set[Transition]:
    """Whatever an input makes happen to an order in each state."""
    return set(_said_by_the_code())


def _said_by_the_code() -> Iterator[Transition]:
    for state, ways in SITUATIONS.items():
        inputs = dict(INPUTS)
        if state == "attempting":
            inputs |= ATTEMPTING_ONLY
        if state == "held":
            inputs[NOBODY_SERVES] = lambda life: life.feed(commanded(TriggerFulfillment))
        for way in ways:
            for given, act in inputs.items():
                life = way()
                assert state in {"no order", life.order and life.order.state}
                del life.events[:]
                try:
                    act(life)
                except PoisonError as error:
                    yield Transition(state, given, (f"dead letter: {error.kind}",), state)
                    continue
                if life.events:
                    events = tuple(type(event).__name__ for event in life.events)
                    yield Transition(state, given, events, life.known.state)


# --- the page -------------------------------------------------------------------------------------------------------


def rows(heading: str) -> list[list[str]]:
    """A table's cells, below its head."""
    section = PAGE.read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


ANY_OTHER: Final = "any other"


def said_by_the_page() -> set[Transition]:
    said: set[Transition] = set()
    for states, inputs, events, then, *_ in rows("What happens"):
        if states == ANY_OTHER:
            continue
        for state in states.split(" · "):
            for given in COMMANDS if inputs == "a command" else inputs.split(" · "):
                for after in then.split(" / "):
                    said.add(
                        Transition(state, given, tuple(events.split(" + ")), state if after == "the same" else after)
                    )
    return said


def rejections(code: set[Transition]) -> set[Transition]:
    """What the last row of the table says at once."""
    assert [row[:4] for row in rows("What happens") if row[0] == ANY_OTHER] == [
        [ANY_OTHER, "a command", "CommandRejected", "the same"]
    ]
    return {row for row in code if row.events == ("CommandRejected",) and row.state == row.then}


def test_table_says_what_the_code_does() -> None:
    page, code = said_by_the_page(), said_by_the_code()
    assert sorted(code - rejections(code) - page) == [], "the code does, the page does not say"
    assert sorted(page - code) == [], "the page says, the code does not do"


def test_every_command_is_answered_in_every_state() -> None:
    answered = {(row.state, row.given.split(maxsplit=1)[0].rstrip(",")) for row in said_by_the_code()}
    for state in SITUATIONS:
        for kind in COMMAND_TYPES:
            assert (state, kind.__name__) in answered


def test_drawing_has_the_table_s_ways() -> None:
    drawing = PAGE.read_text().split("```mermaid\n")[1].split("```")[0]
    drawn = {(a, b) for a, b in re.findall(r"^\s*(\S+) --> (\S+?)(?: *:.*)?$", drawing, re.MULTILINE) if b != "[*]"}
    ends = {a for a, b in re.findall(r"^\s*(\S+) --> (\S+)\s*$", drawing, re.MULTILINE) if b == "[*]"}
    said = {("[*]" if row.state == "no order" else row.state, row.then) for row in said_by_the_page()}
    assert drawn == {(a, b) for a, b in said if b not in {a, "no order"}}
    assert ends == {"delivered", "failed", "cancelled"}


def test_states_of_the_page_are_the_code_s() -> None:
    named = [row[0] for row in rows("States")]
    assert set(named) == {*State, "received", "rejected"}, "the view alone knows received and rejected"
    assert len(named) == len(set(named))


@pytest.mark.parametrize("state", [state for state in SITUATIONS if state != "no order"])
def test_next_act_is_the_page_s(state: str) -> None:
    said = next(row for row in rows("States") if row[0] == state)
    for way in SITUATIONS[state]:
        order = way().known
        assert (order.next_act or "none") == said[2]
        assert (order.next_at is None) == (order.next_act is None)


def test_every_outcome_is_tried() -> None:
    heard = {outcome.value for outcome in OutcomeClass}
    replies = {
        OutcomeClass.DELIVERED, OutcomeClass.ACCEPTED, OutcomeClass.DECLINED_PERMANENT, OutcomeClass.DECLINED_TRANSIENT,
        OutcomeClass.NOT_SENT, OutcomeClass.TURNED_AWAY, OutcomeClass.SUSPENDED, OutcomeClass.UNKNOWN,
    }  # fmt: skip
    queries = {what.outcome.kind for what in (NOT_FOUND, TOO_EARLY, THIS, IS_DELIVERED, IS_QUEUED, NO_ANSWER)}
    assert {Outcome(kind).kind.value for kind in replies | queries} == heard


def test_statuses_of_the_page_are_the_view_s() -> None:
    assert {row[0]: row[1] for row in rows("States")} == STATUS
