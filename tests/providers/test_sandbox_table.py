"""docs/sandbox.md's table of magic numbers, row by row, against the real adapter and the real sandbox."""

import asyncio
import re
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from services.fulfiller.providers.port import Deadline, OutcomeClass
from services.sandbox.faults import FAULTS, magic_number
from tests.providers.conftest import Bench, MakeBench

_DOCUMENT = Path(__file__).parents[2] / "docs" / "sandbox.md"


class Row(NamedTuple):
    number: str
    fault: str
    send: str
    queries: tuple[str, ...]
    delivered: str


def _rows() -> list[Row]:
    rows = []
    for line in _DOCUMENT.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if re.fullmatch(r"`\+\d{12}`", cells[0]):
            number, fault, _, send, queries, delivered = cells
            rows.append(
                Row(
                    number.strip("`"),
                    fault,
                    send.strip("`"),
                    tuple(re.findall(r"`(\w+)`", queries)),
                    delivered,
                )
            )
    return rows


def test_every_fault_has_its_row_and_its_number() -> None:
    assert {row.fault: row.number for row in _rows()} == {name: magic_number(name) for name in FAULTS}


@pytest.mark.parametrize("row", _rows(), ids=lambda row: row.fault)
async def test_row(row: Row, make_bench: MakeBench) -> None:
    waits = "hang" in row.fault or "hold" in row.fault
    bench = await make_bench(at_ishare_timeout_s=0.5 if waits else 5.0, sandbox_latency_s=0.02)
    timeout_s = bench.adapter.profile.call_timeout_s
    deadline = Deadline(time.monotonic() + timeout_s, time.time() + timeout_s)

    outcome = await bench.adapter.deliver("order-1", row.number, 1000, "AT-iShare", deadline)
    heard: list[OutcomeClass] = []
    async with asyncio.timeout(10):
        for expected in row.queries:
            # A state that lasts is asked about until it is over; each question takes the sandbox's latency.
            kind = (await bench.adapter.verify("order-1")).kind
            while heard and kind == heard[-1] != expected:
                kind = (await bench.adapter.verify("order-1")).kind
            heard.append(kind)

    assert outcome.kind == row.send
    assert tuple(heard) == row.queries
    deliveries = await bench.deliveries("order-1")
    assert deliveries == (0 if row.delivered == "later" else int(row.delivered))
    if row.fault == "hold_first":
        assert await bench.call("POST", "/release") == {"released": 1}
        await bench.reach("deliveries", 1, "order-1")


async def test_the_digit_before_the_last_counts_the_sends(bench: Bench) -> None:
    number = magic_number("busy", times=2)
    deadline = Deadline(time.monotonic() + 5, time.time() + 5)
    outcomes = [await bench.adapter.deliver("order-1", number, 1000, "AT-iShare", deadline) for _ in range(3)]
    assert [outcome.kind for outcome in outcomes] == ["declined_transient", "declined_transient", "delivered"]
    assert len({outcome.transaction_id for outcome in outcomes}) == 3


async def test_the_seeds_own_number_succeeds(bench: Bench) -> None:
    deadline = Deadline(time.monotonic() + 5, time.time() + 5)
    outcome = await bench.adapter.deliver("order-1", "+233123456789", 1000, "AT-iShare", deadline)
    assert outcome.kind == "delivered"
