"""The simulated PostgreSQL: a queue of writers is the server's, and holds nobody up for one that is gone."""

import asyncio

import pytest

from tests.simulation.database import IDLE_IN_TRANSACTION_S, Database
from tests.simulation.loop import Process, SimLoop


@pytest.mark.parametrize(("fate", "within_s"), [("kill", 1.0), ("freeze", IDLE_IN_TRANSACTION_S + 1)])
def test_who_is_gone_while_it_waits_to_write_keeps_nobody_waiting(fate: str, within_s: float) -> None:
    loop = SimLoop(1)
    database = Database(loop)
    first, gone, last = (Process(loop, name) for name in ("first", "gone", "last"))
    enough = loop.create_future()

    async def write(process: Process, until: asyncio.Future[None] | None = None) -> None:
        async with database.connect(process).transaction():
            if until is not None:
                await until

    async def play() -> float:
        tasks = []
        for process, until in ((first, enough), (gone, None), (last, None)):
            tasks.append(process.start(write(process, until)))
            await loop.pause(0.1)
        getattr(gone, fate)()
        began_s = loop.now_s
        enough.set_result(None)
        await tasks[-1]
        return loop.now_s - began_s

    try:
        assert loop.run_until_complete(play()) <= within_s
    finally:
        loop.close()
