"""A short outage on a real broker; `make outage` is the whole one."""

import pytest

from tests.outage.outage import Plan, Sent, peak, run
from tests.survival.conftest import Stands

PLAN = Plan(orders=200, intervals=20, probe_interval_s=0.5, rate_per_s=40.0, max_in_flight=16)


def test_the_peak_is_of_any_second() -> None:
    assert peak([]) == (0, 0.0)
    assert peak([Sent(at_s, 0.0) for at_s in (0.0, 0.9, 1.0, 1.1, 1.89, 3.0)]) == (4, 4.0)


def test_calls_that_came_while_the_sandbox_lagged_were_sent_in_a_longer_time() -> None:
    assert peak([Sent(0.0, 0.0), Sent(0.5, 1.0), Sent(0.9, 0.0)]) == (3, 1.5)


@pytest.mark.survival
@pytest.mark.timeout(240)
async def test_an_outage_costs_no_attempt_and_ends_within_the_rate(
    stands: Stands, capsys: pytest.CaptureFixture[str]
) -> None:
    async with stands("outage", **PLAN.settings()) as stand:
        report = await run(stand, PLAN)
    with capsys.disabled():
        print(f"\n{report}")  # noqa: T201 - every run says what it measured
    assert report.breaches == []
