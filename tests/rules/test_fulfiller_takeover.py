"""What a fulfiller makes of what it finds: state of another version, a rebalance, delays of earlier settings."""

from pathlib import Path

from aiokafka import AIOKafkaProducer

from schemas.strict_json import dumps
from schemas.topics import FULFILLMENT_STATE
from services import kafka
from services.partition import home_partition
from services.sandbox.faults import magic_number
from tests.backend import Backend
from tests.evidence import read_topics
from tests.stand import Stand, stand
from tests.waiting import until


async def write_state(system: Stand, order_id: str, **said: object) -> None:
    producer = AIOKafkaProducer(**kafka.connection(system.settings))
    await producer.start()
    try:
        topic = system.settings.topic_prefix + FULFILLMENT_STATE
        home = home_partition(order_id, system.settings.partitions)
        await producer.send_and_wait(topic, dumps({"order_id": order_id, **said}), order_id.encode(), partition=home)
    finally:
        await producer.stop()


async def test_state_of_a_newer_version_ends_it(backend: Backend, migrated: str, tmp_path: Path) -> None:
    async with stand(backend, migrated, tmp_path) as system:
        order = system.created()
        known = {"phone_number": order.phone_number, "size_mb": 1000, "network": "AT-iShare", "sequence": 1}
        await write_state(system, order.order_id, **known, state="created", invented_later=True)
        fulfiller = system.fulfiller()
        assert await fulfiller.ended(30) == 1
        assert "invented_later" in fulfiller.log.splitlines()[-1]
        assert "is not readable" in fulfiller.log.splitlines()[-1]


async def test_a_partition_that_is_given_back_is_kept(backend: Backend, migrated: str, tmp_path: Path) -> None:
    async with stand(backend, migrated, tmp_path) as system:
        first = system.fulfiller()
        await first.ready()
        taken = first.log.count("partition_taken")
        assert taken == system.settings.partitions
        await system.fulfiller().ready()
        await first.said("partitions_assigned", 2)
        order_ids = await system.orders([system.new_phone() for _ in range(6)])
        system.projector()
        await system.reached(order_ids, "delivered")
        await system.proven()
        assert first.log.count("partition_taken") == taken, "the one that it kept was not taken over again"


async def test_delays_of_earlier_settings_are_kept(backend: Backend, migrated: str, tmp_path: Path) -> None:
    async with stand(backend, migrated, tmp_path, retry_delays=(8.0,)) as system:
        system.projector()
        before = system.fulfiller()
        await before.ready()
        order_id = await system.order(magic_number("busy", 1))
        await system.reached([order_id], "waiting")
        await before.stop()
        await system.fulfiller(RETRY_DELAYS="1s").ready()
        await system.reached([order_id], "delivered", within_s=20)

        async def is_read() -> bool:
            state = (await read_topics(system.settings, [FULFILLMENT_STATE]))[FULFILLMENT_STATE]
            return any(
                b'"fulfillment.retry.8s"' in (record.value or b"") for record in state if record.key == b"positions"
            )

        await until(is_read, "the topic of the earlier delay to be read")
        await system.proven()
