"""Requests about partitions, each to its leader."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Final

import structlog
from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, NoError, for_code

from services.fulfiller.coordinator import raise_unless_retriable

BACKOFF_S: Final = 0.02
MAX_BACKOFF_S: Final = 0.5
_ANSWERED: Final = (NoError,)

log = structlog.get_logger()

Answers = dict[TopicPartition, Sequence[Any]]
"""What is said of each partition behind its error code."""


class Leaders:
    def __init__(self, client: AIOKafkaClient) -> None:
        self._client = client

    async def ask(
        self,
        partitions: Collection[TopicPartition],
        request: Callable[[Iterable[TopicPartition]], Any],
        well: Collection[type[KafkaError]] = _ANSWERED,
    ) -> Answers:
        """Ask until all is well, over leaders that move and connections that break. KafkaError, ProducerFenced."""
        answers: Answers = {}
        backoff_s = BACKOFF_S
        while missing := [tp for tp in partitions if tp not in answers]:
            found = await self.ask_once(missing, request, well)
            answers |= found
            if not found:
                await self._client.force_metadata_update()
                await asyncio.sleep(backoff_s)
                backoff_s = min(backoff_s * 2, MAX_BACKOFF_S)
        return answers

    async def ask_once(
        self,
        partitions: Collection[TopicPartition],
        request: Callable[[Iterable[TopicPartition]], Any],
        well: Collection[type[KafkaError]] = _ANSWERED,
    ) -> Answers:
        """Of the partitions that have a leader, and are well; the others may be asked again. As `ask`."""
        by_leader = await self._by_leader(partitions)
        found = await asyncio.gather(*(self._ask(node, request(tps), well) for node, tps in by_leader.items()))
        return {tp: said for answered in found for tp, said in answered.items()}

    async def _ask(self, node: int, request: Any, well: Collection[type[KafkaError]]) -> Answers:
        try:
            answer = await self._client.send(node, request)
        except KafkaError as error:
            raise_unless_retriable(error)
            log.info("leader_not_asked", request=type(request).__name__, node=node, error=repr(error))
            return {}
        answers = {}
        for topic, partitions, *_ in answer.topics:
            for partition, code, *said in partitions:
                kind = for_code(code)
                if kind in well:
                    answers[TopicPartition(topic, partition)] = said
                else:
                    raise_unless_retriable(kind())
        return answers

    async def _by_leader(self, partitions: Collection[TopicPartition]) -> dict[int, list[TopicPartition]]:
        if unknown := {tp.topic for tp in partitions if self._leader(tp) is None}:
            for topic in unknown:
                self._client.add_topic(topic)
            await self._client.force_metadata_update()
        by_leader: dict[int, list[TopicPartition]] = {}
        for tp in partitions:
            if (node := self._leader(tp)) is not None:
                by_leader.setdefault(node, []).append(tp)
        return by_leader

    def _leader(self, partition: TopicPartition) -> int | None:
        node = self._client.cluster.leader_for_partition(partition)
        return None if node is None or node < 0 else int(node)


def by_topic(parts: Iterable[tuple[TopicPartition, Any]]) -> list[tuple[str, list[Any]]]:
    """As requests name partitions, each with what is asked of it."""
    topics: dict[str, list[Any]] = {}
    for to, part in parts:
        topics.setdefault(to.topic, []).append(part)
    return list(topics.items())
