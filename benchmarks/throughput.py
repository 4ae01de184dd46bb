"""Orders per second from OrderCreated in Kafka to the success row, and the fulfiller's CPU, against bare calls."""

import asyncio
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg
import orjson

from benchmarks.bare_client import CONCURRENCY
from benchmarks.checker import check
from benchmarks.orders import Producer, order
from benchmarks.report import Figure, Result
from benchmarks.rig import FAULTS, PATIENT, SERVICES, Deployment, Rig
from schemas.orders import OrderCreated

_SLOTS = 2 * CONCURRENCY
"""One is taken from the intent to the outcome, over two commits and a call; the bare client only for the call."""
_LOOK_S = 0.5
_LOOK_CLOSER_S = 0.05
_PATIENCE_S = 300.0
_COUNT = """
SELECT count(*) FILTER (WHERE state = 'delivered'), count(*) FILTER (WHERE state = 'failed') FROM fulfillment_logs
"""


def measure(rig: Rig, *, quick: bool) -> Result:
    """The bare client runs before and after, with nothing else at work, and its mean is the yardstick."""
    count = 4_000 if quick else 20_000
    result = Result("throughput")
    with Deployment(rig, "throughput", PATIENT | {"MAX_IN_FLIGHT": str(_SLOTS)}) as deployment:
        deployment.set_up()
        bare = [_bare_calls(deployment, count)]
        deployment.start("sandbox", *SERVICES)
        deployment.order_faults(FAULTS)
        run, orders = asyncio.run(_orders(deployment, count))
        commits = deployment.metrics("fulfiller")
        result.faults = asyncio.run(check(deployment, orders))
        deployment.stop(*SERVICES, "sandbox")
        bare.append(_bare_calls(deployment, count))
    calls_per_s = statistics.mean(one["calls"] / one["took_s"] for one in bare)
    call_cpu_s = statistics.mean(one["cpu_s"] / one["calls"] for one in bare)
    orders_per_s = count / run["took_s"]
    cpu_s = {name: used_s / count for name, used_s in run["cpu_s"].items()}
    result.figures = [
        Figure("orders", orders_per_s, "/s", at_least=1000, goal=1500),
        Figure("bare calls", calls_per_s, "/s"),
        Figure("orders to bare calls", 100 * orders_per_s / calls_per_s, "%", at_least=35, goal=50),
        Figure("fulfiller's CPU an order", 1e6 * cpu_s["fulfiller"], "µs"),
        Figure("CPU of a bare call", 1e6 * call_cpu_s, "µs"),
        Figure("fulfiller's CPU to a bare call's", cpu_s["fulfiller"] / call_cpu_s, "times", at_most=3, goal=2),
    ]
    shares = ", ".join(f"{name} {1e6 * used_s:.0f}" for name, used_s in sorted(cpu_s.items(), key=lambda x: -x[1]))
    result.notes = [
        f"{count} orders in {run['took_s']:.1f} s: {run['delivered']} delivered, {run['failed']} failed for good",
        f"CPU µs an order: {shares}; together {1e6 * sum(cpu_s.values()):.0f}",
        _spoken_commits(commits, count),
        "bare calls/s before and after: " + ", ".join(f"{one['calls'] / one['took_s']:.0f}" for one in bare),
    ]
    result.samples = {"run": run, "bare": bare}
    return result


def _spoken_commits(metrics: Mapping[str, float], orders: int) -> str:
    transactions = metrics["fulfiller_commit_seconds_count"]
    records = metrics["fulfiller_commit_records_sum"] / transactions
    took_ms = 1000 * metrics["fulfiller_commit_seconds_sum"] / transactions
    return f"{transactions / orders:.2f} transactions an order, of {records:.0f} records in {took_ms:.1f} ms on average"


def _bare_calls(deployment: Deployment, calls: int) -> dict[str, Any]:
    """See benchmarks.bare_client. A sandbox of its own: the orders' ledger holds nothing but orders."""
    deployment.start("sandbox")
    deployment.order_faults(FAULTS)
    printed = deployment.run("benchmarks.bare_client", f"{deployment.sandbox_url}/v1", str(calls))
    deployment.stop("sandbox")
    said: dict[str, Any] = orjson.loads(printed.splitlines()[-1])
    return said


async def _orders(deployment: Deployment, count: int) -> tuple[dict[str, Any], list[OrderCreated]]:
    """Produce what was encoded beforehand at full speed, and wait for the last order's end to be visible."""
    orders = [order(number) for number in range(count)]
    connection = await asyncpg.connect(deployment.database_url)
    try:
        async with Producer(deployment.settings) as producer:
            batches = producer.batches(orders)
            before = deployment.cpu_s()
            began_s = time.perf_counter()
            await producer.send(batches)
            written_s = time.perf_counter() - began_s
            looks = await _watch(connection, count, began_s)
    finally:
        await connection.close()
    after = deployment.cpu_s()
    took_s, delivered, failed = looks[-1]
    run = {
        "took_s": took_s,
        "written_s": written_s,
        "delivered": delivered,
        "failed": failed,
        "cpu_s": {name: after[name] - before[name] for name in after},
        "looks": looks,
    }
    return run, orders


async def _watch(connection: Any, count: int, began_s: float) -> Sequence[tuple[float, int, int]]:
    looks: list[tuple[float, int, int]] = []
    async with asyncio.timeout(_PATIENCE_S):
        while True:
            delivered, failed = await connection.fetchrow(_COUNT)
            looks.append((time.perf_counter() - began_s, delivered, failed))
            if delivered + failed >= count:
                return looks
            await asyncio.sleep(_LOOK_S if delivered + failed < count * 0.97 else _LOOK_CLOSER_S)
