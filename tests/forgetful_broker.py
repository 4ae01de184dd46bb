"""A real broker that calls a transaction complete and writes no markers, as one does that is being stopped."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import InvalidTxnState
from aiokafka.protocol.transaction import AddPartitionsToTxnRequest, EndTxnRequest

from schemas.topics import FULFILLMENT_EVENTS
from services.fulfiller.log import Outgoing
from services.fulfiller.transactions import Transactions
from services.kafka import connection
from services.settings import Settings

TIMEOUT_MS: Final = 10_000
WITHIN_S: Final = 30.0


class SaidToBeDone:
    """A client's `send` by which records are written and no end of their transaction; the answers say that it is done.

    So a broker answers that is asked to stop: a partition without a leader gets no marker, and the transaction is over.
    """

    def __init__(self, client: AIOKafkaClient) -> None:
        self._send = client.send

    async def __call__(self, node: int, request: Any, **arguments: Any) -> Any:
        if isinstance(request, AddPartitionsToTxnRequest):
            return SimpleNamespace(errors=[])
        if isinstance(request, EndTxnRequest):
            return SimpleNamespace(error_code=0)
        return await self._send(node, request, **arguments)


@asynccontextmanager
async def credulous(topics: Settings) -> AsyncIterator[None]:
    """A broker that takes records of a transaction without asking its coordinator whether it is open."""
    admin = AIOKafkaAdminClient(**connection(topics))
    await admin.start()
    try:
        await _verify(admin, "false")
        await _until_it_believes_all(topics)
        yield
        await _verify(admin, "true")
    finally:
        await admin.close()


async def _verify(admin: AIOKafkaAdminClient, value: str) -> None:
    config = {"transaction.partition.verification.enable": value}
    answers = await admin.alter_configs([ConfigResource(ConfigResourceType.BROKER, "1", configs=config)])
    assert [code for answer in answers for code, *_ in answer.resources] == [0]


async def _until_it_believes_all(topics: Settings) -> None:
    """A broker answers before it does as it is told; elsewhere than where the tests look."""
    client = AIOKafkaClient(**connection(topics))
    await client.bootstrap()
    transactions = Transactions(client, f"{topics.topic_prefix}credulous", TIMEOUT_MS)
    await transactions.take()
    client.send = SaidToBeDone(client)
    record = Outgoing(FULFILLMENT_EVENTS, 1, b"k", b"v")
    async with asyncio.timeout(WITHIN_S):
        while True:
            try:
                await transactions.commit({TopicPartition(topics.topic_prefix + FULFILLMENT_EVENTS, 1): [record]})
                break
            except InvalidTxnState:
                await transactions.take()
    await client.close()
