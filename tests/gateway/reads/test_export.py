import asyncio
import csv
import io
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Final

import pytest
from aiohttp import web

from services.gateway import keys
from services.gateway.access import Role
from services.gateway.reads import export
from tests.gateway.conftest import Stand
from tests.gateway.reads.conftest import EXPORT, Hand, Reader
from tests.projector.events import NOON
from tests.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def rows(viewer: Reader, **params: str) -> list[dict[str, str]]:
    answer = await viewer.get(EXPORT, **params)
    assert answer.status == 200
    return list(csv.DictReader(io.StringIO(answer.content.decode(), newline=""), strict=True))


async def test_the_seeds_columns_and_every_value(viewer: Reader, hand: Hand) -> None:
    order_id = await hand.failed(message='He said "no, never",\nand left', phone_number="+233241234567")
    answer = await viewer.get(EXPORT)
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert "attachment" in answer.headers["Content-Disposition"]
    head = answer.content.split(b"\r\n")[0].decode()
    assert head == (
        "id,order_id,network,phone_number,status,attempt_number,max_attempts,api_response,error_message,"
        "retry_after,fulfilled_at,created_at,updated_at"
    )
    assert answer.content.endswith(b"\r\n")
    (row,) = await rows(viewer)
    assert row["order_id"] == order_id
    assert row["error_message"] == 'He said "no, never",\nand left'
    assert row["api_response"] == '{"code": "BUSY"}'
    assert (row["status"], row["attempt_number"], row["fulfilled_at"]) == ("failed", "1", "")
    assert row["created_at"] == "2026-01-31T12:00:00.000000Z"


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", '=HYPERLINK("x","y")'])
async def test_no_cell_is_a_formula(viewer: Reader, hand: Hand, cell: str) -> None:
    await hand.failed(message=cell, phone_number="+233241234567")
    (row,) = await rows(viewer)
    assert row["error_message"] == f"'{cell}"
    assert row["phone_number"] == "'+233241234567"
    assert (row["network"], row["retry_after"]) == ("AT-iShare", "")


async def test_what_is_harmless_stays_as_it_is(viewer: Reader, hand: Hand) -> None:
    for message in ("", "a=b", "é ☂ 😀", "'quoted'", " =1"):
        await hand.empty()
        await hand.failed(message=message)
        assert (await rows(viewer))[0]["error_message"] == message


async def test_all_that_fits_in_pages_that_nobody_sees(
    viewer: Reader, hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "_PAGE_ROWS", 4)
    made = [await hand.delivered(made=NOON + timedelta(seconds=n // 2), network="MTN") for n in range(16)]
    await hand.failed(network="Telecel", made=NOON + timedelta(days=1))
    every = await rows(viewer)
    assert len(every) == 17
    assert every[0]["network"] == "Telecel"
    assert {row["order_id"] for row in every[1:]} == set(made)
    times = [row["created_at"] for row in await rows(viewer, sort="created_at")]
    assert times == sorted(times)
    assert len(await rows(viewer, network="MTN", phone="1234")) == 16
    assert await rows(viewer, status="processing") == []


async def test_who_asks_for_the_head_gets_the_head(viewer: Reader, hand: Hand, client: object) -> None:
    await hand.delivered()
    async with viewer._client.session.head(EXPORT, headers=viewer.headers) as answer:  # noqa: SLF001 - the only HEAD
        assert (answer.status, await answer.read()) == (200, b"")


async def test_whoever_does_not_read_is_sent_away(
    viewer: Reader, hand: Hand, stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = asyncio.Event()
    breaks_off = export._break_off  # noqa: SLF001 - what it does is done, and said

    def break_off(request: web.Request) -> None:
        breaks_off(request)
        gone.set()

    monkeypatch.setattr(export, "_WRITE_S", 0.3)
    monkeypatch.setattr(export, "_break_off", break_off)
    await _too_much(hand)
    async with _not_reading(viewer, stand), asyncio.timeout(60):
        await gone.wait()


async def test_a_revoked_key_s_export_ends(hand: Hand, stand: Stand) -> None:
    await _too_much(hand)
    key = await keys.create(hand.connection, Role.VIEWER, None)
    async with _not_reading(Reader(stand.client, key), stand) as reader:
        assert await keys.revoke(hand.connection, key.partition(".")[0])
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await asyncio.wait_for(reader.readexactly(_MORE_THAN_SOCKETS_HOLD), 60)


async def test_whoever_leaves_in_the_middle_is_no_fault(
    viewer: Reader, hand: Hand, stand: Stand, capsys: pytest.CaptureFixture[str]
) -> None:
    await _too_much(hand)
    async with _not_reading(viewer, stand):
        pass
    await until(lambda: not stand.gateway.reads.exports.under_way, "its end")
    assert "request_failed" not in capsys.readouterr().out


async def test_one_caller_has_few_exports_at_once(hand: Hand, stand: Stand) -> None:
    await _too_much(hand)
    viewer = Reader(stand.client, await keys.create(hand.connection, Role.VIEWER, None))
    async with AsyncExitStack() as stack:
        for _ in range(export._AT_ONCE):  # noqa: SLF001 - so many, and no more
            await stack.enter_async_context(_not_reading(viewer, stand))
        answer = await viewer.get(EXPORT)
        assert answer.is_problem(429)
        assert int(answer.headers["Retry-After"]) >= 1
    await until(lambda: not stand.gateway.reads.exports.under_way, "their ends")


_MORE_THAN_SOCKETS_HOLD: Final = 6_000_000


async def _too_much(hand: Hand) -> None:
    await hand.connection.execute(
        "UPDATE fulfillment_logs SET error_message = repeat('x', $2) WHERE order_id = $1",
        await hand.failed(),
        _MORE_THAN_SOCKETS_HOLD,
    )


@asynccontextmanager
async def _not_reading(who: Reader, stand: Stand) -> AsyncIterator[asyncio.StreamReader]:
    """An export that has begun, and is read no further."""
    client = socket.socket()
    client.setblocking(False)  # noqa: FBT003 - its name says what
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", stand.client.port))
    reader, writer = await asyncio.open_connection(sock=client, limit=1000)
    try:
        headers = who.headers | {"Host": f"127.0.0.1:{stand.client.port}"}
        head = "".join(f"{name}: {said}\r\n" for name, said in headers.items())
        writer.write(f"GET {EXPORT} HTTP/1.1\r\n{head}\r\n".encode())
        assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
        yield reader
    finally:
        writer.close()
