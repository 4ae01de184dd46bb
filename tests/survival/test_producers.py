"""OrderCreated from producers that know nothing of our partitions: one order, at home, delivered once."""

import asyncio
import shutil
import zlib

import orjson
import pytest

from schemas.cloudevents import json_value
from schemas.orders import OrderCreated
from schemas.topics import ORDERS_EVENTS
from services.partition import home_partition
from services.sandbox.faults import magic_number
from tests.stand import Stand
from tests.survival.conftest import Stands

pytestmark = [pytest.mark.survival, pytest.mark.timeout(120)]

KCAT = shutil.which("kcat") or shutil.which("kafkacat")


def librdkafka_partition(key: bytes, partitions: int) -> int:
    """Of its default partitioner, consistent_random."""
    return zlib.crc32(key) % partitions


def strays(stand: Stand, count: int) -> list[OrderCreated]:
    """Orders that librdkafka puts elsewhere than at home."""
    partitions = stand.settings.partitions
    found: list[OrderCreated] = []
    while len(found) < count:
        order = stand.created()
        if librdkafka_partition(order.order_id.encode(), partitions) != home_partition(order.order_id, partitions):
            found.append(order)
    return found


async def kcat(stand: Stand, *lines: str) -> None:
    """Each line is `key<TAB>value`, or a value alone."""
    keyed = ["-K", "\t"] if "\t" in lines[0] else []
    assert KCAT is not None
    process = await asyncio.create_subprocess_exec(
        *(KCAT, "-P", "-b", stand.settings.kafka_bootstrap_servers, "-t", stand.settings.topic_prefix + ORDERS_EVENTS),
        *keyed,
        stdin=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate("".join(f"{line}\n" for line in lines).encode())
    assert process.returncode == 0, said.decode()


async def _all_home(stand: Stand, orders: list[OrderCreated]) -> None:
    """Each order has its first event in its home partition (the checker sees to that), and was sent once."""
    for order in orders:
        stand.accepted(order)
    order_ids = [order.order_id for order in orders]
    await stand.reached(order_ids, "delivered")
    await stand.proven()
    sends = await stand.sandbox.sends()
    assert sends == dict.fromkeys(order_ids, 1)


async def test_records_that_are_not_at_home(stands: Stands) -> None:
    """By another partitioner, without a key, with an upper-case UUID, under a key that names nothing, twice."""
    async with stands("producers") as stand:
        stand.projector()
        workers = [stand.fulfiller(), stand.fulfiller()]
        await asyncio.gather(*(worker.ready() for worker in workers))
        partitions = range(stand.settings.partitions)

        by_librdkafka = strays(stand, 6)
        for order in by_librdkafka:
            key = order.order_id.encode()
            await stand.write(json_value(order), key, partition=librdkafka_partition(key, len(partitions)))
        upper_case = strays(stand, 4)
        for order in upper_case:
            shouted = order.order_id.upper()
            value = orjson.dumps({**orjson.loads(json_value(order)), "order_id": shouted})
            for partition in partitions:
                await stand.write(value, shouted.encode(), partition=partition)
        keyless = [stand.created() for _ in range(4)]
        for order in keyless:
            await stand.write(json_value(order))
        oddly_keyed = [stand.created() for _ in range(4)]
        for number, order in enumerate(oddly_keyed):
            await stand.write(json_value(order), b"shop-%d" % number)
        # Both workers have it at the same time, and it is under way when it comes a second time.
        twice = [stand.created(magic_number("late_1s")) for _ in range(4)]
        for order in twice:
            copies = [stand.write(json_value(order), order.order_id.encode(), partition=p) for p in partitions]
            await asyncio.gather(*copies)
        await _all_home(stand, by_librdkafka + upper_case + keyless + oddly_keyed + twice)


@pytest.mark.skipif(KCAT is None, reason="not run: no kcat")
async def test_kcat(stands: Stands) -> None:
    async with stands("kcat") as stand:
        stand.projector()
        await stand.fulfiller().ready()
        keyed = [*strays(stand, 3), *(stand.created() for _ in range(3))]
        await kcat(stand, *(f"{order.order_id}\t{json_value(order).decode()}" for order in keyed))
        keyless = [stand.created() for _ in range(3)]
        await kcat(stand, *(json_value(order).decode() for order in keyless))
        shouted = stand.created()
        value = orjson.dumps({**orjson.loads(json_value(shouted)), "order_id": shouted.order_id.upper()}).decode()
        await kcat(stand, f"{shouted.order_id.upper()}\t{value}")
        await kcat(stand, value)
        await _all_home(stand, [*keyed, *keyless, shouted])
