"""Faults are planted in real services: the checker notices each, so that its silence elsewhere means something."""

import asyncio
import re

import pytest

from services.sandbox.faults import magic_number
from tests.processes import Service
from tests.stand import Stand
from tests.survival.conftest import Stands
from tests.survival.planted import FAULTS
from tests.survival.scenarios import Ran, Scenario, side_by_side

pytestmark = [pytest.mark.survival, pytest.mark.timeout(240)]

GIVE_UP_S = 15.0


def planted(stand: Stand, fault: str) -> Service:
    return stand.start("tests.survival.planted", fault)


async def noticed(stand: Stand, finding: str) -> None:
    with pytest.raises(AssertionError) as told:
        await stand.proven(GIVE_UP_S)
    assert re.search(finding, str(told.value), re.MULTILINE), told.value


async def _forgets_an_order(stand: Stand) -> None:
    stand.projector()
    await planted(stand, "forgets_an_order").ready()
    await stand.order()
    await noticed(stand, "^I2 order .* was never taken up")


async def _calls_before_the_intent(stand: Stand) -> None:
    stand.projector()
    victim = planted(stand, "calls_before_the_intent")
    await victim.ready()
    order = await stand.order()
    await victim.ended(within_s=30)
    await stand.fulfiller().ready()
    await stand.reached([order], "delivered")
    await noticed(stand, "^I9 reference .* before any intent")


async def _new_reference_for_each_attempt(stand: Stand) -> None:
    stand.projector()
    await planted(stand, "new_reference_for_each_attempt").ready()
    await stand.reached([await stand.order(magic_number("busy", times=1))], "delivered", "failed", "waiting")
    await noticed(stand, "^I9 reference .* before any intent")


async def _retries_early(stand: Stand) -> None:
    stand.projector()
    await planted(stand, "retries_early").ready()
    await stand.reached([await stand.order(magic_number("busy", times=1))], "delivered")
    await noticed(stand, "^I6 order .* before it was due")


async def _sends_again_what_is_unknown(stand: Stand) -> None:
    stand.projector()
    await planted(stand, "sends_again_what_is_unknown").ready()
    await stand.order(magic_number("no_dedupe_500"))
    await stand.sandbox.reached("deliveries", 2)
    await noticed(stand, "^I3 order .* was delivered more than once")


async def _repeats_what_is_in_doubt(stand: Stand) -> None:
    stand.projector()
    victim = stand.fulfiller()
    await victim.ready()
    order = await stand.order(magic_number("hold", times=1))
    await stand.sandbox.reached("held", 1)
    victim.kill()
    await stand.sandbox.release()
    await planted(stand, "repeats_what_is_in_doubt").ready()
    await stand.sandbox.reached("sends", 2)
    await stand.reached([order], "delivered")
    await noticed(stand, "^I9 reference .* was sent, and its attempt .* was voided as not sent")


async def _skips_the_reload(stand: Stand) -> None:
    stand.projector()
    first = stand.fulfiller()
    await first.ready()
    await stand.reached([await stand.order()], "delivered")
    await first.stop()
    heir = planted(stand, "skips_the_reload")
    await heir.ready()
    await stand.sandbox.reached("sends", 2)
    await noticed(stand, "^I4 order .* was requested twice")


async def _fences_nobody(stand: Stand) -> None:
    stand.projector()
    zombie = planted(stand, "fences_nobody")
    await zombie.ready()
    order = await stand.order(magic_number("hold"))
    await stand.sandbox.reached("held", 1)
    zombie.freeze()
    heir = planted(stand, "fences_nobody")
    await heir.ready()
    await stand.reached([order], "delivered")
    await stand.sandbox.release()
    zombie.thaw()
    await noticed(stand, "^I4 order .* does not follow")


async def _says_phone_numbers(stand: Stand) -> None:
    stand.projector()
    await planted(stand, "says_phone_numbers").ready()
    await stand.reached([await stand.order()], "delivered")
    await noticed(stand, "^I10 the log of .* holds 1 whole phone number")


async def _passes_over_events(stand: Stand) -> None:
    planted(stand, "passes_over_events")
    await stand.fulfiller().ready()
    orders = await asyncio.gather(*(stand.order(order_id=f"{n}0000000-0000-4000-8000-000000000000") for n in "19"))
    await stand.reached(orders[:1], "delivered")
    await noticed(stand, "^I5 order 9.* has no row|^I5 order 9.* in its row")


LONG_DELAYS = {"retries_early": {"retry_delays": (3600.0,)}}
SCENARIOS: dict[str, Scenario] = {fault: globals()[f"_{fault}"] for fault in FAULTS}


@pytest.fixture(scope="module")
def ran(stands: Stands) -> Ran:
    return side_by_side(stands, SCENARIOS, LONG_DELAYS)


@pytest.mark.parametrize("fault", SCENARIOS)
def test_the_checker_notices(fault: str, ran: Ran) -> None:
    ran.held(fault)
