"""SIGKILL of a fulfiller, wherever it hurts; another takes over, and every bundle is delivered once."""

import uuid
from datetime import UTC, datetime

import pytest

from schemas.commands import RetryFulfillment
from services.sandbox.faults import magic_number
from tests.stand import Stand
from tests.survival.conftest import Stands
from tests.survival.scenarios import Ran, side_by_side

pytestmark = [pytest.mark.survival, pytest.mark.timeout(240)]

ORDERS = 6


async def _kill_at(stand: Stand, point: str) -> list[str]:
    """The orders, of which one was being worked on when the victim died at the point."""
    stand.projector()
    victim = stand.fulfiller(f"{point}:kill")
    await victim.ready()
    orders = await stand.orders([stand.new_phone() for _ in range(ORDERS)])
    await victim.died_at(point)
    return orders


async def _mend(stand: Stand, orders: list[str]) -> dict[str, int]:
    """Another takes over, and goes on to new orders; how often each order was sent."""
    await stand.fulfiller().ready()
    orders = [*orders, await stand.order()]
    await stand.reached(orders, "delivered")
    await stand.proven()
    return await stand.sandbox.sends()


async def _polled(stand: Stand) -> None:
    orders = await _kill_at(stand, "fulfiller.polled")
    assert not await stand.sandbox.sends()
    sends = await _mend(stand, orders)
    assert all(sends[order] == 1 for order in orders)


async def _intent_committed(stand: Stand) -> None:
    orders = await _kill_at(stand, "fulfiller.intent_committed")
    assert not await stand.sandbox.sends()
    sends = await _mend(stand, orders)
    assert all(sends[order] == 1 for order in orders)
    attempts = [row["attempt_number"] for row in (await stand.rows(orders)).values()]
    assert max(attempts) == 2, "the attempt whose call never began is proven to have delivered nothing"


async def _request_sent(stand: Stand) -> None:
    # Whether the request arrives is the kernel's affair: the checker's, then, that it is delivered once.
    await _mend(stand, await _kill_at(stand, "fulfiller.request_sent"))


async def _call_under_way(stand: Stand) -> None:
    """Killed from outside, while the provider works on the call, or has delivered and not answered yet."""
    stand.projector()
    victim = stand.fulfiller()
    await victim.ready()
    orders = await stand.orders([magic_number("hold"), magic_number("hold_first")] * 2)
    await stand.sandbox.reached("held", len(orders))
    victim.kill()
    assert await stand.sandbox.release() == len(orders)
    sends = await _mend(stand, orders)
    assert all(sends[order] == 1 for order in orders)


async def _replied(stand: Stand, point: str) -> None:
    orders = await _kill_at(stand, point)
    ledger = await stand.sandbox.ledger()
    assert any(known["deliveries"] == 1 for known in ledger.values()), "a reply was in hand"
    sends = await _mend(stand, orders)
    assert all(sends[order] == 1 for order in orders)


async def _reply_in_hand(stand: Stand) -> None:
    await _replied(stand, "fulfiller.replied")


async def _outcome_uncommitted(stand: Stand) -> None:
    await _replied(stand, "fulfiller.outcome_uncommitted")


async def _takeover(stand: Stand) -> None:
    """Recovery is itself killed, twice, while it has calls of a killed one to find out about."""
    stand.projector()
    victim = stand.fulfiller()
    await victim.ready()
    orders = await stand.orders([magic_number("hold"), stand.new_phone(), magic_number("hold_first")])
    await stand.sandbox.reached("held", 2)
    victim.kill()
    for nth in (1, 2):
        await stand.fulfiller(f"fulfiller.takeover:kill:{nth}").died_at("fulfiller.takeover")
    await stand.sandbox.release()
    sends = await _mend(stand, orders)
    assert all(sends[order] == 1 for order in orders)


async def _persons_retry(stand: Stand) -> None:
    """A person asks for what is due only in an hour; the worker dies with the reply in hand."""
    stand.projector()
    victim = stand.fulfiller("fulfiller.replied:kill:2")
    await victim.ready()
    order = await stand.order(magic_number("busy", times=1))
    await stand.reached([order], "waiting")
    command = RetryFulfillment(command_id=str(uuid.uuid4()), order_id=order, actor="tests", at=datetime.now(UTC))
    await stand.command(command)
    await victim.died_at("fulfiller.replied")
    # Said twice, and understood once.
    await stand.command(command)
    sends = await _mend(stand, [order])
    assert sends[order] == 2


async def _asked_to_end(stand: Stand) -> None:
    """SIGTERM while the provider hangs: it ends in time, and what it could not wait for is found out by the next."""
    stand.projector()
    worker = stand.fulfiller(AT_ISHARE_TIMEOUT_S="30")
    await worker.ready()
    orders = await stand.orders([magic_number("hold"), stand.new_phone(), magic_number("hold")])
    await stand.sandbox.reached("held", 2)
    await worker.stop()
    await stand.sandbox.release()
    sends = await _mend(stand, orders)
    assert all(sends[order] == 1 for order in orders)


SCENARIOS = {
    "polled": _polled,
    "intent committed, call not begun": _intent_committed,
    "request sent": _request_sent,
    "call under way": _call_under_way,
    "reply in hand": _reply_in_hand,
    "outcome not committed": _outcome_uncommitted,
    "in mid-takeover": _takeover,
    "on a person's retry": _persons_retry,
    "asked to end": _asked_to_end,
}
LONG_DELAYS = {"on a person's retry": {"retry_delays": (3600.0,)}}


@pytest.fixture(scope="module")
def ran(stands: Stands) -> Ran:
    return side_by_side(stands, SCENARIOS, LONG_DELAYS)


@pytest.mark.parametrize("when", SCENARIOS)
def test_a_fulfiller_is_killed(when: str, ran: Ran) -> None:
    ran.held(when)
