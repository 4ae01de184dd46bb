"""The adapter against servers that are no HTTP servers at all: what leaves, what is never sent twice, and what any
bytes that come back are taken for."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from services.fulfiller.providers.at_ishare import AtIShare, _socket_factory
from services.fulfiller.providers.port import Deadline, Outcome, OutcomeClass
from services.settings import Settings
from tests.waiting import until

TOO_LATE = "the deadline had passed before the first byte"
PHONE = "+233123456789"
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class RawServer:
    """Hands each connection to `serve`, and keeps all bytes of all requests."""

    serve: Serve
    port: int = 0
    connections: int = 0
    received: bytearray = field(default_factory=bytearray)
    finished: asyncio.Queue[None] = field(default_factory=asyncio.Queue)

    @property
    def requests(self) -> int:
        return self.received.count(b"POST ") + self.received.count(b"GET ")

    async def read_request(self, reader: asyncio.StreamReader) -> bytes:
        """Headers and body; empty at the connection's end."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            self.received += error.partial
            return b""
        length = next((int(line[16:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length: ")), 0)
        request = head + await reader.readexactly(length)
        self.received += request
        return request

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await self.serve(reader, writer)
        except ConnectionError:
            return  # the adapter has hung up, as it may
        finally:
            writer.transport.abort()
            self.finished.put_nowait(None)


@asynccontextmanager
async def listening(server: RawServer, timeout_s: float = 5.0) -> AsyncIterator[AtIShare]:
    listener = await asyncio.start_server(server.handle, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    adapter = await adapter_for(f"http://127.0.0.1:{server.port}/v1", timeout_s)
    try:
        yield adapter
    finally:
        await adapter.close()
        listener.close()


async def adapter_for(url: str, timeout_s: float = 5.0) -> AtIShare:
    return await AtIShare.start(Settings(at_ishare_api_url=url, at_ishare_timeout_s=timeout_s))


def deadline_in(seconds: float) -> Deadline:
    return Deadline(time.monotonic() + seconds, time.time() + seconds)


async def buy(adapter: AtIShare, reference: str = "order-1", deadline: Deadline | None = None) -> Outcome:
    return await adapter.deliver(reference, PHONE, 1000, "AT-iShare", deadline or deadline_in(5))


def success(reference: str) -> bytes:
    reply = {"status": "success", "code": "OK", "reference": reference, "transaction_id": "T-1"}
    body = orjson.dumps(reply)
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


class Turning(Deadline):
    """Far away when the call begins; passed by the time that bytes would leave."""

    clock: str
    looks: int

    def __init__(self, clock: str) -> None:
        object.__setattr__(self, "clock", clock)
        object.__setattr__(self, "looks", 0)

    def _look(self, clock: str, now: float) -> float:
        if clock != self.clock:
            return now + 60
        object.__setattr__(self, "looks", self.looks + 1)
        return now + 60 if self.looks <= 2 else now - 0.001

    @property
    def monotonic_s(self) -> float:
        return self._look("monotonic", time.monotonic())

    @property
    def wall_s(self) -> float:
        return self._look("wall", time.time())


@pytest.mark.parametrize("clock", ["monotonic", "wall"])
@pytest.mark.parametrize("warm", [False, True], ids=["new connection", "kept connection"])
async def test_not_one_byte_leaves_after_the_deadline(clock: str, warm: bool) -> None:  # noqa: FBT001 - a parameter
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await server.read_request(reader):
            writer.write(success("warm-up"))

    server = RawServer(serve)
    async with listening(server) as adapter:
        if warm:
            assert (await buy(adapter, "warm-up")).kind is OutcomeClass.DELIVERED
        before = bytes(server.received)
        outcome = await buy(adapter, deadline=Turning(clock))
        await server.finished.get()  # the adapter drops the connection, so all that was sent is here
    assert (outcome.kind, outcome.message) == (OutcomeClass.NOT_SENT, TOO_LATE)
    assert server.connections == 1
    assert bytes(server.received) == before


async def test_the_request_leaves_in_one_piece() -> None:
    """Headers that left before the body would have left before the deadline's last check."""
    first: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first.append(await reader.read(65536))
        writer.write(success("order-1"))

    async with listening(RawServer(serve)) as adapter:
        assert (await buy(adapter)).kind is OutcomeClass.DELIVERED
    assert first[0].endswith(b"}")
    assert b"POST /v1/data/purchase HTTP/1.1\r\n" in first[0]


@pytest.mark.parametrize("kept", [False, True], ids=["new connection", "kept connection"])
@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
async def test_a_purchase_is_never_sent_twice(kept: bool, reset: bool) -> None:  # noqa: FBT001 - parameters
    """aiohttp sends idempotent requests again when a kept connection turns out to be closed; a purchase is none."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if kept and server.connections == 1:
            await server.read_request(reader)
            writer.write(success("warm-up"))
        await server.read_request(reader)
        if not reset:
            writer.close()
            await writer.wait_closed()

    server = RawServer(serve)
    async with listening(server) as adapter:
        if kept:
            assert (await buy(adapter, "warm-up")).kind is OutcomeClass.DELIVERED
        outcome = await buy(adapter)
        await server.finished.get()
    assert outcome.kind is OutcomeClass.UNKNOWN
    assert server.received.count(b'"reference":"order-1"') == 1
    assert server.connections == 1


def kept_open(adapter: AtIShare) -> bool:
    connector: Any = adapter._session.connector  # noqa: SLF001 - it tells nobody which connections it keeps
    return any(handler.is_connected() for kept in connector._conns.values() for handler, _ in kept)  # noqa: SLF001 - as above


async def test_a_connection_that_the_provider_closed_is_not_used_again() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await server.read_request(reader)
        writer.write(success("order-2" if b"order-2" in request else "order-1"))
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = RawServer(serve)
    async with listening(server) as adapter:
        assert (await buy(adapter, "order-1")).kind is OutcomeClass.DELIVERED
        await until(lambda: not kept_open(adapter), "its end to be noticed")
        assert (await buy(adapter, "order-2")).kind is OutcomeClass.DELIVERED
    assert server.connections == 2


async def test_an_answer_nobody_asked_for_is_not_taken_for_the_next_ones() -> None:
    """Two refusals for one request: the second must not refuse the next purchase."""
    body = b'{"code":"INVALID_MSISDN"}'
    refusal = b"HTTP/1.1 422 No\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while request := await server.read_request(reader):
            writer.write(success("order-2") if b"order-2" in request else refusal * 2)

    server = RawServer(serve)
    async with listening(server) as adapter:
        assert (await buy(adapter, "order-1")).kind is OutcomeClass.DECLINED_PERMANENT
        assert (await buy(adapter, "order-2")).kind is OutcomeClass.DELIVERED


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(status: int) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await server.read_request(reader):
            writer.write(b"HTTP/1.1 %d Go\r\nLocation: /v1/elsewhere\r\nContent-Length: 0\r\n\r\n" % status)

    server = RawServer(serve)
    async with listening(server) as adapter:
        outcome = await buy(adapter)
        assert (outcome.kind, outcome.alert) == (OutcomeClass.UNKNOWN, True)
        assert (await adapter.verify("order-1")).kind is OutcomeClass.NO_ANSWER
        assert await adapter.balance() is None
    assert server.requests == 3
    assert b"elsewhere" not in server.received


async def test_a_silent_provider_is_given_up_at_the_deadline() -> None:
    async def serve(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await server.read_request(reader)
        await reader.read()

    server = RawServer(serve)
    async with listening(server, timeout_s=0.2) as adapter:
        began_s = time.monotonic()
        outcome = await buy(adapter, deadline=deadline_in(0.3))
        took_s = time.monotonic() - began_s
        assert outcome.kind is OutcomeClass.UNKNOWN
        assert 0.25 <= took_s < 2
        assert (await adapter.verify("order-1")).kind is OutcomeClass.NO_ANSWER
        assert await adapter.balance() is None


async def test_an_answer_that_drips_does_not_outlive_the_deadline() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        drip = asyncio.get_running_loop().create_future()
        timer = asyncio.get_running_loop()

        def more() -> None:
            if writer.transport.is_closing():
                drip.set_result(None)
            else:
                writer.write(b" ")
                timer.call_later(0.02, more)

        more()
        await drip

    server = RawServer(serve)
    async with listening(server) as adapter:
        began_s = time.monotonic()
        outcome = await buy(adapter, deadline=deadline_in(0.3))
        assert outcome.kind is OutcomeClass.UNKNOWN
        assert time.monotonic() - began_s < 2


async def test_an_endless_answer_is_cut_off() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"1000\r\n" + b"x" * 4096 + b"\r\n")
            await writer.drain()

    server = RawServer(serve)
    async with listening(server) as adapter:
        outcome = await buy(adapter)
        await server.finished.get()  # hung up on, long before the deadline
    assert (outcome.kind, outcome.alert) == (OutcomeClass.UNKNOWN, True)


async def test_a_cancelled_call_is_cancelled() -> None:
    called = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await server.read_request(reader)
        called.set()
        await reader.read()

    server = RawServer(serve)
    async with listening(server) as adapter:
        call = asyncio.create_task(buy(adapter))
        await called.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:{closed}/v1", "https://127.0.0.1:{plain}/v1", "http://nowhere.invalid/v1"]
)
async def test_what_cannot_be_reached_was_never_sent(url: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"no TLS here")

    server = RawServer(serve)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        async with listening(server):
            adapter = await adapter_for(url.format(closed=closed.getsockname()[1], plain=server.port), 2)
            try:
                outcome = await buy(adapter, deadline=deadline_in(2))
                assert outcome.kind is OutcomeClass.NOT_SENT
                assert (await adapter.verify("order-1")).kind is OutcomeClass.NO_ANSWER
                assert await adapter.balance() is None
            finally:
                await adapter.close()
    assert server.requests == 0


def test_the_kernel_does_not_send_for_a_dead_process() -> None:
    address = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", 1))
    with _socket_factory(1.5)(address) as made:
        assert made.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8) == b"\x01\0\0\0\0\0\0\0"
        assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 1500


class AnyAnswer:
    """A server in its own loop that answers every request with the bytes it was last given, then hangs up."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner
        self._answer = b""
        self._open = listening(RawServer(self._serve), timeout_s=2)
        self._adapter = runner.run(self._open.__aenter__())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(self._answer)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    def send(self, answer: bytes) -> Outcome:
        self._answer = answer
        return self._runner.run(buy(self._adapter, deadline=deadline_in(2)))

    def ask(self, answer: bytes) -> Outcome:
        self._answer = answer
        return self._runner.run(self._adapter.verify("order-1"))

    def close(self) -> None:
        self._runner.run(self._open.__aexit__(None, None, None))


@pytest.fixture
def any_answer() -> Iterator[AnyAnswer]:
    with asyncio.Runner() as runner:
        server = AnyAnswer(runner)
        yield server
        server.close()


HEADS = st.sampled_from(
    [
        b"",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 999 ?\r\nContent-Length: 3\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nSet-Cookie: \xff=\xfe\r\nRetry-After: \xff\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70000 + b"\r\n\r\n",
        b"HTTP/3.7 200 OK\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n",
    ]
)


@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(head=HEADS, rest=st.binary(max_size=200))
def test_whatever_comes_back_is_an_outcome(any_answer: AnyAnswer, head: bytes, rest: bytes) -> None:
    assert any_answer.send(head + rest).kind is OutcomeClass.UNKNOWN
    assert any_answer.ask(head + rest).kind is OutcomeClass.NO_ANSWER
