"""What the monitor counts, and which alerts stand."""

from prometheus_client import Counter, Gauge

FIRING = Gauge("monitor_alert_firing", "1 while an alert stands.", ["alert", "severity", "subject"])
CHANGES = Counter("monitor_alert_changes_total", "Alerts raised and cleared here.", ["alert", "type"])
RECORDS = Counter("monitor_statistics_total", "Records of fulfillment.statistics taken in.")
REPEATED = Gauge("monitor_statistics_repeated", "Parts of statistics that had been counted before.")
LATE = Gauge("monitor_statistics_late", "Counts that came later than the longest window.")
BEYOND = Gauge("monitor_statistics_beyond", "What was said of more partitions or subjects than are followed.")
UNREADABLE = Gauge("monitor_statistics_unreadable", "Records of fulfillment.statistics that are none.")
EVENT_TIME = Gauge("monitor_event_time_seconds", "The latest event time seen, Unix time.")
HOOK_SENT = Counter("monitor_webhook_sent_total", "Alerts that the webhook's receiver took.")
HOOK_FAILURES = Counter("monitor_webhook_failures_total", "Posts to the webhook that failed, and were tried again.")
HOOK_GIVEN_UP = Counter("monitor_webhook_given_up_total", "Alerts that the webhook's receiver found wrong.")
HOOK_WAITING = Gauge("monitor_webhook_waiting_seconds", "For how long the next alert has waited for the webhook.")
