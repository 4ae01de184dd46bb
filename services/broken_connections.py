"""A connection to Kafka that breaks is a Kafka error, whichever event loop says so.

aiokafka 0.14 takes a write's OSError for a broken connection. uvloop raises RuntimeError where the transport is closed
and the reader has not been told yet; it would go through every handler of Kafka's errors and end the service.
"""

from typing import Any

from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError

_send = AIOKafkaConnection.send


def _send_or_say_that_it_broke(self: Any, *args: Any, **options: Any) -> Any:
    try:
        return _send(self, *args, **options)
    except RuntimeError as error:
        self.close(reason=CloseReason.CONNECTION_BROKEN)
        raise KafkaConnectionError(f"Connection at {self.host}:{self.port} broken: {error}") from error


def install() -> None:
    """For every client of this process."""
    AIOKafkaConnection.send = _send_or_say_that_it_broke
