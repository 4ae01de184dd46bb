"""What the monitor says: an alert was raised, or is over."""

from enum import StrEnum
from typing import Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict

DOCUMENT: Final = "docs/alerts.md"
STATISTICS_SILENT: Final = "statistics_silent"
MONITOR_SILENT: Final = "monitor_silent"
SILENCES: Final = (STATISTICS_SILENT, MONITOR_SILENT)
"""What the monitor cannot know of itself: the gateway raises these, and fulfillment.alerts does not have them."""


class Severity(StrEnum):
    WARNING = "warning"
    CRITICAL = "critical"


class Alert(BaseModel):
    """A record of fulfillment.alerts: a change, said at least once; one that is said again has the same `id`."""

    model_config = ConfigDict(frozen=True, extra="allow")

    type: Literal["AlertRaised", "AlertCleared"]
    version: Literal[1] = 1
    id: str
    name: str
    severity: Severity
    subject: str
    """`network`, `network/provider`, `provider` or `all`."""
    since: AwareDatetime
    """Since when its condition has held; of one that is over, since when it has been gone."""
    at: AwareDatetime
    """When it was raised or cleared, in event time."""
    figure: float | None = None
    """None where there is nothing left to count."""
    bound: float
    unit: str
    advice: str
    """What to do, in a line."""
    link: str
    orders: tuple[str, ...] = ()
    """A few of the orders that it is about."""


def read_alert(value: bytes) -> Alert:
    """One record's value. pydantic.ValidationError where it is none."""
    return Alert.model_validate_json(value)
