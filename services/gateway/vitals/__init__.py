"""Vitals: how late all is and how fast the providers answer, read from fulfillment.statistics into memory."""

from services.gateway.vitals.following import Following
from services.gateway.vitals.listing import Listing
from services.settings import Settings


class Vitals:
    """What follows the topic, and the handler, put together."""

    def __init__(self, settings: Settings) -> None:
        self.following = Following(settings)
        self.listing = Listing(self.following)
