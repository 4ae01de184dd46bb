"""Kafka's clients that are let go: nobody waits for long, and nobody cancels them, or they leave connections open."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog
from aiokafka.errors import KafkaError

log = structlog.get_logger()


class Closing:
    """Clients that are being closed. One that cannot reach its broker does so when the broker is back."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def later(self, closing: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(self._quietly(closing))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def wait(self, timeout_s: float) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s)

    @staticmethod
    async def _quietly(closing: Coroutine[Any, Any, None]) -> None:
        try:
            await closing
        except (KafkaError, OSError) as error:
            log.info("kafka_client_close_failed", error=repr(error))
