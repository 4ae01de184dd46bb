"""`python -m tests.gateway.bulk`: many orders; gateway, PostgreSQL, Kafka are killed; exit code 1 if one is amiss."""

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from tests.backend import from_packages
from tests.conftest import TEMPLATE, make_template
from tests.gateway.bulk.trial import RETRY_DELAYS_S, Figures, holds, trial
from tests.stand import stand

WITHIN_S = 600.0


async def run(directory: Path, orders: int, per_s: int) -> Figures:
    logs = directory / "logs"
    logs.mkdir(parents=True)
    with from_packages(directory / "data") as backend:
        await make_template(backend.postgres_url)

        async def strike() -> None:
            for server in (backend.postgres, backend.kafka):
                print(f"{type(server).__name__} is killed, and started again", flush=True)
                server.kill()
                # From the main thread, so that it dies with it.
                server.begin()
                await asyncio.to_thread(server.await_ready)

        async with stand(backend, TEMPLATE, logs, retry_delays=RETRY_DELAYS_S) as system:
            figures, _ = await trial(system, orders, per_s, within_s=WITHIN_S, strike=strike)
            return figures


def main(
    orders: Annotated[int, typer.Option(help="How many fail, and are retried.")] = 10_000,
    per_second: Annotated[int, typer.Option(help="The bulk retry's pace.")] = 200,
) -> None:
    directory = Path(tempfile.mkdtemp(prefix="bulk-"))
    print(f"a bulk retry of {orders} orders, in {directory}", flush=True)
    figures = asyncio.run(run(directory, orders, per_second))
    print(figures)
    if not holds(figures):
        print(f"AMISS: what is left is in {directory}")
        raise SystemExit(1)
    print("each order was retried once, and delivered once; I1 to I10 hold")
    shutil.rmtree(directory)


if __name__ == "__main__":
    typer.run(main)
