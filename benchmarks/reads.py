"""How soon people's questions are answered where the view holds a million orders, and how fast an export comes."""

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import aiohttp
import asyncpg
import psutil

from benchmarks.past import DAYS, fill
from benchmarks.report import Figure, Result, quantile
from benchmarks.rig import Deployment, Rig
from services.gateway import keys
from services.gateway.access import Role
from services.gateway.dashboard.rendering import PATH

_ADMIN: Final = "/api/admin/fulfillment"
_WITHIN_MS: Final = 50.0
_EXPORTED_PER_S: Final = 50_000.0
_GROWTH_MB: Final = 64.0

Question = tuple[str, dict[str, str]]


def measure(rig: Rig, *, quick: bool) -> Result:
    """Each kind of question by random examples, one at a time; then one export of everything."""
    count, asked = (50_000, 40) if quick else (1_000_000, 200)
    # One client asks all the time: that it may is not what is measured.
    with Deployment(rig, "reads", {"RATE_LIMIT_PER_S": "0"}) as deployment:
        deployment.set_up()
        began_s = time.perf_counter()
        asyncio.run(fill(deployment.settings, count))
        filled_s = time.perf_counter() - began_s
        deployment.start("gateway")
        gateway = psutil.Process(deployment.process("gateway").pid)
        latencies, export = asyncio.run(_ask(deployment, asked, gateway))
    rows, export_s, growth_mb = export
    figures = [
        Figure(f"{kind}, p95", 1000 * quantile(sorted(took), 0.95), "ms", at_most=_WITHIN_MS)
        for kind, took in latencies.items()
    ]
    medians = ", ".join(f"{kind} {1000 * quantile(sorted(took), 0.5):.1f}" for kind, took in latencies.items())
    return Result(
        "reads",
        [
            *figures,
            Figure("export", rows / export_s, "rows/s", at_least=_EXPORTED_PER_S),
            Figure("gateway's memory, grown by the export", growth_mb, "MB", at_most=_GROWTH_MB),
        ],
        [
            f"{count} orders of {DAYS} days, filled in {filled_s:.0f} s; {asked} questions of each kind",
            f"medians in ms: {medians}; the export of {rows} rows took {export_s:.1f} s",
        ],
        {"latencies_s": latencies, "export_s": export_s, "filled_s": filled_s},
        [] if rows == count else [f"the export had {rows} rows of {count}"],
    )


async def _ask(
    deployment: Deployment, asked: int, gateway: psutil.Process
) -> tuple[dict[str, list[float]], tuple[int, float, float]]:
    connection: asyncpg.Connection[Any] = await asyncpg.connect(deployment.database_url)
    try:
        token = await keys.create(connection, Role.VIEWER, "benchmarks")
        known = await connection.fetch(
            "SELECT order_id::text, phone_number, transaction_id FROM fulfillment_logs TABLESAMPLE system (1)"
            " WHERE transaction_id IS NOT NULL LIMIT 2000"
        )
    finally:
        await connection.close()
    chance = random.Random(2)  # noqa: S311 - the same questions each time
    kinds: dict[str, Callable[[], Question]] = {
        "list": lambda: _list(chance),
        "list, a page further on": lambda: _list(chance),
        "search, 4 digits and more": lambda: _search(chance, chance.choice(known), 4, 9),
        "search, 1 to 3 digits": lambda: _search(chance, chance.choice(known), 1, 3),
        "search, an id or a reference": lambda: _exact(chance, chance.choice(known)),
        "counts": lambda: _counts(chance),
        "stats": lambda: _stats(chance),
        "timeline": lambda: (f"/api/orders/{chance.choice(known)['order_id']}/events", {}),
        "the dashboard's orders": lambda: (PATH, _some(chance)),
    }
    headers = {"X-API-Key": token}
    async with aiohttp.ClientSession(deployment.gateway_url, headers=headers) as session:
        latencies = {}
        for kind, question in kinds.items():
            for _ in range(10):
                await _timed(session, question())
            latencies[kind] = [await _further(session, question, kind) for _ in range(asked)]
        return latencies, await _export(session, gateway)


