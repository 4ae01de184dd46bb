"""`python -m tests.simulation --seeds N [--base B]`: so many histories. `--seed N` replays one, and says what happened.

`--planted NAME …` puts one bug after another into the product; each is to be found.
"""

import argparse
import asyncio
import gc
import os
import sys
import time
import warnings
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from functools import lru_cache
from multiprocessing import get_context
from multiprocessing.pool import AsyncResult
from pathlib import Path
from typing import Any, Final, NamedTuple

import structlog
from prometheus_client import Counter as Counting
from prometheus_client import Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from schemas import fulfillment, ids
from services import partition

CHUNK: Final = 50
WARM: Final = 3
READ: Final = 1000
"""Events, and ids, that are remembered."""
ORDERS: Final = 20
FAILED_BEFORE: Final = Path(__file__).with_name("seeds.txt")
"""A seed a line, and what it found."""


class Chunk(NamedTuple):
    """What came of some seeds."""

    done: int
    failed: list[tuple[int, str]]
    met: Counter[str]
    virtual_s: float
    cpu_s: float


def _prepare() -> None:
    """Nobody reads what the services log here; and what a killed process left behind ends noisily."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50), cache_logger_on_first_use=True)
    warnings.simplefilter("ignore")
    # Nor does anybody read what they measure.
    MetricWrapperBase.labels = lambda metric, *_, **__: metric
    Counting.inc = Gauge.set = Histogram.observe = lambda *_: None
    sys.unraisablehook = lambda _: None
    # Nobody asks for all tasks; and an event that was read is not read again.
    tasks: Any = getattr(asyncio.tasks, "_scheduled_tasks", None)  # from Python 3.12 on
    if tasks is None:
        tasks = asyncio.tasks._all_tasks  # type: ignore[attr-defined] # noqa: SLF001 - nowhere else to be turned off
    tasks.add = lambda _: None
    fulfillment._event.validate_json = lru_cache(READ)(fulfillment._event.validate_json)  # type: ignore[method-assign,assignment] # noqa: SLF001 - as above
    # Nor are ids and homes worked out again by each of those who hold a record to them.
    ids.derived = lru_cache(READ)(ids.derived)
    partition.hashed = lru_cache(READ)(partition.hashed)
    # Nor does it find a loop to clean up on, which would keep it, and all of its history, for ever.
    asyncio.set_event_loop(None)


def _warm(orders: int) -> None:
    """What every process forked from this one has done already."""
    from tests.simulation.history import simulate

    _prepare()
    for seed in range(WARM):
        simulate(seed, orders)
    gc.collect()
    gc.freeze()


def _chunk(seeds: Sequence[int], orders: int, planted: str | None) -> Chunk:
    """To be run in a process of its own: what killed ones leave behind is nowhere collected, for the process ends."""
    from tests.simulation.history import simulate
    from tests.simulation.planted import PLANTED
    from tests.simulation.shrink import shrunk, told

    gc.disable()
    if planted is not None:
        PLANTED[planted]()
    failed: list[tuple[int, str]] = []
    met: Counter[str] = Counter()
    virtual_s, began_s = 0.0, time.process_time()
    for seed in seeds:
        outcome = simulate(seed, orders)
        met += outcome.met
        virtual_s += outcome.virtual_s
        if outcome.breaches:
            if planted is None:
                outcome = shrunk(outcome, lambda of, faults: simulate(of, orders, faults))
            failed.append((seed, told(outcome)))
            if planted is not None:
                break
    return Chunk(len(seeds), failed, met, virtual_s, time.process_time() - began_s)


def _planted(names: Sequence[str], seeds: Sequence[int], orders: int, processes: int) -> int:
    """Each bug by itself; 1 where all are found."""
    found = 0
    with get_context("fork").Pool(processes, maxtasksperchild=1) as pool:
        tried = [pool.apply_async(_chunk, (seeds, orders, name)) for name in names]
        for name, trial in zip(names, tried, strict=True):
            chunk = trial.get()
            what = f"{name}: " + (f"seed {chunk.failed[0][0]}" if chunk.failed else f"not found by {len(seeds)} seeds")
            print("\n  ".join([what, *(chunk.failed[0][1].splitlines()[1:4] if chunk.failed else ())]), flush=True)
            found += bool(chunk.failed)
    return int(found == len(names))


def _chunks(seeds: Sequence[int], orders: int, processes: int) -> Iterator[Chunk]:
    parts = deque(seeds[begin : begin + CHUNK] for begin in range(0, len(seeds), CHUNK))
    under_way: deque[AsyncResult[Chunk]] = deque()
    with get_context("fork").Pool(processes, maxtasksperchild=1) as pool:
        while parts or under_way:
            while parts and len(under_way) <= processes:
                under_way.append(pool.apply_async(_chunk, (parts.popleft(), orders, None)))
            yield under_way.popleft().get()


def failed_before() -> list[int]:
    lines = FAILED_BEFORE.read_text().splitlines()
    return [int(line.split()[0]) for line in lines if line.strip() and not line.startswith("#")]


def _replay(seed: int, orders: int) -> int:
    from tests.simulation.history import simulate
    from tests.simulation.shrink import shrunk, told

    _prepare()
    gc.disable()
    outcome = simulate(seed, orders)
    print(f"seed {seed}: trace {outcome.trace}, {outcome.steps} steps, {outcome.virtual_s / 3600:.1f} virtual hours")
    if outcome.breaches:
        print(told(shrunk(outcome, lambda of, faults: simulate(of, orders, faults))))
    else:
        print("\n".join(["nothing is broken; its faults:", *(f"  {fault}" for fault in outcome.faults)]))
    return bool(outcome.breaches)


def _run(arguments: Any) -> int:
    base = arguments.base if arguments.base is not None else time.time_ns() // 1_000_000
    seeds = [*(failed_before() if arguments.regressions else ()), *range(base, base + arguments.seeds)]
    _warm(arguments.orders)
    if arguments.planted:
        return _planted(arguments.planted, seeds, arguments.orders, arguments.processes)
    print(f"{len(seeds)} histories of {arguments.orders} orders; fresh seeds from {base} (BASE={base})", flush=True)
    began_s = time.perf_counter()
    done, virtual_s, cpu_s = 0, 0.0, 0.0
    met: Counter[str] = Counter()
    failed: list[tuple[int, str]] = []
    for chunk in _chunks(seeds, arguments.orders, arguments.processes):
        done += chunk.done
        met += chunk.met
        virtual_s += chunk.virtual_s
        cpu_s += chunk.cpu_s
        for seed, words in chunk.failed:
            failed.append((seed, words))
            print(f"{words}\nagain: make simulate SEED={seed}\n", flush=True)
    took_s = time.perf_counter() - began_s
    print(
        f"{done} histories, {done * arguments.orders} orders, {virtual_s / 86400:.0f} virtual days in {took_s:.0f} s "
        f"on {arguments.processes} processes "
        f"({done / took_s:.0f} a second; {done / cpu_s:.0f} a second of processor time); {len(failed)} failed"
    )
    print("faults met: " + ", ".join(f"{kind} {count}" for kind, count in met.most_common()))
    return bool(failed)


def main() -> int:
    if os.environ.get("PYTHONHASHSEED") != "0":
        # Sets of strings have one order in every run.
        os.execve(  # noqa: S606 - itself
            sys.executable,
            [sys.executable, "-m", "tests.simulation", *sys.argv[1:]],
            {**os.environ, "PYTHONHASHSEED": "0"},
        )
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--base", type=int)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--orders", type=int, default=ORDERS)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--planted", nargs="+")
    parser.add_argument("--regressions", action="store_true", help="also every seed that ever failed")
    arguments = parser.parse_args()
    return _replay(arguments.seed, arguments.orders) if arguments.seed is not None else _run(arguments)


if __name__ == "__main__":
    sys.exit(main())
