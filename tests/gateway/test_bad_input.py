"""Everything that a purchase or a call about one must refuse: a clear 4xx, and nothing in Kafka."""

import asyncio
from typing import Any

import orjson
import pytest

from tests.gateway.conftest import BUNDLE, FULFILLMENT, PURCHASE, Client

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.usefixtures("silence")]
JSON = {"Content-Type": "application/json"}


BAD_BODIES: list[tuple[str, Any, str]] = [
    ("no network", {"size": "1GB", "phoneNumber": "0123456789"}, "network"),
    ("no size", {"network": "MTN", "phoneNumber": "0123456789"}, "size"),
    ("no phone", {"network": "MTN", "size": "1GB"}, "phoneNumber"),
    ("unknown network", {**BUNDLE, "network": "Vodacom"}, "network"),
    ("network is a number", {**BUNDLE, "network": 1}, "network"),
    ("network is null", {**BUNDLE, "network": None}, "network"),
    ("network of 10 KB", {**BUNDLE, "network": "M" * 10_000}, "network"),
    *[
        (f"size {size!r}"[:30], {**BUNDLE, "size": size}, "size")
        for size in (
            "1,5GB", "-1", -1, 0, "0GB", 1e308, "1e308", True, False, None, [], {}, "", "GB", "1TB", "1 GB 2",
            "\u0661GB", "0.0001GB", "1.5MB", "NaN", "Infinity", "200GB", 10**30, "9" * 5000, "1GB\u200b", 0.1 + 0.2,
        )
    ],
    *[
        (f"phone {phone!r}"[:30], {**BUNDLE, "phoneNumber": phone}, "phoneNumber")
        for phone in (
            "+00123456789", "", "0", "911", "012345678", "01234567890", "+2330123456789", "+1123456789", 123456789,
            None, True, [], {}, "٠١٢٣٤٥٦٧٨٩", "+233123456\u200b789", "+233123456789\n", "+233123456789\x00",
            "1" * 50_000, "abc", "+233 12 345 67 89 x1", "tel:+233123456789", "'; DROP TABLE orders; --",
            "\u202e+233123456789",
        )
    ],
    ("price below zero", {**BUNDLE, "price": -1}, "price"),
    ("price that is none", {**BUNDLE, "price": "five"}, "price"),
    ("price NaN", {**BUNDLE, "price": "NaN"}, "price"),
    ("price Infinity", {**BUNDLE, "price": "Infinity"}, "price"),
    ("price beyond reason", {**BUNDLE, "price": 1e300}, "price"),
    ("price is a bool", {**BUNDLE, "price": True}, "price"),
    ("package is a number", {**BUNDLE, "packageId": 12}, "packageId"),
    ("package is empty", {**BUNDLE, "packageId": ""}, "packageId"),
    ("package of 10 KB", {**BUNDLE, "packageId": "p" * 10_000}, "packageId"),
    ("package with NUL", {**BUNDLE, "packageId": "p\u0000"}, "packageId"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "named"), [pytest.param(*case[1:], id=case[0]) for case in BAD_BODIES])
async def test_a_bad_body_is_refused_by_the_field_to_mend(client: Client, body: object, named: str) -> None:
    answer = await client.purchase(body)
    assert answer.is_problem(400)
    assert answer.json["detail"].startswith(named)


_VALID = orjson.dumps(BUNDLE)
BAD_BYTES: list[tuple[str, bytes, int]] = [
    ("empty", b"", 400),
    ("not JSON", b"hello", 400),
    ("a form", b"network=MTN&size=1GB", 400),
    ("cut off", _VALID[:-1], 400),
    ("trailing junk", _VALID + b"x", 400),
    ("two objects", _VALID + _VALID, 400),
    ("an array", b"[" + _VALID + b"]", 400),
    ("a string", b'"AT-iShare"', 400),
    ("null", b"null", 400),
    ("duplicate keys", _VALID[:-1] + b',"size":"2GB"}', 400),
    ("NaN", _VALID[:-1] + b',"price":NaN}', 400),
    ("10,000 deep", b"[" * 10_000 + b"]" * 10_000, 400),
    ("1,000 deep within", _VALID[:-1] + b',"x":' + b"[" * 1000 + b"]" * 1000 + b"}", 400),
    ("BOM", b"\xef\xbb\xbf" + _VALID, 400),
    ("UTF-16", _VALID.decode().encode("utf-16"), 400),
    ("lone surrogate", _VALID[:-1] + b',"packageId":"\\ud800"}', 400),
    ("bytes that are no UTF-8", _VALID[:-1] + b',"packageId":"\xff"}', 400),
    ("NUL", _VALID[:-1] + b"\x00}", 400),
    ("a number of 10,000 digits", b'{"size":' + b"9" * 10_000 + b"}", 400),
    ("single quotes", b"{'size': '1GB'}", 400),
    ("a comment", _VALID[:-1] + b"/* */}", 400),
    ("1 MB", b'{"x":"' + b"y" * 1_000_000 + b'"}', 413),
    ("64 KiB and one", b"{" + b" " * 65_535 + b"}", 413),
]


