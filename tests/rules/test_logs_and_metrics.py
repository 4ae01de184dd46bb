"""What operators see: the log lines that they know, no phone number, no order in a label."""

import json
import re
from pathlib import Path

from prometheus_client import REGISTRY

import services.fulfiller.metrics
import services.gateway.metrics
import services.projector.metrics
from services.sandbox.faults import magic_number
from services.settings import LogFormat
from tests.backend import Backend
from tests.stand import stand

SERVICES = (services.fulfiller.metrics, services.gateway.metrics, services.projector.metrics)


async def test_log_lines_keep_their_prefixes_and_mask_phones(backend: Backend, migrated: str, tmp_path: Path) -> None:
    async with stand(backend, migrated, tmp_path, log_format=LogFormat.JSON, retry_delays=(60, 60, 60)) as system:
        fulfiller, gateway = system.fulfiller(), system.gateway()
        system.projector()
        await fulfiller.ready()
        url = await gateway.ready()
        phone = magic_number("busy", 1)
        order_id = (await system.purchase(url, phone=phone)).order["id"]
        await system.reached([order_id], "waiting")
        async with system.session.post(
            f"{url}/api/orders/fulfillment", json={"action": "retry", "orderId": order_id}
        ) as response:
            assert response.status == 200, await response.text()
        lines = [json.loads(line) for line in fulfiller.log.splitlines() if line.startswith("{")]
        said = [line["event"] for line in lines]
        masked = f"{phone[:-5]}•••{phone[-2:]}"
        assert said.count(f"[AT-ISHARE] Fulfilling order {order_id} for {masked} - 1GB") == 2
        assert said.count(f"[AT-ISHARE] Calling API with reference: {order_id}") == 2
        assert {line for line in said if "Response status" in line} == {
            "[AT-ISHARE] API Response status: 503",
            "[AT-ISHARE] API Response status: 200",
        }
        assert f"[FULFILLMENT] Retrying fulfillment for AT-iShare order {order_id}" in gateway.log
        for service in (fulfiller, gateway):
            assert phone not in service.log
            assert phone.removeprefix("+233") not in service.log


def test_no_label_names_an_order_or_a_person() -> None:
    metrics = [metric for service in SERVICES for metric in vars(service).values()]
    labels = {label for metric in metrics for label in getattr(metric, "_labelnames", ())}
    assert labels
    assert not [label for label in labels if re.search("order|phone|account|actor|key|reference|user", label)]


def test_metrics_have_base_units() -> None:
    for family in REGISTRY.collect():
        if family.name.startswith(("fulfiller_", "gateway_", "projector_")):
            assert not re.search(r"_(ms|millis|minutes|kb|mb)(_|$)", family.name), family.name
