"""The sandbox as a provider and as a witness: its contract, its control calls, its ledger over restarts."""

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from pydantic import SecretStr

from services.at_ishare_contract import (
    KEY_HEADER,
    REFERENCE_MEMORY_S,
    SIGNATURE_HEADER,
    TIMESTAMP_HEADER,
    Purchase,
    Reply,
    Status,
    sign,
)
from services.fulfiller.providers.at_ishare import AtIShare
from services.fulfiller.providers.port import Deadline, Outcome
from services.sandbox.faults import FAULTS, NO_FAULT, Plan, magic_number
from services.sandbox.ledger import Ledger
from services.settings import SANDBOX_KEY, SANDBOX_SECRET, Settings
from tests.providers.conftest import Bench, MakeBench

PHONE = "+233123456789"
_ROOT = Path(__file__).parents[2]


async def buy(
    adapter: AtIShare, reference: str = "order-1", phone: str = PHONE, size_mb: int = 1000, timeout_s: float = 5
) -> Outcome:
    deadline = Deadline(time.monotonic() + timeout_s, time.time() + timeout_s)
    return await adapter.deliver(reference, phone, size_mb, "AT-iShare", deadline)


def signed(body: bytes, *, path: str = "/v1/data/purchase", skew_s: int = 0) -> dict[str, str]:
    timestamp = str(int(time.time()) + skew_s)
    signature = sign(SANDBOX_SECRET.encode(), timestamp, "POST", path, body)
    return {KEY_HEADER: SANDBOX_KEY, TIMESTAMP_HEADER: timestamp, SIGNATURE_HEADER: signature}


BODY = orjson.dumps(Purchase("order-1", PHONE, "AT-iShare", 1000))


@pytest.mark.parametrize(
    ("sign_now", "body", "status"),
    [
        (lambda: signed(BODY), BODY, 200),
        (lambda: signed(BODY, skew_s=290), BODY, 200),
        (lambda: signed(BODY, skew_s=-290), BODY, 200),
        (lambda: signed(BODY, skew_s=310), BODY, 401),
        (lambda: signed(BODY, skew_s=-310), BODY, 401),
        (lambda: signed(BODY, path="/data/purchase"), BODY, 401),
        (lambda: signed(BODY), BODY + b" ", 401),
        (lambda: {**signed(BODY), KEY_HEADER: "another"}, BODY, 401),
        (lambda: {**signed(BODY), TIMESTAMP_HEADER: "now"}, BODY, 401),
        (lambda: {**signed(BODY), SIGNATURE_HEADER: "é"}, BODY, 401),
        (dict, BODY, 401),
        (lambda: signed(b"{"), b"{", 400),
        (lambda: signed(b'{"reference": 1}'), b'{"reference": 1}', 400),
    ],
)
async def test_only_what_is_signed_is_heard(
    bench: Bench, sign_now: Callable[[], dict[str, str]], body: bytes, status: int
) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{bench.url}/v1/data/purchase", data=body, headers=sign_now()) as response,
    ):
        reply = Reply(**await response.json())
    assert response.status == status
    assert (reply.status == Status.SUCCESS) == (status == 200)
    assert await bench.deliveries("order-1") == (1 if status == 200 else 0)


async def test_wrong_credentials_suspend(bench: Bench) -> None:
    stranger = await AtIShare.start(
        Settings(at_ishare_api_url=f"{bench.url}/v1", at_ishare_api_secret=SecretStr("wrong"))
    )
    try:
        outcome = await buy(stranger)
        assert (outcome.kind, outcome.code) == ("suspended", "BAD_CREDENTIALS")
        assert (await stranger.verify("order-1")).kind == "no_answer"
        assert await stranger.balance() is None
    finally:
        await stranger.close()


@pytest.mark.parametrize(
    ("phone", "size_mb", "code"),
    [("0241234567", 1000, "INVALID_MSISDN"), (PHONE, 0, "UNKNOWN_BUNDLE"), (PHONE, -1, "UNKNOWN_BUNDLE")],
)
async def test_impossible_purchases_are_declined(bench: Bench, phone: str, size_mb: int, code: str) -> None:
    outcome = await buy(bench.adapter, phone=phone, size_mb=size_mb)
    assert (outcome.kind, outcome.code) == ("declined_permanent", code)


