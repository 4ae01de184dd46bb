"""The broker goes, the transport is closed, and the connection's reader does not know yet: on the services' loop."""

import asyncio

import pytest
import uvloop
from aiokafka.conn import create_conn
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.metadata import MetadataRequest

from services import kafka as _installs_it  # noqa: F401 - for its effect


async def _write_to_a_closed_transport(host: str, port: int) -> None:
    connection = await create_conn(host, port)
    try:
        connection._writer.transport.abort()  # noqa: SLF001 - as the kernel does
        await asyncio.sleep(0)  # one step of the loop: the transport closes, and the reader is yet to be told
        with pytest.raises(KafkaConnectionError, match="broken"):
            connection.send(MetadataRequest([]))
        assert not connection.connected()
    finally:
        connection.close()


def test_a_write_to_a_closed_transport_is_a_broken_connection(kafka: str) -> None:
    host, _, port = kafka.partition(":")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_write_to_a_closed_transport(host, int(port)))
