"""What the monitor costs at 500 orders a second, and how long after its cause an alert comes."""

import asyncio
import time

from benchmarks.orders import Producer, order
from benchmarks.report import Figure, Result
from benchmarks.rig import Deployment, Rig
from schemas.alerts import read_alert
from schemas.fulfillment import FulfillmentFailed, read_event
from schemas.topics import FULFILLMENT_ALERTS, FULFILLMENT_EVENTS
from tests.evidence import Logged, read_topics
from tests.waiting import until

_RATE_PER_S = 500
_BEAT_S = 0.02
_ALERT = "success_rate_1m"
_DURATION_S = 10.0
_NEEDED = 5
"""Failures before a share is anything."""


def measure(rig: Rig, *, quick: bool) -> Result:
    """First the provider is busy for everybody, until the alert; then all is well and the processor's time counts."""
    measured_s = 10 if quick else 30
    with Deployment(rig, "watching", {"MAX_IN_FLIGHT": "500"}) as deployment:
        deployment.set_up()
        deployment.start("sandbox", "fulfiller", "projector", "monitor")
        deployment.order_faults({"busy": 1.0})
        asyncio.run(_orders(deployment, _DURATION_S + 10))
        delay_s = asyncio.run(_delay_s(deployment))
        deployment.order_faults({})
        before = deployment.cpu_s()
        took_s = asyncio.run(_orders(deployment, measured_s))
        used = {name: (used_s - before[name]) / took_s for name, used_s in deployment.cpu_s().items()}
        projector = deployment.metrics("projector")
    return Result(
        "watching",
        [
            Figure("monitor's CPU at 500 orders/s", 100 * used["monitor"], "% of a core", at_most=2),
            Figure("alert after its cause and duration", delay_s - _DURATION_S, "s", at_most=5),
        ],
        [
            f"from failure {_NEEDED} in the log to {_ALERT} in the log, less the {_DURATION_S:.0f} s that it must hold",
            f"the projector: {100 * used['projector']:.0f} %, {projector['projector_batch_records_count']:.0f} batches",
        ],
        {"cpu_share": used, "delay_s": delay_s},
    )


async def _orders(deployment: Deployment, seconds: float) -> float:
    """Evenly; how long it took."""
    loop, each = asyncio.get_running_loop(), round(_RATE_PER_S * _BEAT_S)
    began = time.monotonic()
    async with Producer(deployment.settings) as producer:
        start_s = loop.time()
        for beat in range(round(seconds / _BEAT_S)):
            await asyncio.sleep(start_s + beat * _BEAT_S - loop.time())
            await producer.write([order(beat * each + number) for number in range(each)])
    return time.monotonic() - began


async def _delay_s(deployment: Deployment) -> float:
    """From the failures that make a share to the alert, both by the broker's clock."""
    settings = deployment.settings

    async def raised() -> Logged | None:
        one_partition = settings.model_copy(update={"partitions": 1})
        records = (await read_topics(one_partition, [FULFILLMENT_ALERTS]))[FULFILLMENT_ALERTS]
        return next((record for record in records if read_alert(record.value or b"").name == _ALERT), None)

    alert: Logged = await until(raised, f"{_ALERT} to be raised")
    events = (await read_topics(settings, [FULFILLMENT_EVENTS]))[FULFILLMENT_EVENTS]
    failed_ms = sorted(
        record.timestamp for record in events if isinstance(read_event(record.value or b""), FulfillmentFailed)
    )
    return (alert.timestamp - failed_ms[_NEEDED - 1]) / 1000
