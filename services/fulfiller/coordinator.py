"""Requests about the transactions of one identity, to its coordinator."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Final

from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.errors import (
    ConcurrentTransactions,
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    InvalidProducerEpoch,
    KafkaError,
    NodeNotReadyError,
    NoError,
    NotCoordinatorError,
    OperationNotAttempted,
    ProducerFenced,
    for_code,
)

BACKOFF_S: Final = 0.001
"""The broker still writes the last transaction's markers: a matter of a millisecond or two."""
MAX_BACKOFF_S: Final = 0.5
_FENCED: Final = (InvalidProducerEpoch, ProducerFenced)
_MOVED: Final = (NotCoordinatorError, CoordinatorNotAvailableError)
_LATER: Final = (CoordinatorLoadInProgressError, ConcurrentTransactions, *_MOVED)


class Coordinator:
    def __init__(self, client: AIOKafkaClient, transactional_id: str) -> None:
        self._client = client
        self._id = transactional_id
        self._node: int | None = None

    async def ask(
        self,
        request: Callable[[], Any],
        codes: Callable[[Any], Iterable[int]],
        *,
        harmless_late: bool = True,
    ) -> Any:
        """Ask until it is answered; once alone where a request whose connection broke may do harm later on.

        KafkaError, ProducerFenced.
        """
        backoff_s = BACKOFF_S
        while True:
            try:
                answer = await self._client.send(await self._find(), request(), group=ConnectionGroup.COORDINATION)
                kinds = {for_code(code) for code in codes(answer)} - {NoError}
                if len(kinds) > 1:  # what was not attempted for one partition was not because of another
                    kinds.discard(OperationNotAttempted)
            except KafkaError as error:
                raise_unless_retriable(error)
                if not (harmless_late or isinstance(error, NodeNotReadyError)):
                    raise
                self._node = None
                kinds = {type(error)}
            if not kinds:
                return answer
            for kind in kinds:
                raise_unless_retriable(kind())
            if kinds & set(_MOVED):
                self._node = None
            await asyncio.sleep(backoff_s)
            backoff_s = min(backoff_s * 2, MAX_BACKOFF_S)

    async def _find(self) -> int:
        if self._node is None:
            self._node = await self._client.coordinator_lookup(CoordinationType.TRANSACTION, self._id)
        return self._node


def raise_unless_retriable(error: KafkaError) -> None:
    """The error, as ProducerFenced where somebody else has the identity now."""
    if isinstance(error, _FENCED):
        raise ProducerFenced from error
    if not (error.retriable or isinstance(error, _LATER)):
        raise error
