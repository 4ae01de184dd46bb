"""Statistics written to a real broker, and the alerts that monitors make of them."""

from collections.abc import Sequence

from aiokafka import AIOKafkaProducer

from schemas.alerts import Alert, read_alert
from schemas.statistics import Statistics
from schemas.topics import FULFILLMENT_ALERTS, FULFILLMENT_STATISTICS, MONITOR_CHANGELOG
from services import kafka
from services.settings import Settings
from tests.evidence import Logged, read_topics
from tests.monitor.second_opinion import Change, called_for
from tests.monitor.statistics import value
from tests.processes import Processes, Service, environment
from tests.waiting import until


class Watched:
    """Statistics written, and alerts read."""

    def __init__(self, settings: Settings, processes: Processes) -> None:
        self.settings = settings.model_copy(update={"partitions": 1})
        self._processes = processes

    def monitor(self, **env: str) -> Service:
        return self._processes.start(["services.monitor"], environment(self.settings) | env)

    async def write(self, said: Sequence[Statistics | bytes]) -> None:
        producer = AIOKafkaProducer(**kafka.connection(self.settings), acks="all")
        await producer.start()
        try:
            topic = self.settings.topic_prefix + FULFILLMENT_STATISTICS
            for one in said:
                await producer.send(topic, one if isinstance(one, bytes) else value(one), partition=0)
            await producer.flush()
        finally:
            await producer.stop()

    async def write_to(self, topic: str, key: bytes, value: bytes) -> None:
        producer = AIOKafkaProducer(**kafka.connection(self.settings), acks="all")
        await producer.start()
        await producer.send_and_wait(self.settings.topic_prefix + topic, value, key, partition=0)
        await producer.stop()

    async def _logged(self, topic: str) -> list[Logged]:
        return (await read_topics(self.settings, [topic]))[topic]

    async def kept(self) -> list[bytes]:
        """All that monitors kept and that is not compacted yet, in order."""
        return [one.value or b"" for one in await self._logged(MONITOR_CHANGELOG)]

    async def called_for(self) -> list[Change]:
        """By the log alone, and by another's reckoning."""
        return called_for(await self._logged(FULFILLMENT_STATISTICS))

    async def sent(self) -> list[Alert]:
        return [read_alert(one.value or b"") for one in await self._logged(FULFILLMENT_ALERTS)]

    async def proven(self, *, maybe_repeated: bool = False) -> list[Alert]:
        """Wait until every alert that is called for has been sent; they are these, in this order, once each.

        `maybe_repeated`: some of them again later, as a receiver knows by their ids.
        """
        wanted = await self.called_for()

        async def all_there() -> list[Alert] | None:
            sent = await self.sent()
            first = _first_of_each(sent) if maybe_repeated else sent
            return first if len(first) >= len(wanted) else None

        sent: list[Alert] = await until(all_there, f"{len(wanted)} alerts", 120)
        assert [Change.of(one) for one in sent] == wanted
        assert len({one.id for one in sent}) == len(sent)
        return sent


def _first_of_each(alerts: Sequence[Alert]) -> list[Alert]:
    known: dict[str, Alert] = {}
    for alert in alerts:
        assert known.setdefault(alert.id, alert) == alert
    return list(known.values())
