"""The provider errs in every way: each order ends delivered, once, or as docs/order-life.md says."""

from dataclasses import dataclass
from typing import Any

import pytest

from services.sandbox.faults import magic_number
from tests.stand import Stand
from tests.survival.conftest import Stands
from tests.survival.scenarios import Ran, side_by_side

pytestmark = [pytest.mark.survival, pytest.mark.timeout(240)]


@dataclass(frozen=True)
class Case:
    fault: str
    times: int = 0
    """Only the first so many sends meet it; 0: all."""
    state: str = "delivered"
    sends: int = 1
    """More than one only where the earlier ones are proven to have delivered nothing."""


# Delivered, and the caller is not told, or not clearly: asked about, never sent again.
DELIVERED = [
    Case("hang_then_deliver"),
    Case("deliver_then_hang"),
    Case("deliver_then_500"),
    Case("deliver_then_reset"),
    Case("deliver_then_empty"),
    Case("deliver_then_html"),
    Case("deliver_then_garbage"),
    Case("deliver_then_huge"),
    Case("deliver_then_redirect"),
    Case("wrong_reference"),
    Case("no_transaction_id"),
    Case("duplicate_delivered"),
    Case("duplicate_reference_delivered"),
]
# Status queries that mislead, and ends that come later.
LATER = [
    Case("late_1s"),
    Case("found_late"),
    Case("status_out_of_order"),
    Case("status_error"),
    Case("late_failure", times=1, sends=2),
]
# Nothing was delivered, and that has to be proven before another send.
NOTHING = [
    Case("reset", times=1, sends=2),
    Case("empty", times=1, sends=2),
    Case("html", times=1, sends=2),
    Case("garbage", times=1, sends=2),
    Case("error_500", times=1, sends=2),
    Case("redirect", times=1, sends=2),
    # It said that it knows the reference, and a query says that it does not: a person has to find out.
    Case("duplicate_nothing", state="review"),
    Case("duplicate_reference", state="review"),
]
# Turned away, or declined.
DECLINED = [
    Case("rate_limited", times=1, sends=2),
    Case("rate_limited_date", times=1, sends=2),
    Case("busy", times=1, sends=2),
    Case("try_again", times=2, sends=3),
    Case("error_with_200", times=1, sends=2),
    Case("busy", state="failed", sends=3),
    Case("no_such_subscriber", state="failed"),
]


async def _meet(stand: Stand, cases: list[Case]) -> None:
    stand.projector()
    # Nothing that is to be kept secret is said however much is said.
    await stand.fulfiller(LOG_LEVEL="debug").ready()
    await stand.sandbox.faults(hang_s=stand.settings.at_ishare_timeout_s + 1.5)
    met = dict(zip(await stand.orders([magic_number(case.fault, case.times) for case in cases]), cases, strict=True))
    await stand.reached(list(met), "delivered", "review", "failed")
    await stand.proven()
    sends = await stand.sandbox.sends()
    rows = await stand.rows(list(met))
    wrong = [
        f"{case}: {rows[order]['state']} after {sends[order]} sends"
        for order, case in met.items()
        if (rows[order]["state"], sends[order]) != (case.state, case.sends)
    ]
    assert not wrong


def _scenario(cases: list[Case]) -> Any:
    async def scenario(stand: Stand) -> None:
        await _meet(stand, cases)

    return scenario


SCENARIOS = {
    "delivers and does not say so": _scenario(DELIVERED),
    "delivers later": _scenario(LATER),
    "delivers nothing and does not say so": _scenario(NOTHING),
    "declines": _scenario(DECLINED),
}


@pytest.fixture(scope="module")
def ran(stands: Stands) -> Ran:
    return side_by_side(stands, SCENARIOS)


@pytest.mark.parametrize("what", SCENARIOS)
def test_the_provider(what: str, ran: Ran) -> None:
    ran.held(what)
