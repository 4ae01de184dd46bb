"""Orders to measure with, written to orders.events as any producer would."""

import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Self

from aiokafka import AIOKafkaProducer

from schemas.cloudevents import binary_headers, json_value
from schemas.orders import OrderCreated
from schemas.topics import ORDERS_EVENTS
from services.kafka import connection
from services.partition import home_partition
from services.settings import Settings

SOURCE = b"/benchmarks"

Batch = tuple[int, Any]
"""A partition, and aiokafka's builder of a batch for it."""


def phone(number: int) -> str:
    """None of the sandbox's magic ones."""
    return f"+23324{number % 10_000_000:07}"


def order(number: int, phone_number: str | None = None) -> OrderCreated:
    return OrderCreated(
        order_id=str(uuid.uuid4()),
        phone_number=phone_number or phone(number),
        network="AT-iShare",
        size_mb=1000,
        created_at=datetime.now(UTC),
    )


class Producer:
    """`async with Producer(settings) as producer:`"""

    def __init__(self, settings: Settings) -> None:
        self._topic = settings.topic_prefix + ORDERS_EVENTS
        self._partitions = settings.partitions
        self._producer = AIOKafkaProducer(
            **connection(settings), acks="all", linger_ms=2, max_batch_size=256 * 1024, enable_idempotence=True
        )

    async def __aenter__(self) -> Self:
        await self._producer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._producer.stop()

    async def write(self, orders: Iterable[OrderCreated]) -> None:
        """Return once all are acknowledged."""
        await self.send(self.batches(orders))

    def batches(self, orders: Iterable[OrderCreated]) -> list[Batch]:
        """Their records, encoded, so that to send them costs next to nothing."""
        batches: list[Batch] = []
        open_ones: dict[int, Any] = {}
        for created in orders:
            key, value = created.order_id.encode(), json_value(created)
            headers = binary_headers("OrderCreated", created.order_id, SOURCE, created.created_at)
            partition = home_partition(created.order_id, self._partitions)
            while (
                partition not in open_ones
                or open_ones[partition].append(key=key, value=value, timestamp=None, headers=headers) is None
            ):
                open_ones[partition] = self._producer.create_batch()
                batches.append((partition, open_ones[partition]))
        return batches

    async def send(self, batches: Iterable[Batch]) -> None:
        """Return once all are acknowledged."""
        acknowledgements = [
            await self._producer.send_batch(batch, self._topic, partition=partition) for partition, batch in batches
        ]
        for acknowledgement in acknowledgements:
            await acknowledgement
