"""Alerts: read from fulfillment.alerts into memory, shown, and raised here where the monitor cannot."""

from collections.abc import Callable

from services.gateway.alerts.following import Following
from services.gateway.alerts.listing import Listing
from services.settings import Settings


class Alerts:
    """What follows the topic, and the handler, put together."""

    def __init__(self, settings: Settings, on_change: Callable[[], None] = lambda: None) -> None:
        """`on_change`: something was raised or cleared."""
        self.following = Following(settings, on_change)
        self.listing = Listing(self.following, frozenset(settings.alerts_silenced))
