"""`python -m tests.chaos`: a storm over real processes, as long as one likes; exit code 1 where it was not sound."""

import asyncio
import random
import shutil
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from tests.chaos.storm import run


def main(
    minutes: Annotated[float, typer.Option(help="How long it blows; to settle and to judge comes on top.")] = 30.0,
    seed: Annotated[int | None, typer.Option(help="Chooses the plan; any, unless given.")] = None,
    orders_per_s: Annotated[float, typer.Option(help="As many as the customers try to buy.")] = 250.0,
    directory: Annotated[Path | None, typer.Option(help="For data, logs and what is left.")] = None,
) -> None:
    chosen = random.SystemRandom().randrange(2**31) if seed is None else seed
    place = directory or Path(tempfile.mkdtemp(prefix=f"storm-{chosen}-"))
    print(f"storm of seed {chosen}, {minutes:g} minutes, in {place}", flush=True)
    outcome = asyncio.run(run(place, chosen, minutes * 60, orders_per_s))
    print(outcome)
    if not outcome.sound:
        print(f"NOT SOUND: topics, tables, ledger, logs and timeline are kept in {place}")
        raise SystemExit(1)
    if directory is None:
        shutil.rmtree(place)


if __name__ == "__main__":
    typer.run(main)
