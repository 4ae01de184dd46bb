"""An outage: the dealer's balance is gone while orders wait, a worker is killed in the middle, the balance is back."""

import asyncio
import re
import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NamedTuple

from schemas.fulfillment import AttemptVoided, FulfillmentAttempted, FulfillmentSucceeded, read_event
from schemas.topics import FULFILLMENT_EVENTS
from tests.evidence import Evidence
from tests.processes import Service
from tests.stand import Stand
from tests.waiting import until

WORKERS: Final = 3
PARTITIONS: Final = 4
STOPPED_WITHIN_S: Final = 1.0
AT_ONCE: Final = 500
"""Orders that are on their way to the broker."""
SETTLE_S: Final = 60.0
_KNEW: Final = re.compile(r"^(\S+Z) .*provider_suspended", re.MULTILINE)
_OWNS: Final = re.compile(r'^fulfiller_orders\{kind="open",partition="0"\} [1-9]', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Plan:
    orders: int
    intervals: int
    probe_interval_s: float
    rate_per_s: float
    max_in_flight: int

    def settings(self) -> dict[str, Any]:
        return {
            "partitions": PARTITIONS,
            "at_ishare_rate_per_s": self.rate_per_s,
            "at_ishare_max_in_flight": self.max_in_flight,
            "at_ishare_probe_interval_s": self.probe_interval_s,
            "at_ishare_balance_interval_s": 3600.0,
        }


@dataclass(slots=True)
class Report:
    """What the sandbox and the log say of it; times in seconds."""

    plan: Plan
    outage_s: float = 0.0
    burnt: int = 0
    """Attempts that the outage has cost."""
    voided: int = 0
    """Calls that met it: their attempts were given back."""
    stopped_s: float = 0.0
    """From the first refusal to the last call of any worker."""
    knew_s: float = 0.0
    """From the first worker that knew of it to the last."""
    probes: int = 0
    peak: int = 0
    """Calls within a second, at the most, as the sandbox noted them."""
    peak_per_s: float = 0.0
    """Those, in the time in which they were sent: longer by as much as the sandbox's own loop lagged."""
    most_in_flight: int = 0
    drain_s: float = 0.0
    undelivered: int = 0
    breaches: list[str] = field(default_factory=list)

    def judge(self) -> None:
        """Note what is not as it has to be."""
        plan = self.plan
        allowed = int(self.outage_s / plan.probe_interval_s) + 1
        wrong = {
            f"{self.burnt} attempts were burnt": self.burnt > 0,
            f"calls went on for {self.stopped_s:.2f} s": self.stopped_s > STOPPED_WITHIN_S,
            f"{self.probes} probes, {allowed} allowed": not 0 < self.probes <= allowed,
            f"{self.peak_per_s:.0f} calls a second, {plan.rate_per_s:g} allowed": self.peak_per_s > plan.rate_per_s,
            f"{self.undelivered} orders were not delivered": self.undelivered > 0,
        }
        self.breaches += [said for said, is_so in wrong.items() if is_so]

    def __str__(self) -> str:
        plan = self.plan
        return "\n".join(
            (
                f"orders waiting           {plan.orders}",
                f"outage, probe intervals  {self.outage_s:.1f} s, {self.outage_s / plan.probe_interval_s:.0f}",
                f"attempts burnt           {self.burnt} ({self.voided} calls met the outage, and were given back)",
                f"all workers stopped in   {self.stopped_s:.2f} s",
                f"all workers knew within  {self.knew_s:.2f} s of the first",
                f"probes                   {self.probes}",
                f"time to drain            {self.drain_s:.1f} s",
                f"peak rate                {self.peak_per_s:.0f} /s of {plan.rate_per_s:g}; {self.peak} noted in one",
                *(f"BREACH: {breach}" for breach in self.breaches),
            )
        )


async def run(stand: Stand, plan: Plan) -> Report:
    """On a stand that was made with the plan's settings."""
    report = Report(plan)
    sandbox = stand.sandbox
    await sandbox.faults(balance_mb=0)
    stand.projector()
    workers = [stand.fulfiller() for _ in range(WORKERS)]
    await asyncio.gather(*(worker.ready() for worker in workers))
    for begin in range(0, plan.orders, AT_ONCE):
        count = min(AT_ONCE, plan.orders - begin)
        await asyncio.gather(*(stand.orders([stand.new_phone()]) for _ in range(count)))
    for worker in workers:
        await worker.said("provider_suspended")
    outage_s = time.time()
    knew = [datetime.fromisoformat(found[1]) for worker in workers if (found := _KNEW.search(worker.log))]
    report.knew_s = (max(knew) - min(knew)).total_seconds()
    await _pass(outage_s, plan.intervals / 2 * plan.probe_interval_s)
    prober: Service = await until(lambda: _prober(stand, workers), "one to probe")
    prober.kill()
    workers.remove(prober)
    await _pass(outage_s, plan.intervals * plan.probe_interval_s)
    await until(lambda: _prober(stand, workers), "another to probe", SETTLE_S)
    before = await _ledger(stand)
    await sandbox.faults(balance_mb=10**9)
    back_s = time.time()
    drains_s = SETTLE_S + plan.orders / plan.rate_per_s * 2

    async def drained() -> bool:
        return len((await _ledger(stand))["deliveries"]) >= plan.orders

    try:
        await until(drained, "the orders to be delivered", drains_s)
    except AssertionError as error:
        report.breaches.append(str(error))
    report.drain_s = time.time() - back_s
    report.outage_s = back_s - _sent(before)[0].at_s
    _see_sandbox(report, before, await _ledger(stand))
    _see_log(report, await stand.proven(SETTLE_S))
    report.judge()
    return report


async def _prober(stand: Stand, workers: Sequence[Service]) -> Service | None:
    """Whose partition 0 is, where orders wait."""
    for worker in workers:
        async with stand.session.get(f"{worker.ready_url}/metrics") as response:
            if _OWNS.search(await response.text()):
                return worker
    return None


async def _pass(since_s: float, seconds: float) -> None:
    """The outage lasts: nothing waits for anything."""
    await asyncio.sleep(max(since_s + seconds - time.time(), 0.0))


async def _ledger(stand: Stand) -> dict[str, Any]:
    async with stand.session.get(f"{stand.sandbox.url}/ledger") as response:
        return dict(await response.json())


def _see_sandbox(report: Report, before: dict[str, Any], after: dict[str, Any]) -> None:
    met = _sent(before)
    report.stopped_s = max(call.at_s - call.lag_s for call in met) - met[0].at_s
    # A worker asks once as it starts; what follows the first refusal are probes.
    report.probes = sum(at_s >= met[0].at_s for at_s in before["balance_asked_at"])
    report.peak, report.peak_per_s = peak(_sent(after))
    report.undelivered = report.plan.orders - len(after["deliveries"])


class Sent(NamedTuple):
    """A call, as the sandbox noted it."""

    at_s: float
    lag_s: float
    """How long the sandbox may have known nothing of it."""


def _sent(ledger: dict[str, Any]) -> list[Sent]:
    known = ledger["references"].values()
    return sorted(Sent(*call) for one in known for call in zip(one["sent_at"], one["lag_s"], strict=True))


def peak(sent: Sequence[Sent], window_s: float = 1.0) -> tuple[int, float]:
    """How many are within one window at the most; and by the second, of the time in which they may have been sent."""
    most, most_per_s = 0, 0.0
    for number, (at_s, _) in enumerate(sent):
        within = sent[number : bisect_left(sent, Sent(at_s + window_s, 0.0))]
        most = max(most, len(within))
        most_per_s = max(most_per_s, len(within) / (window_s + max(call.lag_s for call in within)))
    return most, most_per_s


def _see_log(report: Report, evidence: Evidence) -> None:
    attempted = 0
    for record in evidence.topics[FULFILLMENT_EVENTS]:
        event = read_event(record.value or b"")
        attempted += isinstance(event, FulfillmentAttempted)
        report.voided += isinstance(event, AttemptVoided)
        if isinstance(event, FulfillmentSucceeded):
            report.burnt += event.attempt - 1
    report.burnt = max(report.burnt, attempted - report.voided - report.plan.orders)
