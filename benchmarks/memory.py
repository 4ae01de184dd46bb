"""Resident memory an order, open and remembered. `python -m benchmarks.memory OPEN REMEMBERED` measures and prints."""

import gc
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import orjson
import psutil

from benchmarks.lives import lived, rules
from benchmarks.report import Figure, Result
from benchmarks.rig import Rig
from services.fulfiller.agenda import Agenda
from services.fulfiller.book import Book
from services.fulfiller.order import dump_order, load_order
from services.settings import Settings


def measure(rig: Rig, *, quick: bool) -> Result:  # noqa: ARG001 - it needs no servers
    """In a process of its own, with the fulfiller's own book and agenda."""
    open_, remembered = (20_000, 100_000) if quick else (100_000, 1_000_000)
    command = [sys.executable, "-m", "benchmarks.memory", str(open_), str(remembered)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    bytes_ = orjson.loads(printed)
    return Result(
        "memory",
        [
            Figure("an open order", bytes_["open"], "bytes", at_most=1024),
            Figure("a remembered order", bytes_["remembered"], "bytes", at_most=250),
        ],
        [f"{open_} open and {remembered} remembered orders in one process"],
        {"bytes": bytes_},
    )


def _fill(open_: int, remembered: int) -> dict[str, float]:
    """Bytes of resident memory an order."""
    settings = Settings()
    now = datetime.now(UTC)
    kept = rules(settings)
    book, agenda = Book(), Agenda()
    sample = lived(0, now, kept, delivered=True).order
    empty = _resident()
    for number in range(open_):
        # As after a takeover: nothing is shared with what made it.
        order = load_order(dump_order(lived(number, now, kept, delivered=False).order))
        book.put(order)
        agenda.carried(order.next_at or now, order)
    with_open = _resident()
    for number in range(remembered):
        order_id = f"{number:08x}-0000-4000-8000-000000000000"
        book.put(replace(sample, order_id=order_id, ended_at=now + timedelta(milliseconds=number)))
    with_both = _resident()
    return {"open": (with_open - empty) / open_, "remembered": (with_both - with_open) / remembered}


def _resident() -> int:
    gc.collect()
    return int(psutil.Process().memory_info().rss)


if __name__ == "__main__":
    print(orjson.dumps(_fill(int(sys.argv[1]), int(sys.argv[2]))).decode())