async def _further(session: aiohttp.ClientSession, question: Callable[[], Question], kind: str) -> float:
    path, params = question()
    took_s, said = await _timed(session, (path, params))
    if "further" not in kind or not said["next"]:
        return took_s
    took_s, _ = await _timed(session, (path, params | {"cursor": said["next"]}))
    return took_s


async def _timed(session: aiohttp.ClientSession, question: Question) -> tuple[float, dict[str, Any]]:
    path, params = question
    began_s = time.perf_counter()
    async with session.get(path, params=params) as answer:
        content = await answer.read()
    took_s = time.perf_counter() - began_s
    assert answer.status == 200, (question, content[:500])
    return took_s, await answer.json() if answer.content_type == "application/json" else {}


def _period(chance: random.Random) -> dict[str, str]:
    until = datetime.now(UTC) - timedelta(days=chance.uniform(0, DAYS - 1))
    return {"from": (until - timedelta(days=chance.uniform(0, 7))).isoformat(), "to": until.isoformat()}


def _some(chance: random.Random) -> dict[str, str]:
    """Any combination of filters."""
    choices: dict[str, Callable[[], dict[str, str]]] = {
        "status": lambda: {"status": chance.choice(("success", "failed", "processing", "pending"))},
        "network": lambda: {"network": chance.choice(("MTN", "AT-iShare", "Telecel", "AT-BigTime"))},
        "failure": lambda: {"failure": chance.choice(("BUSY", "NUMBER_BARRED"))},
        "period": lambda: _period(chance),
    }
    named = chance.sample([*choices], chance.choice((0, 1, 1, 2, 3)))
    return {key: value for name in named for key, value in choices[name]().items()}


def _list(chance: random.Random) -> Question:
    sort = chance.choice(("-created_at", "-created_at", "created_at", "-updated_at", "updated_at", "network"))
    return f"{_ADMIN}/logs", {"sort": sort, "limit": chance.choice(("20", "50", "50", "200"))} | _some(chance)


def _counts(chance: random.Random) -> Question:
    return f"{_ADMIN}/logs", {"limit": "1"} | _some(chance)


def _search(chance: random.Random, row: Any, least: int, most: int) -> Question:
    national = row["phone_number"].removeprefix("+233")
    length = chance.randint(least, most)
    start = chance.randint(0, 9 - length)
    part = national[start : start + length]
    spelled = chance.choice(("0", "233", "+233")) + part if start == 0 and chance.random() < 0.7 else part
    return f"{_ADMIN}/logs", {"phone": spelled}


def _exact(chance: random.Random, row: Any) -> Question:
    return f"{_ADMIN}/logs", {"q": chance.choice((row["order_id"], row["transaction_id"], row["phone_number"]))}


def _stats(chance: random.Random) -> Question:
    return f"{_ADMIN}/stats", chance.choice(
        (
            {},
            {"bucket": "day"},
            {"bucket": "hour", "from": (datetime.now(UTC) - timedelta(days=8)).isoformat()},
            {"bucket": "day", "network": "MTN"},
            {"bucket": "minute"},
        )
    )


async def _export(session: aiohttp.ClientSession, gateway: psutil.Process) -> tuple[int, float, float]:
    """Rows, seconds, and by how many MB the gateway grew at most meanwhile."""
    before = gateway.memory_info().rss
    peaks = [before]
    watching = asyncio.create_task(_watch(gateway, peaks))
    began_s, lines = time.perf_counter(), 0
    async with session.get(f"{_ADMIN}/export.csv", timeout=aiohttp.ClientTimeout(total=600)) as answer:
        async for chunk in answer.content.iter_any():
            lines += chunk.count(b"\n")
    took_s = time.perf_counter() - began_s
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching
    return lines - 1, took_s, (max(peaks) - before) / 2**20


async def _watch(process: psutil.Process, peaks: list[int]) -> None:
    while True:
        peaks.append(process.memory_info().rss)
        await asyncio.sleep(0.1)
