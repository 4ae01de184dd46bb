"""A service with a fault planted in it: `python -m tests.survival.planted FAULT`. The checker must notice each."""

import asyncio
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from schemas.fulfillment import Act, AttemptVoided, Source, VoidReason
from services.fulfiller import __main__ as fulfiller
from services.fulfiller import calls, delayed, dispatch, events, fulfillment, intake, kafka_log, order, shard, takeover
from services.fulfiller.book import Book
from services.fulfiller.inputs import NOTHING, Decision, SlotReserved
from services.fulfiller.positions import Positions
from services.projector import __main__ as projector
from services.projector import writer


def _around(owner: Any, name: str, make: Callable[[Any], Any]) -> None:
    """Put in its place what is made of what is there; AttributeError where nothing is."""
    setattr(owner, name, make(getattr(owner, name)))


def _instead(owner: Any, name: str, other: Any) -> None:
    _around(owner, name, lambda _: other)


def forgets_an_order() -> None:
    """Position committed, order dropped."""
    _instead(intake.Intake, "_take_order", lambda *_: True)


def calls_before_the_intent() -> None:
    """The call begins while its intent is being written; the process dies before it is."""

    async def commit(self: Any, turn: Any) -> None:
        for lane, attempted, deadline in turn.calls:
            self._calls.send(lane, attempted, deadline)
        while not self._calls.settled:
            if self._calls.replies:
                os.kill(os.getpid(), 9)
            await asyncio.sleep(0.01)
        turn.calls.clear()
        await self._writer.commit(turn.records)

    _instead(shard.Shard, "_commit", commit)


def new_reference_for_each_attempt() -> None:
    _instead(order.Order, "reference", property(lambda self: f"{self.order_id}-r{self.attempts + 1}"))


def retries_early() -> None:
    ahead = timedelta(hours=2)

    def decide(real: Any) -> Any:
        def early(known: Any, what: Any, rules: Any, now: datetime) -> Decision:
            decision: Decision = real(known, what, rules, now + ahead * isinstance(what, SlotReserved))
            if not isinstance(what, SlotReserved):
                return decision
            return decision._replace(events=tuple(e.model_copy(update={"at": now}) for e in decision.events))

        return early

    _around(dispatch, "decide", decide)
    _around(delayed.DelayedTopics, "due", lambda real: lambda self, now, at_most: real(self, now + ahead, at_most))


def sends_again_what_is_unknown() -> None:
    """A timeout is taken for a failure."""

    def uncertain(known: Any, outcome: Any, rules: Any, now: datetime, **_: Any) -> Decision:
        return events.failed(known, outcome, Source.REPLY, rules, now)

    _instead(events, "uncertain", uncertain)


def repeats_what_is_in_doubt() -> None:
    """An attempt found at a takeover is taken for never sent."""

    def expired(known: Any, _what: Any, _rules: Any, now: datetime) -> Decision:
        said = events.common(known, now) | {"attempt": known.attempts, "reference": known.reference}
        plan = events.planned(known, Act.ATTEMPT, timedelta(0), now)
        return Decision((AttemptVoided(**said, void_reason=VoidReason.NOT_SENT, next=plan),))

    def verified(real: Any) -> Any:
        def believes_nothing(known: Any, *rest: Any) -> Decision:
            return NOTHING if known.state is order.State.ATTEMPTING else real(known, *rest)

        return believes_nothing

    for what, decider in list(fulfillment._DECIDERS.items()):  # noqa: SLF001 - where it is planted
        if what.__name__ == "DoubtExpired":
            fulfillment._DECIDERS[what] = expired  # noqa: SLF001 - as above
        if what.__name__ == "Verified":
            fulfillment._DECIDERS[what] = verified(decider)  # noqa: SLF001 - as above


def skips_the_reload() -> None:
    """A new owner begins with nothing, from the beginning of its inputs."""

    def load(real: Any) -> Any:
        async def nothing(*asked: Any) -> Any:
            loaded = await real(*asked)
            return replace(loaded, book=Book(), positions=Positions())

        return nothing

    async def check(*_: Any) -> None:
        """See nothing."""

    _around(takeover, "_load", load)
    _instead(takeover, "_check_tail", check)


def fences_nobody() -> None:
    """A transactional id for each process instead of each partition."""

    def transactions(real: Any) -> Any:
        def of_this_process(client: Any, transactional_id: str, timeout_ms: int) -> Any:
            return real(client, f"{transactional_id}-{os.getpid()}", timeout_ms)

        return of_this_process

    _around(kafka_log, "Transactions", transactions)


def says_phone_numbers() -> None:
    _instead(calls, "masked_phone", lambda phone: phone)


def passes_over_events() -> None:
    """The projector does, for some orders."""

    def sort(real: Any) -> Any:
        def some(*asked: Any) -> Any:
            batch = real(*asked)
            batch.events[:] = [told for told in batch.events if told[0].order_id < "8"]
            return batch

        return some

    _around(writer, "sort", sort)


FAULTS: Final[dict[str, Callable[[], None]]] = {
    fault.__name__: fault
    for fault in (
        forgets_an_order,
        calls_before_the_intent,
        new_reference_for_each_attempt,
        retries_early,
        sends_again_what_is_unknown,
        repeats_what_is_in_doubt,
        skips_the_reload,
        fences_nobody,
        says_phone_numbers,
        passes_over_events,
    )
}

if __name__ == "__main__":
    name = sys.argv.pop()
    FAULTS[name]()
    (projector if FAULTS[name] is passes_over_events else fulfiller).app()
