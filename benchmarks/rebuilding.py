"""How fast the view is made anew from the log, against bare batched upserts of the same rows."""

import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import asyncpg

from benchmarks.lives import lived, log_of, rules, write
from benchmarks.report import Figure, Result
from benchmarks.rig import Deployment, Rig
from tests.waiting import until

_BATCH = 500
_PATIENCE_S = 300.0
_ALL_SUCCESSFUL = "SELECT count(*) = $1 FROM orders WHERE fulfillment_status = 'success'"
_TABLES = ("orders", "fulfillment_logs")
_SCHEMA = "bare"


def measure(rig: Rig, *, quick: bool) -> Result:
    """A log of delivered orders; a projector makes the live view first, so that there is something to compare."""
    count = 10_000 if quick else 50_000
    with Deployment(rig, "rebuilding") as deployment:
        deployment.set_up()
        kept, now = rules(deployment.settings), datetime.now(UTC)
        lives = (lived(number, now, kept, delivered=True) for number in range(count))
        asyncio.run(write(deployment.settings, (record for life in lives for record in log_of(life))))
        began_s = time.perf_counter()
        deployment.start("projector")
        asyncio.run(_caught_up(deployment.database_url, count))
        caught_up_s = time.perf_counter() - began_s
        deployment.stop("projector")
        began_s = time.perf_counter()
        said = deployment.run("services.projector", "rebuild", timeout_s=_PATIENCE_S)
        rebuilt_s = time.perf_counter() - began_s
        bare_s = asyncio.run(_bare(deployment.database_url))
    same = "the live view was the same, row for row" in said
    return Result(
        "rebuild",
        [
            Figure("orders rebuilt", count / rebuilt_s, "/s"),
            Figure("bare upserts", count / bare_s, "orders/s"),
            Figure("rebuild to bare upserts", 100 * bare_s / rebuilt_s, "%", at_least=80),
        ],
        [
            f"{count} orders, {4 * count} records; the whole command {rebuilt_s:.1f} s, comparison and swap included",
            f"bare upserts in batches of {_BATCH} {bare_s:.1f} s; a projector's first catching up {caught_up_s:.1f} s",
        ],
        {"rebuilt_s": rebuilt_s, "bare_s": bare_s, "caught_up_s": caught_up_s},
        [] if same else [f"the rebuild did not find the live view to be the same: {said.splitlines()[-1]}"],
    )


async def _caught_up(database_url: str, count: int) -> None:
    connection: asyncpg.Connection[Any] = await asyncpg.connect(database_url)
    try:
        await until(lambda: connection.fetchval(_ALL_SUCCESSFUL, count), "the projector", _PATIENCE_S)
    finally:
        await connection.close()


async def _bare(database_url: str) -> float:
    """Seconds to upsert the view's own rows into tables like the view's, each batch of both in a transaction."""
    connection: asyncpg.Connection[Any] = await asyncpg.connect(database_url)
    try:
        await connection.execute(f"CREATE SCHEMA {_SCHEMA}; SET synchronous_commit = off")
        statements, rows = [], []
        for table in _TABLES:
            await connection.execute(f"CREATE TABLE {_SCHEMA}.{table} (LIKE public.{table} INCLUDING ALL)")
            columns = [name for (name,) in await connection.fetch(_COLUMNS, table)]
            statements.append(_upsert(table, columns))
            names = ", ".join(columns)
            rows.append(await connection.fetch(f"SELECT {names} FROM public.{table} ORDER BY id"))  # noqa: S608 - our own names
        began_s = time.perf_counter()
        for batches in zip(*(_batches(found) for found in rows), strict=True):
            async with connection.transaction():
                for statement, batch in zip(statements, batches, strict=True):
                    await connection.executemany(statement, batch)
        return time.perf_counter() - began_s
    finally:
        await connection.close()


_COLUMNS = """
SELECT column_name FROM information_schema.columns
WHERE table_schema = 'public' AND table_name = $1 AND is_generated = 'NEVER' ORDER BY ordinal_position
"""


def _upsert(table: str, columns: Sequence[str]) -> str:
    values = ", ".join(f"${number}" for number, _ in enumerate(columns, 1))
    changes = ", ".join(f"{name} = excluded.{name}" for name in columns if name != "id")
    return (
        f"INSERT INTO {_SCHEMA}.{table} ({', '.join(columns)}) VALUES ({values}) "  # noqa: S608 - our own names
        f"ON CONFLICT (id) DO UPDATE SET {changes}"
    )


def _batches(rows: Iterable[Any]) -> Iterator[list[Any]]:
    rest = iter(rows)
    while batch := list(islice(rest, _BATCH)):
        yield batch
