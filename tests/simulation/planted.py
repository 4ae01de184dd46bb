"""Bugs put into the product in memory, to see that the simulation notices."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, Final

from services.fulfiller import delayed, dispatch, events, intake, shard, takeover
from services.fulfiller.book import Book
from services.fulfiller.inputs import SlotReserved
from services.fulfiller.log import LogError
from services.fulfiller.positions import Positions
from services.gateway import purchase
from services.projector import view
from tests.simulation import broker, log, provider
from tests.simulation.network import Lost


def forgets_an_order() -> None:
    """The position is committed, the order dropped, now and then."""
    real = intake.Intake._take_order  # noqa: SLF001 - where it is planted

    def take(self: Any, turn: Any, record: Any) -> bool:
        return record.offset % 50 == 7 or real(self, turn, record)

    intake.Intake._take_order = take  # noqa: SLF001 - as above


def calls_before_the_intent() -> None:
    real = shard.Shard._commit  # noqa: SLF001 - as above

    async def commit(self: Any, turn: Any) -> None:
        for lane, order, deadline in turn.calls:
            self._calls.send(lane, order, deadline)
        turn.calls.clear()
        await real(self, turn)

    shard.Shard._commit = commit  # noqa: SLF001 - as above


def skips_the_reload() -> None:
    real = takeover._load  # noqa: SLF001 - as above

    async def load(*asked: Any) -> Any:
        return replace(await real(*asked), book=Book(), positions=Positions())

    async def check(*_: Any) -> None:
        """See nothing."""

    takeover._load = load  # noqa: SLF001 - as above
    takeover._check_tail = check  # noqa: SLF001 - as above


def sends_again_what_is_unknown() -> None:
    def uncertain(known: Any, outcome: Any, rules: Any, now: Any, **_: Any) -> Any:
        return events.failed(known, outcome, events.Source.REPLY, rules, now)

    events.uncertain = uncertain


def fences_nobody() -> None:
    """The broker lets every epoch write."""

    def held(self: Any, name: str, _epoch: int) -> Any:
        return self._identity(name)

    broker.Broker._held = held  # noqa: SLF001 - as above


def awaits_no_batch() -> None:
    """A failed batch does not fail aiokafka's transaction: here nobody looks whether one did."""

    async def commit(self: Any, records: Any) -> None:
        until_s = self._log.broker.loop.now_s + log.WATCHDOG_S
        for answer in self._sends(records, until_s):
            with suppress(LogError, Lost):
                await answer
        await self._step(None, lambda: self._log.broker.end(self._name, self._epoch, commit=True), until_s)

    log.SimWriter._commit = commit  # noqa: SLF001 - as above


def leaves_what_the_broker_forgot() -> None:
    """Nobody looks whether what was committed has its end."""

    async def nothing(*_: Any) -> None:
        """See to nothing."""

    log.SimWriter._have_ended = nothing  # type: ignore[method-assign] # noqa: SLF001 - as above


def moves_no_position() -> None:
    """The view's positions are moved outside its transaction."""
    real = view.View._move  # noqa: SLF001 - as above

    async def move(self: Any, batch: Any, moves: Any) -> None:
        await real(self, batch, moves)
        self._connection._undo.clear()  # noqa: SLF001 - as above

    view.View._move = move  # noqa: SLF001 - as above


def retries_early() -> None:
    """Delayed records are taken early, and nobody looks at the time again."""
    real, due = dispatch.decide, delayed.DelayedTopics.due

    def decide(order: Any, what: Any, rules: Any, now: datetime) -> Any:
        if isinstance(what, SlotReserved) and order is not None and order.next_at is not None:
            return real(order, what, rules, max(now, order.next_at))
        return real(order, what, rules, now)

    dispatch.decide = decide
    delayed.DelayedTopics.due = lambda self, now, at_most: due(self, now + timedelta(minutes=4), at_most)


def believes_not_found_at_once() -> None:
    real = dispatch.Dispatch._verified  # noqa: SLF001 - as above

    def verified(self: Any, order: Any, answer: Any) -> Any:
        return replace(real(self, order, answer), failed_counts=True, not_found_counts=True)

    dispatch.Dispatch._verified = verified  # noqa: SLF001 - as above


def looks_at_no_deadline() -> None:
    """A call begins however late."""
    provider.Adapter._left_s = lambda *_: provider.PROFILE.call_timeout_s  # noqa: SLF001 - as above


def makes_an_order_of_every_request() -> None:
    """The Idempotency-Key is read and forgotten."""
    purchase.ids = SimpleNamespace(order_id=lambda *_: str(purchase.uuid.uuid4()))


PLANTED: Final[dict[str, Callable[[], None]]] = {
    plant.__name__: plant
    for plant in (
        forgets_an_order,
        calls_before_the_intent,
        skips_the_reload,
        sends_again_what_is_unknown,
        fences_nobody,
        awaits_no_batch,
        leaves_what_the_broker_forgot,
        moves_no_position,
        retries_early,
        believes_not_found_at_once,
        looks_at_no_deadline,
        makes_an_order_of_every_request,
    )
}
