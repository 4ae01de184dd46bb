"""What the projector counts."""

from prometheus_client import Counter, Gauge, Histogram

RECORDS = Counter("projector_records_total", "Records applied to the view.", ["topic"])
BATCH_SECONDS = Histogram(
    "projector_batch_seconds",
    "Time to apply one batch, commit included.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
)
BATCH_RECORDS = Histogram("projector_batch_records", "Records in a batch.", buckets=(1, 10, 100, 500, 1000, 2000))
QUARANTINED = Counter("projector_quarantined_total", "Records of fulfillment.events that could not be applied.")
DEAD_LETTERS = Counter("projector_dead_letters_total", "Dead letters seen.", ["reason"])
UNSTORABLE = Counter("projector_unstorable_total", "Orders and dead letters that no row can hold.", ["topic"])
LAG = Gauge("projector_lag_records", "Committed records that are not in the view yet.", ["topic", "partition"])
HIDDEN = Gauge("projector_hidden_records", "Records behind a transaction that is still open.", ["topic", "partition"])
STATISTICS_SILENT = Gauge(
    "projector_statistics_silent_seconds",
    "For how long there has been something to tell the monitor that Kafka did not take.",
)
