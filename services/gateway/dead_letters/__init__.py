"""Dead letters: looked at, by error and one by one, and sent back to where they came from."""

from services.gateway.address import Addresses
from services.gateway.database import Database
from services.gateway.dead_letters.listing import Listings
from services.gateway.dead_letters.replay import Replays
from services.gateway.reads.reading import Reading
from services.gateway.writer import Writer
from services.settings import Settings


class DeadLetters:
    """The handlers, put together."""

    def __init__(
        self, settings: Settings, reading: Reading, database: Database, writer: Writer, addresses: Addresses
    ) -> None:
        self.listings = Listings(reading)
        self.replays = Replays(settings, reading, database, writer, addresses)