async def test_a_call_that_found_the_sandbox_without_processor_says_so(bench: Bench) -> None:
    time.sleep(0.3)  # noqa: ASYNC251 - the loop that both live on is to be late
    await buy(bench.adapter)
    (lag_s,) = (await bench.ledger())["references"]["order-1"]["lag_s"]
    assert lag_s > 0.2


async def test_two_in_flight_with_one_reference_execute_once_and_are_seen(make_bench: MakeBench) -> None:
    bench = await make_bench(sandbox_latency_s=0.2)
    outcomes = await asyncio.gather(buy(bench.adapter), buy(bench.adapter))
    assert sorted(outcome.duplicate for outcome in outcomes) == [False, True]
    seen = (await bench.ledger())["references"]["order-1"]
    assert (seen["deliveries"], seen["sends"], seen["max_in_flight"], len(seen["sent_at"])) == (1, 2, 2, 2)


@pytest.mark.parametrize("way", ["mode", "number"])
async def test_without_dedupe_a_repeated_reference_is_delivered_again(bench: Bench, way: str) -> None:
    if way == "mode":
        await bench.change(dedupe=False)
    phone = PHONE if way == "mode" else magic_number("no_dedupe")
    outcomes = [await buy(bench.adapter, phone=phone) for _ in range(3)]
    assert not any(outcome.duplicate for outcome in outcomes)
    assert await bench.deliveries("order-1") == 3


async def test_a_delivered_reference_is_never_denied(bench: Bench) -> None:
    """Only the answer to a replay may be spoiled; a refusal would be a lie that costs a bundle."""
    await buy(bench.adapter)
    for fault in ("busy", "insufficient_balance", "invalid_msisdn"):
        await bench.change(phones={PHONE: fault})
        assert (await buy(bench.adapter)).kind == "delivered"
    await bench.change(phones={PHONE: "error_500"})
    assert (await buy(bench.adapter)).kind == "unknown"
    assert await bench.deliveries("order-1") == 1


async def test_the_balance_runs_out(bench: Bench) -> None:
    await bench.change(balance_mb=1500)
    assert (await buy(bench.adapter, "order-1")).kind == "delivered"
    outcome = await buy(bench.adapter, "order-2")
    assert (outcome.kind, outcome.code) == ("suspended", "INSUFFICIENT_BALANCE")
    assert (await bench.adapter.verify("order-2")).kind == "not_found"
    assert await bench.adapter.balance() is not None
    await bench.change(balance_mb=5000)
    assert (await buy(bench.adapter, "order-2")).kind == "delivered"


@pytest.mark.parametrize(
    ("switch", "code"),
    [("credentials_refused", "BAD_CREDENTIALS"), ("account_suspended", "ACCOUNT_SUSPENDED")],
)
async def test_the_whole_account_can_be_refused(bench: Bench, switch: str, code: str) -> None:
    await bench.change(**{switch: True})
    outcome = await buy(bench.adapter)
    assert (outcome.kind, outcome.code) == ("suspended", code)
    assert (await bench.adapter.verify("order-1")).kind == "no_answer"
    await bench.call("DELETE", "/faults")
    assert (await buy(bench.adapter)).kind == "delivered"


async def test_more_calls_at_once_than_any_pool_of_connections(bench: Bench) -> None:
    await bench.change(phones={PHONE: "hold"})
    calls = [asyncio.create_task(buy(bench.adapter, f"order-{n}", timeout_s=30)) for n in range(300)]
    await bench.reach("held", 300)
    assert await bench.call("POST", "/release?reference=order-7") == {"released": 1}
    assert (await calls[7]).kind == "delivered"
    assert await bench.call("POST", "/release") == {"released": 299}
    assert {outcome.kind for outcome in await asyncio.gather(*calls)} == {"delivered"}


