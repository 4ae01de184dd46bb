"""What a caller may ask and how: rates, hosts, headers, slowness; and that a failure tells nothing."""

import asyncio
from ipaddress import ip_network
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from services.gateway import http, keys
from services.gateway.access import Role
from services.gateway.address import Addresses
from services.gateway.rates import Rates
from services.gateway.routes import Route
from services.gateway.server import Gateway
from tests.gateway.conftest import Client, Stand, View, standing
from tests.gateway.test_access import ELSEWHERE, bearer
from tests.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_key_that_asks_too_much_is_told_when_to_come_back(stand: Stand, view: View) -> None:
    settings = stand.settings.model_copy(update={"rate_limit_per_s": 0.1, "rate_limit_burst": 3})
    token, other = [await keys.create(view.connection, Role.PURCHASER, None) for _ in range(2)]
    async with standing(settings) as limited:
        await until(lambda: limited.gateway.database.up, "PostgreSQL")
        said = ELSEWHERE | bearer(token)
        answers = [await limited.client.request("GET", "/api/session", headers=said) for _ in range(5)]
        assert [answer.status for answer in answers] == [200, 200, 200, 429, 429]
        assert [answer.headers["RateLimit"].split(";")[1] for answer in answers[:4]] == ["r=2", "r=1", "r=0", "r=0"]
        assert answers[0].headers["RateLimit-Policy"] == '"caller";q=3;w=30'
        assert answers[3].is_problem(429)
        assert 1 <= int(answers[3].headers["Retry-After"]) <= 10
        assert (await limited.client.purchase(None, None, **said)).is_problem(429)
        assert (await limited.client.purchase(None, None, **ELSEWHERE, **bearer(other))).status == 202
        assert (await limited.client.request("GET", "/livez")).status == 200


async def test_a_bucket_fills_steadily_and_no_further() -> None:
    now_s = 0.0
    rates = Rates(10, 20, clock_s=lambda: now_s)
    allowed = 0
    for tenth in range(100):
        now_s = tenth / 10
        for _ in range(5):
            quota = rates.take("a")
            assert quota is not None
            allowed += quota.allowed
    assert allowed == 20 + 99
    now_s += 3600
    quotas = [rates.take("a") for _ in range(30)]
    assert sum(quota is not None and quota.allowed for quota in quotas) == 20
    assert Rates(0, 1).take("a") is None


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("shop.example.com", 401), ("SHOP.example.com", 401), ("shop.example.com:443", 421), ("evil.example.com", 421),
        ("shop.example.com.evil.example.com", 421), ("", 421), ("127.0.0.1", 421),
    ],
)  # fmt: skip
async def test_the_gateway_goes_by_its_own_names(named: Client, host: str, status: int) -> None:
    for path in ("/api/session", "/nowhere") if status == 421 else ("/api/session",):
        answer = await named.request("GET", path, headers={"Host": host, "X-API-Key": "x"})
        assert answer.is_problem(status)
    assert (await named.request("GET", "/livez", headers={"Host": host})).status == 200


@pytest_asyncio.fixture(loop_scope="session")
async def named(stand: Stand) -> Any:
    settings = stand.settings.model_copy(update={"allowed_hosts": ("shop.example.com",)})
    async with standing(settings) as strict:
        yield strict.client


async def test_every_answer_has_the_headers_that_keep_browsers_in_check(client: Client, gateway: Gateway) -> None:
    for route in gateway.routes:
        if route.method != "GET" or "{" in route.path or route.path.endswith("/stream"):
            continue
        answer = await client.request("GET", route.path, headers=ELSEWHERE)
        policy = dict(part.strip().split(" ", 1) for part in answer.headers["Content-Security-Policy"].split(";"))
        assert "unsafe" not in policy.get("script-src", policy["default-src"]), route.path
        assert policy["frame-ancestors"] == "'none'"
        assert policy["base-uri"] == "'none'"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"]
        assert "aiohttp" not in answer.headers["Server"].lower()
    for path in ("/nowhere", "/api/session"):
        assert "Content-Security-Policy" in (await client.request("GET", path, headers=ELSEWHERE)).headers


async def test_a_failure_tells_nothing(client: Client, gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("the secret is hunter2")

    monkeypatch.setattr(gateway.access, "quota", broken)
    answer = await client.request("GET", "/livez")
    assert answer.is_problem(500)
    assert b"hunter2" not in answer.content
    assert b"Traceback" not in answer.content
    assert "Content-Security-Policy" in answer.headers


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow: ", id="half a head"),
        pytest.param(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\nGET /livez HTTP/1.1\r\nX-Slow: ", id="the second head"),
    ],
)
async def test_who_is_slow_with_a_head_is_cut_off(client: Client, monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr(http, "HEAD_TIMEOUT_S", 0.5)
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    writer.write(sent)
    trickle = asyncio.create_task(_trickle(writer))
    answer = await asyncio.wait_for(reader.read(), 5)
    trickle.cancel()
    writer.close()
    assert answer.count(b"HTTP/1.1 200") == sent.count(b"\r\n\r\n")


async def _trickle(writer: asyncio.StreamWriter) -> None:
    """A byte now and then, so that the connection is never idle for long."""
    await asyncio.sleep(0.1)
    while not writer.is_closing():
        writer.write(b"x")
        await asyncio.sleep(0.1)


async def test_a_connection_may_rest_between_requests(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "HEAD_TIMEOUT_S", 0.3)
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    for _ in range(2):
        writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        assert b"200 OK" in head
        await reader.readexactly(len(b'{"live":true}'))
        await asyncio.sleep(0.6)
    writer.close()


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("203.0.113.9", [], "203.0.113.9"),
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["1.2.3.4, 198.51.100.1", "10.0.0.2"], "198.51.100.1"),
        ("10.0.0.1", ["1.2.3.4, nonsense"], "10.0.0.1"),
        ("10.0.0.1", ["2001:db8::1"], "2001:db8::1"),
        ("10.0.0.1", ["fe80::1%any text"], "10.0.0.1"),
    ],
)
async def test_only_ones_own_proxies_say_for_whom_they_speak(peer: str, forwarded: list[str], address: str) -> None:
    request = make_mocked_request("GET", "/", headers=_multi(forwarded))
    assert Addresses([ip_network("10.0.0.0/8")]).of(request.clone(remote=peer)) == address  # type: ignore[list-item]
    assert Addresses([]).of(request.clone(remote=peer)) == peer


def _multi(forwarded: list[str]) -> Any:
    return CIMultiDict([("X-Forwarded-For", value) for value in forwarded])


async def test_a_route_needs_a_role_unless_it_says_otherwise() -> None:
    async def handler(_request: web.Request, _caller: object) -> web.Response:
        return web.Response()

    assert not Route("GET", "/x", handler).permission.roles
    assert not Route("GET", "/x", handler).permission.anyone
