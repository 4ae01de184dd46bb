"""What no well-behaved client sends: bodies that never end, heads beyond measure, hosts that are missing or doubled."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import orjson
import pytest
import pytest_asyncio

from services.gateway import body, http, keys
from services.gateway.access import Role
from services.gateway.reads import stream
from tests.gateway.access.conftest import COOKIE, PASSWORD, People
from tests.gateway.conftest import Client, Stand, View, standing
from tests.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="session")

STREAM = "/api/admin/fulfillment/stream"
EXPORT = "/api/admin/fulfillment/export.csv"
POST = b"POST /api/orders/purchase HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@asynccontextmanager
async def connected(client: Client) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def answer(reader: asyncio.StreamReader, *, bodiless: bool = False) -> tuple[int, dict[str, str], bytes]:
    """Status, headers in lower case, content."""
    async with asyncio.timeout(60):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        content = b"" if bodiless else await reader.readexactly(int(headers["content-length"]))
    return int(head[0].split(" ")[1]), headers, content


async def said(client: Client, head: bytes) -> tuple[int, dict[str, str], bytes]:
    async with connected(client) as (reader, writer):
        writer.write(head)
        return await answer(reader)


@pytest.mark.parametrize(
    "length",
    [pytest.param(b"Content-Length: 60000", id="long"), pytest.param(b"Transfer-Encoding: chunked", id="chunked")],
)
async def test_a_body_that_does_not_come_is_a_408_and_the_connection_s_end(
    client: Client, monkeypatch: pytest.MonkeyPatch, length: bytes
) -> None:
    monkeypatch.setattr(body, "_READ_TIMEOUT_S", 0.5)
    async with connected(client) as (reader, writer):
        writer.write(POST + length + b"\r\n\r\n")
        trickle = asyncio.create_task(_trickle(writer, b"1\r\n \r\n" if b"chunked" in length else b" "))
        try:
            status, headers, content = await answer(reader)
            assert (status, orjson.loads(content)["type"]) == (408, "urn:fulfillment:request-timeout")
            assert headers["connection"] == "close"
            assert await asyncio.wait_for(reader.read(), 60) == b""
        finally:
            trickle.cancel()


@pytest.mark.parametrize("token", [b"\xff", b"\xc3\xa9" * 43, b"\xff" * 43, b""])
async def test_a_cookie_that_is_no_text_hinders_no_login(client: Client, people: People, token: bytes) -> None:
    name = await people.add(Role.VIEWER)
    who = orjson.dumps({"username": name, "password": PASSWORD})
    head = b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
    status, _, _ = await said(client, head % len(who) + b"Cookie: %s=%s\r\n\r\n" % (COOKIE.encode(), token) + who)
    assert status in {200, 400}


async def test_a_body_that_nobody_reads_holds_no_connection(client: Client) -> None:
    async with connected(client) as (reader, writer):
        writer.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000\r\n\r\n")
        trickle = asyncio.create_task(_trickle(writer, b" "))
        try:
            status, _, _ = await answer(reader)
            assert status == 200
            assert await asyncio.wait_for(reader.read(), 60) == b""
        finally:
            trickle.cancel()


async def _trickle(writer: asyncio.StreamWriter, part: bytes) -> None:
    """A little now and then, so that the connection is never idle for long."""
    while not writer.is_closing():
        writer.write(part)
        await asyncio.sleep(0.1)


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param(b"A: b\r\n" * 5_000, id="5,000 headers"),
        pytest.param(b"".join(b"A%d: %b\r\n" % (n, b"x" * 4_000) for n in range(100)), id="400 KB of headers"),
        pytest.param(b"A: " + b"x" * 9_000 + b"\r\n", id="9 KB in one"),
        pytest.param(b"x" * 9_000 + b": a\r\n", id="9 KB of name"),
        pytest.param(b"Cookie: " + b"a=b; " * 1_700 + b"\r\n", id="8.5 KB of cookies"),
    ],
)
async def test_a_head_beyond_measure_is_refused(client: Client, headers: bytes) -> None:
    status, _, content = await said(client, b"GET /livez HTTP/1.1\r\nHost: localhost\r\n" + headers + b"\r\n")
    assert (status, orjson.loads(content)["type"]) == (400, "urn:fulfillment:bad-http")


async def test_answers_that_nobody_reads_are_not_kept(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "TAKE_TIMEOUT_S", 0.5)
    _, writer = await asyncio.open_connection("127.0.0.1", client.port, limit=1024)
    try:
        # More than the system's buffers hold on both sides.
        writer.write(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 200)

        def is_over() -> bool:
            # Reading nothing, one hears of it by what cannot be sent.
            writer.write(b"\r\n")
            return writer.transport.is_closing()

        await until(is_over, "the end of the connection")
    finally:
        writer.transport.abort()


async def test_a_caller_has_so_many_streams_and_no_more(
    client: Client, view: View, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "_LISTENING", 3)
    monkeypatch.setattr(stream, "_PING_S", 1)  # by which it is noticed that a listener is gone
    key, other = [await keys.create(view.connection, Role.VIEWER, None) for _ in range(2)]
    async with AsyncExitStack() as stack:

        async def listens(token: str) -> tuple[int, asyncio.StreamWriter]:
            reader, writer = await stack.enter_async_context(connected(client))
            writer.write(f"GET {STREAM} HTTP/1.1\r\nHost: x\r\nX-API-Key: {token}\r\n\r\n".encode())
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
            return int(head.split(b" ")[1]), writer

        streams = [await listens(key) for _ in range(3)]
        assert {status for status, _ in streams} == {200}
        assert (await listens(key))[0] == 429
        assert (await listens(other))[0] == 200
        streams[0][1].transport.abort()

        async def again() -> bool:
            return (await listens(key))[0] == 200

        await until(again, "the place of the stream that ended", 60)


@pytest.mark.parametrize("path", [STREAM, EXPORT])
async def test_head_is_answered_at_once_without_what_get_would_send(client: Client, view: View, path: str) -> None:
    key = await keys.create(view.connection, Role.VIEWER, None)
    await view.add()
    async with connected(client) as (reader, writer):
        began_s = time.monotonic()
        for _ in range(2):  # and the connection can be used again
            writer.write(f"HEAD {path} HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\n\r\n".encode())
            status, headers, _ = await answer(reader, bodiless=True)
            assert status == 200
            assert headers["content-type"].startswith("text/event-stream" if path == STREAM else "text/csv")
        assert time.monotonic() - began_s < 10, "no ping was waited for"
        writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await answer(reader))[2] == b'{"live":true}'


@pytest_asyncio.fixture(loop_scope="session")
async def named(stand: Stand) -> Any:
    settings = stand.settings.model_copy(update={"allowed_hosts": ("shop.example.com",)})
    async with standing(settings) as strict:
        yield strict.client


@pytest.mark.parametrize(
    ("host", "status"),
    [
        pytest.param(b"Host: shop.example.com\r\n", 401, id="as it is"),
        pytest.param(b"", 421, id="none"),
        pytest.param(b"Host:\r\n", 421, id="empty"),
        pytest.param(b"Host: evil.example.com\r\n", 421, id="wrong"),
        pytest.param(b"Host: shop.example.com\r\nHost: shop.example.com\r\n", 421, id="twice"),
        pytest.param(b"Host: shop.example.com\r\nHost: evil.example.com\r\n", 421, id="two"),
        pytest.param(b"Host: evil.example.com\r\nX-Forwarded-Host: shop.example.com\r\n", 421, id="forwarded"),
    ],
)
@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
async def test_the_host_is_said_once_and_rightly(named: Client, host: bytes, status: int, version: bytes) -> None:
    found, _, content = await said(named, b"GET /api/session HTTP/%b\r\n%b\r\n" % (version, host))
    # aiohttp itself may refuse what is no HTTP at all.
    assert found in {status, 401 if status == 401 else 400}
    assert orjson.loads(content)["type"].startswith("urn:fulfillment:")


async def test_an_address_as_target_names_no_other_host(named: Client) -> None:
    head = b"GET http://shop.example.com/api/session HTTP/1.1\r\nHost: evil.example.com\r\n\r\n"
    assert (await said(named, head))[0] in {400, 404, 421}
