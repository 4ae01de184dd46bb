"""Bulk retries: previewed, tried on a few, then carried out at a pace, whatever becomes of the gateway."""

from services.gateway.address import Addresses
from services.gateway.bulk.jobs import Jobs
from services.gateway.bulk.runner import Runner
from services.gateway.bulk.store import Store
from services.gateway.database import Database
from services.gateway.writer import Writer
from services.settings import Settings


class Bulk:
    """The handlers and the background work, put together."""

    def __init__(self, settings: Settings, database: Database, writer: Writer, addresses: Addresses) -> None:
        self.store = Store(settings, database)
        self.runner = Runner(self.store, writer)
        self.jobs = Jobs(self.store, self.runner, addresses)

    async def close(self) -> None:
        await self.store.close()
