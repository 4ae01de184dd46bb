"""`python -m tests.outage`: 5,000 orders wait through an outage of 20 probe intervals; exit code 1 on any breach."""

import asyncio
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from tests.backend import from_packages
from tests.conftest import TEMPLATE, make_template
from tests.outage.outage import Plan, Report, run
from tests.stand import stand


async def _run(directory: Path, plan: Plan) -> Report:
    with from_packages(directory) as backend:
        await make_template(backend.postgres_url)
        async with stand(backend, TEMPLATE, directory / "logs", **plan.settings()) as made:
            return await run(made, plan)


def main(
    orders: Annotated[int, typer.Option(help="That wait.")] = 5000,
    intervals: Annotated[int, typer.Option(help="Between probes, for which the outage lasts.")] = 20,
    interval_s: Annotated[float, typer.Option(help="How long one is.")] = 1.0,
    rate_per_s: Annotated[float, typer.Option(help="AT_ISHARE_RATE_PER_S.")] = 100.0,
    max_in_flight: Annotated[int, typer.Option(help="AT_ISHARE_MAX_IN_FLIGHT.")] = 32,
) -> None:
    plan = Plan(orders, intervals, interval_s, rate_per_s, max_in_flight)
    with tempfile.TemporaryDirectory(prefix="outage-") as directory:
        report = asyncio.run(_run(Path(directory), plan))
    print(report)
    if report.breaches:
        raise SystemExit(1)


if __name__ == "__main__":
    typer.run(main)