@pytest.mark.parametrize(("content", "status"), [pytest.param(*case[1:], id=case[0]) for case in BAD_BYTES])
async def test_bad_bytes_are_refused(client: Client, content: bytes, status: int) -> None:
    answer = await client.request("POST", PURCHASE, data=content, headers=JSON)
    assert answer.is_problem(status)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({"Content-Type": "text/plain"}, 415, id="text"),
        pytest.param({"Content-Type": "application/x-www-form-urlencoded"}, 415, id="form"),
        pytest.param({"Content-Type": "application/json; charset=utf-16"}, 415, id="charset"),
        pytest.param({"Content-Type": ""}, 415, id="empty"),
        pytest.param({**JSON, "Content-Encoding": "gzip"}, 415, id="gzip"),
        pytest.param({**JSON, "Idempotency-Key": ""}, 400, id="empty key"),
        pytest.param({**JSON, "Idempotency-Key": "a b"}, 400, id="key with a space"),
        pytest.param({**JSON, "Idempotency-Key": "ключ"}, 400, id="key of letters"),
        pytest.param({**JSON, "Idempotency-Key": "k" * 256}, 400, id="long key"),
    ],
)
async def test_bad_headers_are_refused(client: Client, headers: dict[str, str], status: int) -> None:
    answer = await client.request("POST", PURCHASE, data=_VALID, headers=headers)
    assert answer.is_problem(status)


async def test_two_idempotency_keys_are_refused(client: Client) -> None:
    headers = [("Content-Type", "application/json"), ("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    assert (await client.request("POST", PURCHASE, data=_VALID, headers=headers)).is_problem(400)


async def test_a_chunked_body_is_measured_too(client: Client) -> None:
    async def chunks() -> Any:
        for _ in range(20):
            yield b" " * 10_000

    answer = await client.request("POST", PURCHASE, data=chunks(), headers=JSON)
    assert answer.is_problem(413)


@pytest.mark.parametrize(
    ("body", "named"),
    [
        pytest.param({"orderId": "x"}, "action", id="no action"),
        pytest.param({"action": "trigger"}, "orderId", id="no order"),
        pytest.param({"action": "cancel", "orderId": "6f1c1a53-9a44-5d0e-8f6d-2b8f3f6f0a51"}, "action", id="unknown"),
        pytest.param({"action": 1, "orderId": "6f1c1a53-9a44-5d0e-8f6d-2b8f3f6f0a51"}, "action", id="number"),
        *[
            pytest.param({"action": "retry", "orderId": order_id}, "orderId", id=f"order {order_id!r}"[:30])
            for order_id in (
                "", "x", "../../etc/passwd", "order-uuid", 1, None, [], "a" * 10_000, "6f1c1a53\x00",
                "6f1c1a539a445d0e8f6d2b8f3f6f0a51", "{6f1c1a53-9a44-5d0e-8f6d-2b8f3f6f0a51}",
                "٦f1c1a53-9a44-5d0e-8f6d-2b8f3f6f0a51", "6f1c1a53-9a44-5d0e-8f6d-2b8f3f6f0a51 ",
                "' OR 1=1 --                         ",
            )
        ],
    ],
)  # fmt: skip
async def test_a_bad_act_is_refused_by_the_field_to_mend(client: Client, body: object, named: str) -> None:
    answer = await client.request("POST", FULFILLMENT, json=body)
    assert answer.is_problem(400)
    assert named in answer.json["detail"]


@pytest.mark.parametrize(
    "query",
    [
        "", "?orderId", "?orderId=", "?orderId=x", "?orderid=6f1c1a53-9a44-5d0e-8f6d-2b8f3f6f0a51", "?orderId=%00",
        "?orderId=..%2F..%2Fetc", "?orderId=%ff%fe", "?orderId=" + "a" * 5000,
        "?orderId=6f1c1a53-9a44-5d0e-8f6d-2b8f3f6f0a51&orderId=6f1c1a53-9a44-5d0e-8f6d-2b8f3f6f0a51",
    ],
)  # fmt: skip
async def test_a_bad_question_is_refused(client: Client, query: str) -> None:
    answer = await client.request("GET", FULFILLMENT + query)
    assert answer.is_problem(400)
    assert "orderId" in answer.json["detail"]


async def test_unknown_orders_are_404(client: Client) -> None:
    order_id = "6F1C1A53-9A44-5D0E-8F6D-2B8F3F6F0A51"
    calls = (client.status(order_id), client.act("trigger", order_id), client.act("retry", order_id))
    for answer in await asyncio.gather(*calls):
        assert answer.is_problem(404)
        assert order_id.lower() in answer.json["detail"]


@pytest.mark.parametrize("path", ["/", "/api", PURCHASE + "/", PURCHASE + "/../x", "/api/orders/%2e%2e", "/etc/passwd"])
async def test_unknown_paths_are_404(client: Client, path: str) -> None:
    assert (await client.request("GET", path)).is_problem(404)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", PURCHASE, "POST"),
        ("DELETE", PURCHASE, "POST"),
        ("PUT", FULFILLMENT, "GET, HEAD, POST"),
        ("OPTIONS", FULFILLMENT, "GET, HEAD, POST"),
        ("POST", "/livez", "GET, HEAD"),
    ],
)
async def test_a_wrong_method_is_told_the_right_ones(client: Client, method: str, path: str, allowed: str) -> None:
    answer = await client.request(method, path)
    assert answer.is_problem(405)
    assert answer.headers["Allow"] == allowed


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"NONSENSE\r\n\r\n", id="no HTTP"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", id="TLS"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\nX-API-Key: " + b"s" * 20_000 + b"\r\n\r\n", id="20 KB header"),
        pytest.param(b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", id="20 KB path"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\nA: b\x00c\r\n\r\n", id="NUL in a header"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", id="negative length"),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            id="two lengths",
        ),
    ],
)
async def test_what_is_no_http_is_refused_without_repeating_it(client: Client, head: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    writer.write(head)
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    await writer.wait_closed()
    assert answer.split(b" ", 2)[1] == b"400"
    assert b"application/problem+json" in answer
    assert b"sss" not in answer
