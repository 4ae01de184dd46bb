"""What people ask about orders: lists, counts, statistics, timelines, exports, and what changes as it changes."""

from services.gateway.database import Database
from services.gateway.reads.export import Exports
from services.gateway.reads.listing import Listings
from services.gateway.reads.reading import Reading
from services.gateway.reads.statistics import StatisticsOfOrders
from services.gateway.reads.stream import Feed, Streams
from services.gateway.reads.timeline import Timelines
from services.settings import Settings


class Reads:
    """The handlers, put together."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self.reading = Reading(settings, database)
        self.feed = Feed(self.reading, settings.topic_prefix)
        self.listings = Listings(self.reading)
        self.exports = Exports(self.reading, self.listings)
        self.statistics = StatisticsOfOrders(self.reading)
        self.timelines = Timelines(self.reading, settings.topic_prefix)
        self.streams = Streams(self.feed)

    async def close(self) -> None:
        await self.reading.close()
