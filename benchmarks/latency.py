"""From a purchase's 202 to the row that shows its outcome, beyond the provider's own time, at 30 % load.

The whole load is what clients reach who buy again as soon as they see the outcome of their last purchase: then gateway,
clients and everything behind them share the machine as they do when latency is measured.
"""

import asyncio

from benchmarks.buyers import Buyer, buyer
from benchmarks.checker import check
from benchmarks.report import Figure, Result, quantile
from benchmarks.rig import FAULTS, LATENCY_S, PATIENT, SERVICES, Deployment, Rig

_LOAD = 0.3
_FIRST_S = 5.0
_FULL_S = 15.0
_SETTLE_S = 20.0
"""The broker compiles anew what a trickle takes and a flood does not."""
_PATIENCE_S = 120.0


def measure(rig: Rig, *, quick: bool) -> Result:
    """Purchases come at an even rate, whatever becomes of the earlier ones."""
    with Deployment(rig, "latency", PATIENT) as deployment:
        deployment.set_up()
        deployment.start("sandbox", *SERVICES)
        deployment.order_faults(FAULTS)
        buying = asyncio.run(_buy(deployment, 5.0 if quick else 20.0))
        faults = asyncio.run(check(deployment, buying.bought))
    beyond_ms = sorted(1000 * (one - LATENCY_S) for one in buying.outcome_s)
    answers_ms = sorted(1000 * one for one in buying.answer_s)
    cpu = ", ".join(f"{name} {100 * share:.0f}" for name, share in sorted(buying.cpu.items(), key=lambda x: -x[1]))
    return Result(
        "latency",
        [
            Figure("purchases at full load", buying.full_per_s, "/s"),
            Figure("purchase to outcome, p50", quantile(beyond_ms, 0.5), "ms", at_most=15, goal=8),
            Figure("purchase to outcome, p99", quantile(beyond_ms, 0.99), "ms", at_most=60, goal=25),
        ],
        [
            f"{len(beyond_ms)} purchases at {_LOAD * buying.full_per_s:.0f}/s, {100 * _LOAD:.0f} % of the full load",
            f"taken off: the provider's {1000 * LATENCY_S:.0f} ms",
            f"202 after {quantile(answers_ms, 0.5):.1f} ms (p50), {quantile(answers_ms, 0.99):.1f} ms (p99)",
            f"% of a core: {cpu}; together {100 * sum(buying.cpu.values()):.0f}",
        ],
        {"beyond_ms": beyond_ms, "answer_ms": answers_ms},
        faults,
    )


async def _buy(deployment: Deployment, for_s: float) -> Buyer:
    async with buyer(deployment) as buying, asyncio.timeout(_FIRST_S + _FULL_S + _SETTLE_S + for_s + _PATIENCE_S):
        await buying.saturate(_FIRST_S)
        buying.full_per_s = await buying.saturate(_FULL_S)
        await buying.trickle(deployment, _LOAD * buying.full_per_s, for_s, _SETTLE_S)
        return buying
