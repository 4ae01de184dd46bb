"""From real orders to statistics, and to an alert: nothing that was applied goes untold, and nothing counts twice."""

import asyncio
from collections import Counter
from pathlib import Path

from schemas.fulfillment import FulfillmentFailed, FulfillmentSucceeded, read_event
from schemas.statistics import read_statistics
from schemas.topics import FULFILLMENT_ALERTS, FULFILLMENT_EVENTS, FULFILLMENT_STATISTICS
from services.monitor.rules import Bounds
from services.monitor.watch import Entry, Watch
from tests.backend import Backend
from tests.evidence import Logged, read_topics
from tests.stand import Stand, stand
from tests.waiting import until


async def _single(system: Stand, topic: str) -> list[Logged]:
    """Of a topic that has one partition whatever the others have."""
    return (await read_topics(system.settings.model_copy(update={"partitions": 1}), [topic]))[topic]


async def _counted(system: Stand) -> Counter[str]:
    """As the monitor counts them, over the last hour."""
    log = await _single(system, FULFILLMENT_STATISTICS)
    watch = Watch()
    for one in log:
        watch.see(Entry(one.offset, one.timestamp / 1000, one.value), Bounds())
    assert watch.unreadable == 0
    counted: Counter[str] = Counter()
    for subject, counts in watch.windows.over(3600):
        assert subject == "AT-iShare/at-ishare"
        counted.update(counts._asdict())
    return +counted


async def _happened(system: Stand) -> Counter[str]:
    """By the events themselves."""
    happened: Counter[str] = Counter()
    for record in (await read_topics(system.settings, [FULFILLMENT_EVENTS]))[FULFILLMENT_EVENTS]:
        event = read_event(record.value or b"")
        if event.sequence == 1:
            happened["requested"] += 1
        elif isinstance(event, FulfillmentSucceeded):
            happened["delivered"] += 1
        elif isinstance(event, FulfillmentFailed):
            happened["declined"] += 1
    return happened


async def test_what_a_killed_projector_did_not_tell_the_next_one_does(
    backend: Backend, migrated: str, tmp_path: Path
) -> None:
    async with stand(backend, migrated, tmp_path) as system:
        fulfiller = system.fulfiller()
        first = system.projector()
        await asyncio.gather(fulfiller.ready(), first.ready())
        await system.reached(await system.orders([system.new_phone() for _ in range(10)]), "delivered")
        await until(lambda: _same(system), "ten orders to be told of")
        # Killed again and again: of what it applies within a second, some has not been told.
        for _ in range(2):
            ids = await system.orders([system.new_phone() for _ in range(10)])
            await system.reached(ids, "delivered")
            first.kill()
            first = system.projector()
            await first.ready()
        await until(lambda: _same(system), "thirty orders to be told of, each once")
        assert (await _counted(system))["delivered"] == 30
        await asyncio.gather(first.stop(), fulfiller.stop())


async def _same(system: Stand) -> bool:
    return await _counted(system) == await _happened(system)


async def test_a_provider_that_refuses_everything_is_an_alert_within_its_duration_and_five_seconds(
    backend: Backend, migrated: str, tmp_path: Path
) -> None:
    durations = {"success_rate_1m": 3.0}
    async with stand(backend, migrated, tmp_path, alert_durations=durations) as system:
        services = [system.fulfiller(), system.projector(), system.start("services.monitor")]
        await asyncio.gather(*(service.ready() for service in services))
        await system.sandbox.faults(busy=1.0)
        await system.orders([system.new_phone() for _ in range(10)])
        await services[2].said("alert_raised alert=success_rate_1m", within_s=20)
        (record, *_) = await _single(system, FULFILLMENT_ALERTS)
        events = (await read_topics(system.settings, [FULFILLMENT_EVENTS]))[FULFILLMENT_EVENTS]
        cause = min(one.timestamp for one in events if isinstance(read_event(one.value or b""), FulfillmentFailed))
        assert record.timestamp - cause <= 1000 * (durations["success_rate_1m"] + 5)
        await system.sandbox.faults(busy=0.0)
        await system.orders([system.new_phone() for _ in range(200)])
        await services[2].said("alert_cleared alert=success_rate_1m", within_s=30)
        (told, *_) = await _single(system, FULFILLMENT_STATISTICS)
        assert read_statistics(told.value or b"").type == "Statistics"
        await asyncio.gather(*(service.stop() for service in services))
