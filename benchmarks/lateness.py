"""How late a delayed record is acted on: 1,000 orders whose second attempts fall due within a second.

Wave after wave: the first ones are for the broker, which compiles anew for a wave what it had compiled for a flood.
"""

import asyncio
from collections.abc import Set as AbstractSet
from typing import Any

import asyncpg

from benchmarks.checker import check
from benchmarks.orders import Producer, order
from benchmarks.report import Figure, Result, quantile
from benchmarks.rig import SERVICES, Deployment, Rig
from schemas.fulfillment import FulfillmentAttempted, FulfillmentFailed, read_event
from schemas.orders import OrderCreated
from schemas.topics import FULFILLMENT_EVENTS
from tests.evidence import read_topics
from tests.waiting import until

_BUSY_ONCE = "+23355500331{}"
"""The sandbox's number for it; the last digit is free."""
_COUNT = 1000
_SETTINGS = {"RETRY_DELAYS": "3s,4s,5s", "MAX_IN_FLIGHT": "2000"}
_A_BEAT_S = 0.01
_DUE_S = 4.2
"""From a wave's last order to its last second attempt."""
_SETTLING = 8
_MEASURED = 4
_PATIENCE_S = 60.0
_ALL_DELIVERED = "SELECT count(*) = $1 FROM fulfillment_logs WHERE state = 'delivered'"


def measure(rig: Rig, *, quick: bool) -> Result:
    """Orders come evenly over a second and are busy once; there is a slot for each when it is due."""
    settling, measured = (2, 1) if quick else (_SETTLING, _MEASURED)
    with Deployment(rig, "lateness", _SETTINGS) as deployment:
        deployment.set_up()
        deployment.start("sandbox", *SERVICES)
        waves = asyncio.run(_live(deployment, settling + measured))
        counts = {one.order_id for wave in waves[settling:] for one in wave}
        late_ms, sent_ms = asyncio.run(_lateness(deployment, counts))
        faults = asyncio.run(check(deployment, [one for wave in waves for one in wave]))
    return Result(
        "lateness",
        [
            Figure("delayed record, earliest", late_ms[0], "ms", at_least=0),
            Figure("delayed record, p50", quantile(late_ms, 0.5), "ms"),
            Figure("delayed record, p99", quantile(late_ms, 0.99), "ms", at_most=10),
        ],
        [
            f"{len(late_ms)} second attempts, {measured} waves after {settling}: from the time planned to its event",
            f"the provider had it {quantile(sent_ms, 0.5):.1f} ms (p50), {quantile(sent_ms, 0.99):.1f} (p99) late",
        ],
        {"late_ms": late_ms, "sent_ms": sent_ms},
        faults,
    )


async def _live(deployment: Deployment, waves: int) -> list[list[OrderCreated]]:
    """One wave after the other has been delivered."""
    lived: list[list[OrderCreated]] = []
    connection: asyncpg.Connection[Any] = await asyncpg.connect(deployment.database_url)
    async with Producer(deployment.settings) as producer:
        for wave in range(waves):
            numbers = range(wave * _COUNT, (wave + 1) * _COUNT)
            lived.append([order(number, _BUSY_ONCE.format(number % 10)) for number in numbers])
            await _spread(producer, lived[-1])
            # The database is not asked while it is measured.
            await asyncio.sleep(_DUE_S)
            count = len(lived) * _COUNT
            await until(lambda count=count: connection.fetchval(_ALL_DELIVERED, count), "every delivery", _PATIENCE_S)
    await connection.close()
    return lived


async def _spread(producer: Producer, orders: list[OrderCreated]) -> None:
    """Over a second."""
    beats = round(1 / _A_BEAT_S)
    loop = asyncio.get_running_loop()
    start_s = loop.time()
    for beat in range(beats):
        await asyncio.sleep(start_s + beat * _A_BEAT_S - loop.time())
        await producer.write(orders[beat::beats])


async def _lateness(deployment: Deployment, counts: AbstractSet[str]) -> tuple[list[float], list[float]]:
    """Of the orders that count, from the events and from the provider's ledger; milliseconds, ascending."""
    planned_s: dict[str, float] = {}
    late_ms: list[float] = []
    for record in (await read_topics(deployment.settings, [FULFILLMENT_EVENTS]))[FULFILLMENT_EVENTS]:
        event = read_event(record.value or b"")
        if event.order_id not in counts:
            continue
        if isinstance(event, FulfillmentFailed) and event.next is not None:
            planned_s[event.order_id] = event.next.at.timestamp()
        elif isinstance(event, FulfillmentAttempted) and event.attempt > 1:
            late_ms.append(1000 * (event.at.timestamp() - planned_s[event.order_id]))
    references = deployment.ledger()["references"]
    sent_ms = [1000 * (references[order_id]["sent_at"][1] - due_s) for order_id, due_s in planned_s.items()]
    return sorted(late_ms), sorted(sent_ms)
