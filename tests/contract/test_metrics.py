"""What Prometheus scrapes of every service: its text format, its naming conventions, no order and nobody in a label.

The rules are those of `promtool check metrics` (prometheus/client_golang, testutil/promlint/validations), and
https://prometheus.io/docs/practices/naming/.
"""

import re
from collections.abc import Iterable, Iterator

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from services.gateway.access import Role
from tests.contract.conformance import calls
from tests.contract.conftest import STRANGER, System
from tests.contract.test_openapi import DOCUMENT

OURS = ("fulfiller_", "gateway_", "projector_", "monitor_")
NOT_BASE_UNITS = re.compile(
    r"_(milliseconds|microseconds|nanoseconds|minutes|hours|days|weeks|ms|us|ns|kilobytes|megabytes|kb|mb|gb|bits|"
    r"percent|percents|celsius_degrees)(_|$)"
)
NAME = re.compile(r"[a-z][a-z0-9_]*")
TYPES = re.compile(r"_(counter|gauge|histogram|summary|metric|info)(_|$)")
PERSONAL = re.compile(r"order|phone|account|actor|(^|_)(user|key|reference|id)($|_)")
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
PHONE = re.compile(r"\+?233\d{9}|\b0\d{9}\b")
AT_MOST = 1000
"""Series of one metric: labels stay few."""


def faults(families: Iterable[Metric]) -> list[str]:
    """What a linter says of them, a line each."""
    return [
        f"{family.name}: {fault}" for family in families for fault in (*_misnamed(family), *_misplaced_labels(family))
    ]


def _misnamed(family: Metric) -> Iterator[str]:
    name, samples = family.name, family.samples
    for wrong, fault in (
        (not family.documentation, "no help"),
        (not NAME.fullmatch(name), "not in snake_case"),
        (NOT_BASE_UNITS.search(name), "not in base units"),
        (TYPES.search(name), "its type is in its name"),
        (
            family.type == "counter" and not all(s.name.endswith(("_total", "_created")) for s in samples),
            "a counter without _total",
        ),
        (family.type != "counter" and name.endswith("_total"), "_total, and no counter"),
        (
            family.type not in {"histogram", "summary"} and name.endswith(("_count", "_sum", "_bucket")),
            "it ends as a histogram's part",
        ),
        (len(samples) > AT_MOST, f"{len(samples)} series"),
    ):
        if wrong:
            yield fault


def _misplaced_labels(family: Metric) -> Iterator[str]:
    for sample in family.samples:
        for label, value in sample.labels.items():
            if not NAME.fullmatch(label) or PERSONAL.search(label):
                yield f"label {label}"
            if UUID.search(value) or PHONE.search(value):
                yield f"{label}={value}"


BAD = {
    "no help": "# TYPE gateway_a_total counter\ngateway_a_total 1\n",
    "not in base units": "# HELP gateway_a_ms A.\n# TYPE gateway_a_ms gauge\ngateway_a_ms 1\n",
    "_total, and no counter": "# HELP gateway_a_total A.\n# TYPE gateway_a_total gauge\ngateway_a_total 1\n",
    "label order_id": '# HELP gateway_a A.\n# TYPE gateway_a gauge\ngateway_a{order_id="1"} 1\n',
    "its type is in its name": "# HELP gateway_a_gauge A.\n# TYPE gateway_a_gauge gauge\ngateway_a_gauge 1\n",
    "not in snake_case": "# HELP gatewayA A.\n# TYPE gatewayA gauge\ngatewayA 1\n",
    "to=+233123456789": '# HELP gateway_a A.\n# TYPE gateway_a gauge\ngateway_a{to="+233123456789"} 1\n',
}


@pytest.mark.parametrize("fault", BAD)
def test_every_kind_of_fault_is_seen(fault: str) -> None:
    assert any(fault in said for said in faults(text_string_to_metric_families(BAD[fault])))


@pytest.mark.asyncio(loop_scope="session")
async def test_what_is_scraped_keeps_the_conventions(system: System) -> None:
    # Every call once, with an id and a phone in its path and query, so that there is something that could leak.
    for call in calls(DOCUMENT):
        if not call.endless:
            async with system.session.request(
                call.method,
                system.url + call.url(),
                params={"orderId": "0b0c2f4e-6a52-4a9c-9d1e-8f1f64f2a001", "phone": "+233123456789"},
                headers=STRANGER | {"X-API-Key": system.keys[Role.VIEWER]},
            ) as response:
                await response.read()
    for url in (system.url, *system.health_urls):
        async with system.session.get(f"{url}/metrics") as response:
            assert response.status == 200
            assert response.headers["Content-Type"].startswith("text/plain; version=")
            families = list(text_string_to_metric_families(await response.text()))
        ours = [family for family in families if family.name.startswith(OURS)]
        assert len(ours) > 3
        assert faults(ours) == []
        strangers = {family.name.partition("_")[0] for family in families} - {name.rstrip("_") for name in OURS}
        assert strangers <= {"process", "python"}
