"""Every rule that speaks of orders, from what real orders came to: which it is about, and that it ends."""

import asyncio
from pathlib import Path
from typing import Any

import asyncpg
from aiokafka import AIOKafkaProducer

from schemas.alerts import Alert, Severity, read_alert
from schemas.topics import FULFILLMENT_ALERTS, FULFILLMENT_EVENTS
from services import kafka
from tests.backend import Backend
from tests.evidence import Logged, read_topics
from tests.monitor.second_opinion import DURATIONS_S
from tests.stand import Stand, stand
from tests.waiting import until

QUICKLY = dict.fromkeys(DURATIONS_S, 1.0)
LATE_1H, BUSY = "+233555002800", "+233555003320"
BARRED = [f"+23355500400{n}" for n in range(6)]
ENOUGH = 6 * 20 + 10
"""So many that go well make six that do not less than a twentieth."""


async def _single(system: Stand, topic: str) -> list[Logged]:
    return (await read_topics(system.settings.model_copy(update={"partitions": 1}), [topic]))[topic]


async def _write_again(system: Stand, event: Logged) -> None:
    producer = AIOKafkaProducer(**kafka.connection(system.settings))
    await producer.start()
    topic = system.settings.topic_prefix + event.topic
    await producer.send_and_wait(topic, event.value, event.key, event.partition, headers=list(event.headers))
    await producer.stop()


async def _said(system: Stand, kind: str, name: str) -> Alert:
    """The first such alert, once it is there."""

    async def there() -> Alert | None:
        alerts = [read_alert(one.value or b"") for one in await _single(system, FULFILLMENT_ALERTS)]
        return next((one for one in alerts if (one.type, one.name) == (kind, name)), None)

    found: Alert = await until(there, f"{kind} {name}", 90)
    return found


async def test_orders_that_wait_are_late_in_doubt_or_a_person_s_are_named_and_their_alerts_end(
    backend: Backend, migrated: str, tmp_path: Path
) -> None:
    bounds: dict[str, Any] = {
        "alert_orders_waiting": 2.0,
        "alert_retries_late": 4.0,
        "alert_in_doubt": 2.0,
        "alert_no_orders": 4.0,
        # In doubt for long enough to be seen, before it is a person's.
        "verify_delays": (1.0, 2.0, 12.0),
    }
    async with stand(backend, migrated, tmp_path, alert_durations=QUICKLY, **bounds) as system:
        monitor, projector = system.start("services.monitor"), system.projector()
        await asyncio.gather(monitor.ready(), projector.ready())
        network = "AT-iShare/at-ishare"
        waiting = await system.orders([system.new_phone() for _ in range(3)])
        raised = await _said(system, "AlertRaised", "orders_waiting")
        assert set(raised.orders) <= set(waiting)
        assert raised.orders
        assert raised.figure is not None
        assert raised.figure > 2

        fulfiller = system.fulfiller()
        await system.reached(waiting, "delivered")
        await _said(system, "AlertCleared", "orders_waiting")

        (queued,) = await system.orders([LATE_1H])
        await system.poison(b"no order")
        in_doubt, reviews, letters = await asyncio.gather(
            *(_said(system, "AlertRaised", name) for name in ("in_doubt_old", "reviews", "dead_letters"))
        )
        assert (in_doubt.subject, reviews.subject, letters.subject) == (network, network, "all")
        assert in_doubt.orders == reviews.orders == (queued,)
        assert letters.figure == 1

        (late,) = await system.orders([BUSY])
        await system.reached([late], "waiting")
        fulfiller.kill()
        overdue = await _said(system, "AlertRaised", "retries_late")
        assert late in overdue.orders
        silent = await _said(system, "AlertRaised", "no_orders")
        assert (silent.subject, silent.bound) == ("all", 4)

        fulfiller = system.fulfiller()
        await system.sandbox.faults(balance_mb=0)
        stopped = await system.orders([system.new_phone() for _ in range(3)])
        suspended, empty = await asyncio.gather(
            *(_said(system, "AlertRaised", name) for name in ("provider_suspended", "balance_low"))
        )
        assert (suspended.subject, empty.subject) == ("at-ishare", "at-ishare")
        await _said(system, "AlertCleared", "retries_late")
        await _said(system, "AlertCleared", "no_orders")
        await system.sandbox.faults(balance_mb=10**9)
        await system.reached(stopped, "delivered")
        await _said(system, "AlertCleared", "provider_suspended")
        await _said(system, "AlertCleared", "balance_low")
        await asyncio.gather(*(service.stop() for service in (monitor, projector, fulfiller)))


async def test_attempts_that_go_wrong_a_view_that_is_behind_and_a_log_that_contradicts_itself(
    backend: Backend, migrated: str, tmp_path: Path
) -> None:
    """What contradicts itself does so until the view is made anew without it, so that this one does not end."""
    async with stand(backend, migrated, tmp_path, alert_durations=QUICKLY, alert_lag_records=5) as system:
        services = system.start("services.monitor"), system.projector(), system.fulfiller()
        await asyncio.gather(*(service.ready() for service in services))
        rates = ("success_rate_1m", "success_rate_5m", "success_rate_1h")
        failed = await system.orders(BARRED)
        await system.reached(failed, "failed")
        for raised in await asyncio.gather(*(_said(system, "AlertRaised", name) for name in rates)):
            assert (raised.subject, raised.figure, raised.unit) == ("AT-iShare/at-ishare", 0, "share")
        await system.orders([system.new_phone() for _ in range(ENOUGH)])
        await asyncio.gather(*(_said(system, "AlertCleared", name) for name in rates))

        locking = await asyncpg.connect(system.settings.database_url.get_secret_value())
        async with locking.transaction():
            await locking.execute("LOCK TABLE fulfillment_logs IN EXCLUSIVE MODE")
            await system.orders([system.new_phone() for _ in range(10)])
            behind = await _said(system, "AlertRaised", "lag")
        await locking.close()
        assert (behind.subject, behind.bound, behind.unit) == ("all", 5, "records")
        assert behind.figure is not None
        assert behind.figure > 5
        await _said(system, "AlertCleared", "lag")

        events = (await read_topics(system.settings, [FULFILLMENT_EVENTS]))[FULFILLMENT_EVENTS]
        await _write_again(system, next(event for event in events if event.key == failed[0].encode()))
        contradiction = await _said(system, "AlertRaised", "quarantined")
        assert (contradiction.subject, contradiction.figure, contradiction.severity) == ("all", 1, Severity.CRITICAL)
        await asyncio.gather(*(service.stop() for service in services))
