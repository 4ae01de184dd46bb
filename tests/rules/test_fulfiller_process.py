"""A fulfiller as a process: how it leaves, what it tells the group, what it makes of strangers' transactions."""

import asyncio
import re
import uuid
from pathlib import Path

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from schemas.cloudevents import json_value
from schemas.fulfillment import FulfillmentSucceeded, Source, read_event
from schemas.topics import FULFILLMENT_EVENTS, ORDERS_EVENTS
from services import kafka
from services.partition import home_partition
from services.sandbox.faults import magic_number
from tests.backend import Backend
from tests.evidence import read_topics
from tests.stand import Stand, stand
from tests.waiting import until


async def who_said(system: Stand) -> dict[str, Source]:
    """Of each order that was delivered, where that was learnt."""
    records = (await read_topics(system.settings, [FULFILLMENT_EVENTS]))[FULFILLMENT_EVENTS]
    events = [read_event(record.value) for record in records if record.value is not None]
    return {event.order_id: event.source for event in events if isinstance(event, FulfillmentSucceeded)}


async def lag_tools_see(system: Stand) -> bool:
    """Whether the group's offsets on orders.events are at its end."""
    topic = system.settings.topic_prefix + ORDERS_EVENTS
    admin = AIOKafkaAdminClient(**kafka.connection(system.settings))
    await admin.start()
    try:
        offsets = await admin.list_consumer_group_offsets(f"{system.settings.topic_prefix}fulfiller")
        noted = sum(offset.offset for tp, offset in offsets.items() if tp.topic == topic)
    finally:
        await admin.close()
    written = (await read_topics(system.settings, [ORDERS_EVENTS]))[ORDERS_EVENTS]
    return bool(written) and noted == len(written)


async def metrics(system: Stand, url: str) -> str:
    async with system.session.get(f"{url}/metrics") as response:
        return await response.text()


async def says(system: Stand, url: str, suspended: str) -> bool:
    return f'fulfiller_provider_suspended{{provider="at-ishare"}} {suspended}' in await metrics(system, url)


async def hides_for(system: Stand, url: str, at_least_s: float) -> bool:
    """Whether some partition's end has been hidden for so long, by the fulfiller's own measure."""
    text = await metrics(system, url)
    measured = re.findall(r'^fulfiller_hidden_seconds\{.*topic="orders\.events".*\} (\S+)$', text, re.MULTILINE)
    return any(float(hidden_s) >= at_least_s for hidden_s in measured)


async def test_it_leaves_in_order(backend: Backend, migrated: str, tmp_path: Path) -> None:
    async with stand(backend, migrated, tmp_path, at_ishare_timeout_s=30) as system:
        system.projector()
        leaver = system.fulfiller()
        await leaver.ready()
        first = await system.order()
        await system.reached([first], "delivered")
        await until(lambda: lag_tools_see(system), "the group to know the positions", 10)

        await system.sandbox.faults(latency_s=1.0)
        answered, held = await system.orders([system.new_phone(), magic_number("hold")])
        await system.sandbox.reached("sends", 1, answered)
        await system.sandbox.reached("held", 1)
        # Within ten seconds and well, though one call is not answered; and no call begins any more.
        _, late = await asyncio.gather(leaver.stop(), system.order())
        assert (await who_said(system)).keys() == {first, answered}
        assert (await who_said(system))[answered] is Source.REPLY
        assert late not in await system.sandbox.sends()

        await system.fulfiller().ready()
        await system.sandbox.release()
        await system.reached([answered, held, late], "delivered")
        await system.proven()
        assert (await who_said(system))[held] is Source.VERIFICATION
        assert set((await system.sandbox.sends()).values()) == {1}


async def test_a_strangers_open_transaction_is_measured_and_what_it_aborts_was_never_said(
    backend: Backend, migrated: str, tmp_path: Path
) -> None:
    async with stand(backend, migrated, tmp_path) as system:
        system.projector()
        fulfiller = system.fulfiller()
        url = await fulfiller.ready()
        aborted = system.created()
        home = home_partition(aborted.order_id, system.settings.partitions)
        hidden = next(
            order
            for order in (system.created(order_id=str(uuid.uuid4())) for _ in range(100))
            if home_partition(order.order_id, system.settings.partitions) == home
        )
        topic = system.settings.topic_prefix + ORDERS_EVENTS
        stranger = AIOKafkaProducer(
            **kafka.connection(system.settings), transactional_id=f"{system.settings.topic_prefix}stranger"
        )
        await stranger.start()
        try:
            await stranger.begin_transaction()
            await stranger.send_and_wait(topic, json_value(aborted), key=aborted.order_id.encode(), partition=home)
            await system.write(json_value(hidden), hidden.order_id.encode(), partition=home)
            system.accepted(hidden)

            await until(lambda: hides_for(system, url, 1.0), "the open transaction to be measured", 20)
            assert not await system.sandbox.sends()
            await stranger.abort_transaction()
        finally:
            await stranger.stop()
        await system.reached([hidden.order_id], "delivered")
        await system.proven()
        assert aborted.order_id not in await system.sandbox.sends()
        assert not await system.rows([aborted.order_id])


async def test_a_suspended_provider_holds_its_orders_and_spends_no_attempts(
    backend: Backend, migrated: str, tmp_path: Path
) -> None:
    async with stand(backend, migrated, tmp_path) as system:
        system.projector()
        url = await system.fulfiller().ready()
        await system.sandbox.faults(credentials_refused=True)
        waiting = await system.orders([system.new_phone() for _ in range(20)])

        await until(lambda: says(system, url, "1.0"), "the provider to be suspended", 20)
        held = await system.order(network="MTN")
        await system.reached([held], "held")
        await system.reached(waiting, "created", within_s=20)
        assert {row["attempt_number"] for row in (await system.rows(waiting)).values()} == {0}

        await system.sandbox.faults(credentials_refused=False)
        await system.reached(waiting, "delivered")
        assert {row["attempt_number"] for row in (await system.rows(waiting)).values()} == {1}
        await until(lambda: says(system, url, "0.0"), "the provider to be called up")
        await system.proven()
