"""What the fulfiller counts and measures; never an order or a phone as a label."""

from functools import cache
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

EVENTS: Final = Counter("fulfiller_events_total", "Fulfilment events committed, by type", ["type"])
DEAD_LETTERS: Final = Counter("fulfiller_dead_letters_total", "Records that could not be acted on", ["reason"])
FORWARDED: Final = Counter("fulfiller_forwarded_total", "Records found in another partition than their order's")
ALARMS: Final = Counter("fulfiller_alarms_total", "What somebody should look at", ["kind"])
OUTCOMES: Final = Counter("fulfiller_outcomes_total", "Answers to delivery calls, by class", ["provider", "outcome"])
outcomes: Final = cache(OUTCOMES.labels)
"""Of a provider and a class. It is counted with every call, and finding the labels costs more than counting."""
CALLS_IN_FLIGHT: Final = Gauge("fulfiller_calls_in_flight", "Delivery calls under way", ["provider"])
SUSPENDED: Final = Gauge("fulfiller_provider_suspended", "1 while no call may begin", ["provider"])
PROBES: Final = Counter("fulfiller_probes_total", "Questions whether a suspended provider works again", ["provider"])
BALANCE: Final = Gauge("fulfiller_provider_balance_bytes", "What is left with the provider", ["provider", "kind"])
WAITING: Final = Gauge("fulfiller_waiting_orders", "Orders that wait for a slot", ["provider"])
COMMIT_SECONDS: Final = Histogram(
    "fulfiller_commit_seconds",
    "One transaction, from its begin to its acknowledged commit",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5),
)
COMMIT_RECORDS: Final = Histogram(
    "fulfiller_commit_records", "Records of one transaction", buckets=(1, 3, 10, 30, 100, 300, 1000, 3000)
)
LATENESS_SECONDS: Final = Histogram(
    "fulfiller_delayed_lateness_seconds",
    "From a delayed record's due time to its being taken",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 1, 10, 60),
)
OVERDUE: Final = Counter("fulfiller_overdue_total", "Acts 30 s overdue that no queue held; should stay 0")
TAKEOVERS: Final = Counter("fulfiller_takeovers_total", "Partitions taken over, by result", ["result"])
TAKEOVER_SECONDS: Final = Histogram(
    "fulfiller_takeover_seconds", "From the fence to the first turn", buckets=(0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 60)
)
ORDERS: Final = Gauge("fulfiller_orders", "Orders in memory", ["partition", "kind"])
LAG: Final = Gauge("fulfiller_lag_records", "Records not read yet", ["partition", "topic"])
HIDDEN_SECONDS: Final = Gauge(
    "fulfiller_hidden_seconds", "How long an open transaction has hidden an input's end", ["partition", "topic"]
)
