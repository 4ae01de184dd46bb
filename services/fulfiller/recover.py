"""fulfillment.state made anew from fulfillment.events, after it was lost."""

import asyncio
from datetime import UTC, datetime
from typing import Final

import structlog

from schemas.fulfillment import FulfillmentRequested, read_event
from schemas.poison import OFFSET_HEADER, TOPIC_HEADER
from schemas.topics import FULFILLMENT_DEAD_LETTER, FULFILLMENT_EVENTS, FULFILLMENT_STATE
from services.fulfiller.evolution import evolve
from services.fulfiller.log import Log, Outgoing, Reader, Record, Source
from services.fulfiller.order import FORGETTABLE, Order, dump_order
from services.fulfiller.positions import GENESIS_KEY, POSITIONS_KEY, Genesis, LastRead, Positions
from services.fulfiller.takeover import read_through

BATCH: Final = 1000

log = structlog.get_logger()


async def recover(log_: Log, *, partitions: int, cluster_id: str) -> int:
    """Rebuild every partition; the number of orders. Workers that run are fenced, and take over from what is made.

    LogError where the log could not be read or written: nothing is half believed, run it again.
    """
    recovered = 0
    for partition in range(partitions):
        recovered += await _recover_partition(log_, partition, partitions, cluster_id)
    return recovered


async def _recover_partition(log_: Log, partition: int, partitions: int, cluster_id: str) -> int:
    writer = await log_.open_writer(partition)
    reader = await log_.open_reader()
    try:
        orders, offsets = await _fold(reader, partition)
        positions = Positions(inputs=await _last_read(reader, partition, offsets))
        stale = await _stale_keys(reader, partition, orders)
        # Before all else: whatever cuts this short leaves a partition that is refused, not one that is half there.
        await writer.commit([Outgoing(FULFILLMENT_STATE, partition, GENESIS_KEY, None)])
        records = [Outgoing(FULFILLMENT_STATE, partition, key, None) for key in stale - {GENESIS_KEY}]
        records += [
            Outgoing(FULFILLMENT_STATE, partition, order_id.encode(), dump_order(order))
            for order_id, order in orders.items()
        ]
        for start in range(0, len(records), BATCH):
            await writer.commit(records[start : start + BATCH])
            await asyncio.sleep(0)
        # The genesis record comes last: a recovery that was cut short leaves a partition that is still refused.
        genesis = Genesis(cluster_id=cluster_id, partitions=partitions, at=datetime.now(UTC).isoformat())
        value = positions.model_dump_json(exclude_none=True).encode()
        await writer.commit(
            [
                Outgoing(FULFILLMENT_STATE, partition, POSITIONS_KEY, value),
                Outgoing(FULFILLMENT_STATE, partition, GENESIS_KEY, genesis.model_dump_json().encode()),
            ]
        )
    finally:
        await writer.close()
        await reader.close()
    log.info("partition_recovered", partition=partition, orders=len(orders), inputs=offsets)
    return len(orders)


async def _fold(reader: Reader, partition: int) -> tuple[dict[str, Order], dict[str, int]]:
    """Every order, and the last offset of each input that an event or a dead letter names."""
    orders: dict[str, Order] = {}
    offsets: dict[str, int] = {}
    for record in await _whole(reader, Source(FULFILLMENT_EVENTS, partition)):
        event = read_event(record.value or b"")
        known = orders.get(event.order_id)
        if isinstance(event, FulfillmentRequested) and known is not None and known.state in FORGETTABLE:
            known = None  # the id was used again, when the order that had it was long forgotten
        orders[event.order_id] = evolve(known, event)
        if event.cause is not None:
            offsets[event.cause.topic] = max(offsets.get(event.cause.topic, -1), event.cause.offset)
    for record in await _whole(reader, Source(FULFILLMENT_DEAD_LETTER, partition)):
        headers = dict(record.headers)
        topic, offset = headers.get(TOPIC_HEADER), headers.get(OFFSET_HEADER)
        if topic is not None and offset is not None:
            offsets[topic.decode()] = max(offsets.get(topic.decode(), -1), int(offset))
    return orders, offsets


async def _whole(reader: Reader, source: Source) -> list[Record]:
    bounds = (await reader.bounds([source]))[source]
    return await read_through(reader, source, bounds.begin, bounds.end)


async def _last_read(reader: Reader, partition: int, offsets: dict[str, int]) -> dict[str, LastRead]:
    """Note the records at these offsets, where they are still there."""
    inputs: dict[str, LastRead] = {}
    for topic, offset in offsets.items():
        source = Source(topic, partition)
        bounds = (await reader.bounds([source]))[source]
        if bounds.begin <= offset < bounds.end:
            record = next(iter(await read_through(reader, source, offset, offset + 1)))
            inputs[topic] = LastRead.of(record)
    return inputs


async def _stale_keys(reader: Reader, partition: int, orders: dict[str, Order]) -> set[bytes]:
    """Keys of fulfillment.state that no event speaks of: what a lost state was begun anew with, and its genesis."""
    records = await _whole(reader, Source(FULFILLMENT_STATE, partition))
    kept = {record.key for record in records if record.key is not None and record.value is not None}
    return kept - {order_id.encode() for order_id in orders}