async def test_waiting_for_calls_that_do_not_come(bench: Bench) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{bench.url}/calls?kind=sends&at_least=1&timeout_s=0.05") as response,
    ):
        assert (response.status, await response.json()) == (
            408,
            {"sends": 0, "queries": 0, "deliveries": 0, "held": 0},
        )


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("PUT", "/faults", b"{", 422),
        ("PUT", "/faults", b"[]", 422),
        ("PUT", "/faults", b'{"shares": {"no_such_fault": 0.1}}', 422),
        ("PUT", "/faults", b'{"shares": {"busy": 0.6, "reset": 0.6}}', 422),
        ("PUT", "/faults", b'{"phones": {"+233241234567": "no_such_fault"}}', 422),
        ("PUT", "/faults", b'{"latency": 1}', 422),
        ("GET", "/calls?at_least=many", b"", 400),
        ("GET", "/calls?kind=birds", b"", 400),
        ("POST", "/ledger", b"", 404),
        ("GET", "/nowhere", b"", 404),
    ],
)
async def test_control_calls_say_what_is_wrong(bench: Bench, method: str, path: str, body: bytes, status: int) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, bench.url + path, data=body) as response,
    ):
        assert (response.status, "error" in await response.json()) == (status, True)


async def test_faults_are_shown_changed_and_ended(bench: Bench) -> None:
    await bench.call("PUT", "/faults", {"busy": 0.25, "seed": 7})
    await bench.change(shares={"reset": 0.5}, phones={PHONE: "hold"})
    shown = await bench.call("GET", "/faults")
    assert (shown["shares"], shown["seed"], shown["latency_s"]) == ({"reset": 0.5}, 7, 0.0)
    assert shown["phones"] == {PHONE: {"fault": "hold", "times": 0}}
    assert set(shown["magic_numbers"]) == set(FAULTS)
    ended = await bench.call("DELETE", "/faults")
    assert (ended["shares"], ended["phones"]) == ({}, {})


def test_shares_are_met_and_the_same_for_the_same_seed() -> None:
    def drawn(seed: int) -> list[str]:
        plan = Plan(shares={"busy": 0.1, "reset": 0.2}, seed=seed)
        names = {id(fault): name for name, fault in FAULTS.items()} | {id(NO_FAULT): "none"}
        return [names[id(plan.fault_for(PHONE, f"order-{n}", 1))] for n in range(4000)]

    draws = drawn(1)
    assert draws == drawn(1) != drawn(2)
    assert 0.08 < draws.count("busy") / 4000 < 0.12
    assert 0.17 < draws.count("reset") / 4000 < 0.23
    assert draws.count("none") + draws.count("busy") + draws.count("reset") == 4000


async def test_the_page_shows_the_ledger_and_runs_nothing(bench: Bench) -> None:
    await buy(bench.adapter, "<script>alert(1)</script>")
    async with aiohttp.ClientSession() as session, session.get(f"{bench.url}/") as response:
        page = await response.text()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script" not in page
    assert PHONE in page
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]


def test_references_are_forgotten_after_thirty_days() -> None:
    ledger = Ledger(balance_mb=10_000)
    purchase = Purchase("order-1", PHONE, "AT-iShare", 1000)
    record = ledger.receive(purchase, 0.0)
    ledger.deliver("order-1", ledger.take(purchase, 0.0, None, "OK"))
    assert record.remembered(REFERENCE_MEMORY_S - 1)
    assert not record.remembered(REFERENCE_MEMORY_S)
    assert not record.known(REFERENCE_MEMORY_S)


