"""Topics that an operator deletes."""

from aiokafka.admin import AIOKafkaAdminClient

from services import kafka
from services.settings import Settings
from tests.waiting import until


async def lose(settings: Settings, topic: str) -> None:
    """Delete it, and wait for the broker that is asked next to know: the controller answers first."""
    name = settings.topic_prefix + topic
    admin = AIOKafkaAdminClient(**kafka.connection(settings))
    await admin.start()
    try:
        await admin.delete_topics([name])

        async def gone() -> bool:
            return name not in await admin.list_topics()

        await until(gone, f"{name} to be gone")
    finally:
        await admin.close()
