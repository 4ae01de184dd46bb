"""Providers: how they stand, what is left with them, and a person's suspending and resuming."""

from services.gateway.address import Addresses
from services.gateway.audit import Audit
from services.gateway.database import Database
from services.gateway.providers.acts import Acts
from services.gateway.providers.listing import Listings
from services.gateway.reads.reading import Reading
from services.gateway.writer import Writer


class Providers:
    """The handlers, put together."""

    def __init__(
        self, reading: Reading, database: Database, *, writer: Writer, audit: Audit, addresses: Addresses
    ) -> None:
        self.listings = Listings(reading)
        self.acts = Acts(self.listings, database, writer, audit, addresses)
