"""What the gateway counts; never an order, an account or a phone as a label."""

from prometheus_client import Counter, Gauge, Histogram

_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)

requests_total = Counter("gateway_requests_total", "Requests answered", ["route", "method", "status"])
request_duration_seconds = Histogram(
    "gateway_request_duration_seconds", "From the request's head to its answer", ["route"], buckets=_BUCKETS_S
)
produce_duration_seconds = Histogram(
    "gateway_produce_duration_seconds", "From a record to Kafka's acknowledgement", ["topic"], buckets=_BUCKETS_S
)
alert_firing = Gauge("gateway_alert_firing", "1 while an alert stands.", ["alert", "severity", "subject"])
key_checks_total = Counter("gateway_key_checks_total", "API keys checked", ["source"])