async def test_the_journal_carries_the_ledger_over(make_bench: MakeBench, tmp_path: Path) -> None:
    journal = tmp_path / "provider" / "ledger.jsonl"
    before = await make_bench(sandbox_ledger=journal)
    phones = [PHONE, magic_number("busy", times=1), magic_number("late_1h"), magic_number("error_500")]
    for n, phone in enumerate(phones):
        await buy(before.adapter, f"order-{n}", phone)
    await buy(before.adapter, "order-1", phones[1])
    told = await before.ledger()

    after = await make_bench(sandbox_ledger=journal)
    untold = {"queries", "max_in_flight"}

    def kept(ledger: dict[str, Any]) -> dict[str, Any]:
        return {
            reference: {name: value for name, value in record.items() if name not in untold}
            for reference, record in ledger["references"].items()
        }

    again = await after.ledger()
    assert kept(again) == kept(told)
    assert (again["deliveries"], again["balance"]) == (told["deliveries"], told["balance"])
    assert (await buy(after.adapter, "order-0")).duplicate
    assert (await after.adapter.verify("order-2")).kind == "accepted"


def test_a_line_cut_short_by_a_kill_never_happened(tmp_path: Path) -> None:
    journal = tmp_path / "ledger.jsonl"
    ledger = Ledger(10_000, journal)
    purchase = Purchase("order-1", PHONE, "AT-iShare", 1000)
    ledger.receive(purchase, 1.0)
    transaction_id = ledger.take(purchase, 1.0, None, "OK")
    whole = journal.read_bytes()
    ledger.deliver("order-1", transaction_id)
    ledger.close()
    journal.write_bytes(journal.read_bytes()[:-3])

    reopened = Ledger(10_000, journal)
    assert journal.read_bytes() == whole
    assert [reference for reference, _ in reopened.unfinished()] == ["order-1"]
    reopened.close()

    journal.write_bytes(b'["burn","order-1"]\n')
    with pytest.raises(ValueError, match="burn"):
        Ledger(10_000, journal)


@asynccontextmanager
async def sandbox_process(**settings: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """The real process and its address, taken from the one line that says that it is ready."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.sandbox",
        cwd=_ROOT,
        env={**os.environ, "SANDBOX_PORT": "0", **settings},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        line = (await process.stdout.readline()).decode()
        yield process, line.split()[-1]
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_killed_sandbox_finishes_what_it_had_taken(tmp_path: Path) -> None:
    ledger = str(tmp_path / "ledger.jsonl")
    async with sandbox_process(SANDBOX_LEDGER=ledger) as (process, url):
        adapter = await AtIShare.start(Settings(at_ishare_api_url=f"{url}/v1"))
        call = asyncio.create_task(buy(adapter, phone=magic_number("hold_first"), timeout_s=20))
        async with aiohttp.ClientSession() as session:
            await session.get(f"{url}/calls?kind=held&at_least=1")
        process.kill()
        assert (await call).kind == "unknown"
        await adapter.close()
        assert await process.wait() == -signal.SIGKILL
    async with sandbox_process(SANDBOX_LEDGER=ledger) as (_, url):
        adapter = await AtIShare.start(Settings(at_ishare_api_url=f"{url}/v1"))
        async with aiohttp.ClientSession() as session:
            await session.get(f"{url}/calls?kind=deliveries&at_least=1")
            async with session.get(f"{url}/ledger") as response:
                assert (await response.json())["deliveries"] == {"order-1": 1}
        assert (await adapter.verify("order-1")).kind == "delivered"
        await adapter.close()


async def test_sigterm_ends_it_cleanly_even_with_calls_held() -> None:
    async with sandbox_process() as (process, url):
        adapter = await AtIShare.start(Settings(at_ishare_api_url=f"{url}/v1"))
        call = asyncio.create_task(buy(adapter, phone=magic_number("hold"), timeout_s=20))
        async with aiohttp.ClientSession() as session:
            await session.get(f"{url}/calls?kind=held&at_least=1")
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(8):
            assert await process.wait() == 0
        assert (await call).kind == "unknown"
        await adapter.close()


async def test_a_taken_port_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "services.sandbox",
            cwd=_ROOT,
            env={**os.environ, "SANDBOX_PORT": str(taken.getsockname()[1])},
            stderr=asyncio.subprocess.PIPE,
        )
        _, said = await process.communicate()
    assert process.returncode == 1
    assert b"SANDBOX_PORT" in said
    assert said.count(b"\n") == 1
