"""The topic table: what is said where, in how many partitions, and for how long it is kept."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

ORDERS_EVENTS: Final = "orders.events"
FULFILLMENT_COMMANDS: Final = "fulfillment.commands"
FULFILLMENT_EVENTS: Final = "fulfillment.events"
FULFILLMENT_STATE: Final = "fulfillment.state"
FULFILLMENT_DEAD_LETTER: Final = "fulfillment.dead-letter"
FULFILLMENT_PROVIDERS: Final = "fulfillment.providers"
FULFILLMENT_STATISTICS: Final = "fulfillment.statistics"
FULFILLMENT_ALERTS: Final = "fulfillment.alerts"
MONITOR: Final = "monitor"
"""The Faust app, whose name goes before its table's in that of the topic behind it."""
MONITOR_TABLE: Final = "watch"
MONITOR_CHANGELOG: Final = f"{MONITOR}-{MONITOR_TABLE}-changelog"
FULFILLMENT_RETRY_PREFIX: Final = "fulfillment.retry."

_DAY_MS: Final = 86_400_000
_RETRY = re.compile(r"fulfillment\.retry\.([0-9]+)(ms|s|m|h)")
_UNIT_MS: Final = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}


@dataclass(frozen=True, slots=True)
class Topic:
    name: str
    partitions: int
    config: Mapping[str, str] = field(default_factory=dict)


def delay_name(delay_s: float) -> str:
    """The shortest exact spelling of a delay: 300 → `5m`, 15 → `15s`, 0.25 → `250ms`."""
    delay_ms = round(delay_s * 1000)
    for unit in ("h", "m", "s"):
        if delay_ms >= _UNIT_MS[unit] and delay_ms % _UNIT_MS[unit] == 0:
            return f"{delay_ms // _UNIT_MS[unit]}{unit}"
    return f"{delay_ms}ms"


def retry_topic(delay_s: float) -> str:
    return FULFILLMENT_RETRY_PREFIX + delay_name(delay_s)


def is_retry_topic(name: str) -> bool:
    """Without a prefix: a delayed topic, of these settings or of earlier ones."""
    return _RETRY.fullmatch(name) is not None


def table(partitions: int, delays_s: Iterable[float]) -> tuple[Topic, ...]:
    """Every topic, named without the deployment's prefix."""
    for_ever = {"retention.ms": "-1", "retention.bytes": "-1"}
    stamped = {"message.timestamp.type": "LogAppendTime"}
    days_30 = {"retention.ms": str(30 * _DAY_MS)}
    days_90 = {"retention.ms": str(90 * _DAY_MS)}
    compacted = {
        "cleanup.policy": "compact",
        # Small segments, cleaned early: a takeover reads the whole topic.
        "segment.bytes": str(16 * 1024 * 1024),
        "segment.ms": str(600_000),
        "min.cleanable.dirty.ratio": "0.1",
    }
    delayed = sorted({retry_topic(delay_s) for delay_s in delays_s})
    return (
        Topic(ORDERS_EVENTS, partitions, stamped | for_ever),
        Topic(FULFILLMENT_COMMANDS, partitions, stamped | days_30),
        Topic(FULFILLMENT_EVENTS, partitions, stamped | for_ever),
        *(Topic(name, partitions, stamped | days_90) for name in delayed),
        Topic(FULFILLMENT_STATE, partitions, stamped | compacted),
        Topic(FULFILLMENT_DEAD_LETTER, partitions, stamped | days_90 | {"max.message.bytes": "2097152"}),
        Topic(FULFILLMENT_PROVIDERS, 1, stamped | compacted),
        Topic(FULFILLMENT_STATISTICS, 1, stamped | {"retention.ms": str(3 * _DAY_MS)}),
        Topic(FULFILLMENT_ALERTS, 1, stamped | {"retention.ms": str(14 * _DAY_MS)}),
        Topic(MONITOR_CHANGELOG, 1, stamped | compacted),
    )
