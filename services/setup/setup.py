"""The whole of it, in order: database, topics, genesis records. Safe to repeat."""

from dataclasses import dataclass

from aiokafka.errors import KafkaError, KafkaTimeoutError

from schemas.topics import FULFILLMENT_EVENTS, FULFILLMENT_STATE
from services.run import Refusal
from services.settings import Settings
from services.setup.genesis import Genesis, ensure_genesis
from services.setup.migrations import migrate
from services.setup.patience import Patience
from services.setup.topics import Topics, admin_client, ensure_topics


@dataclass(frozen=True)
class Report:
    migrations: list[str]
    topics: Topics
    genesis: Genesis

    def lines(self) -> list[str]:
        """For the person who ran it."""
        topics, genesis = self.topics, self.genesis
        lines = [f"database: {', '.join(self.migrations) or 'nothing to migrate'}"]
        lines.append(f"topics: {len(topics.created)} created, {len(topics.existing)} found")
        lines += [f"  left as it is: {line}" for line in topics.differing]
        lines.append(f"genesis: {len(genesis.written)} written, {len(genesis.present)} found")
        if genesis.lost:
            lines.append(
                f"warning: partition {', '.join(map(str, genesis.lost))} of {FULFILLMENT_STATE} has lost its state, "
                f"while {FULFILLMENT_EVENTS} holds events: run `python -m services.fulfiller recover`"
            )
        return lines


class _PassingError(Exception):
    """The broker is busy with what was just made; both steps may be done again."""


async def set_up_kafka(settings: Settings, patience: Patience) -> tuple[Topics, Genesis]:
    """Topics and genesis records. Refusal where Kafka cannot be reached or used."""
    async with admin_client(settings, patience) as admin:

        async def make() -> tuple[Topics, Genesis]:
            try:
                topics = await ensure_topics(settings, admin)
                new = {settings.topic_prefix + name for name in (FULFILLMENT_EVENTS, FULFILLMENT_STATE)}
                genesis = await ensure_genesis(settings, topics.cluster_id, just_made=new <= set(topics.created))
            except KafkaError as error:
                if error.retriable or isinstance(error, KafkaTimeoutError):
                    raise _PassingError(repr(error)) from error
                raise Refusal(f"Kafka refused: {error}") from error
            return topics, genesis

        return await patience.attempt(make, (_PassingError,), "Kafka's topics")


async def set_up(settings: Settings, *, patience_s: float = 30.0) -> Report:
    """Everything that the services need to find. Refusal where it cannot be had."""
    patience = Patience(patience_s)
    migrations = await migrate(settings, patience)
    topics, genesis = await set_up_kafka(settings, patience)
    return Report(migrations, topics, genesis)
