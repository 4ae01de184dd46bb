"""A projector's process: production's projection, batch, writer and view; the loop around them is as projector.py
has it, on the simulated broker and database.
"""

import asyncio
from typing import Any, Final

from services import postgres
from services.fulfiller.log import LogError, Source
from services.projector.batch import TOPICS
from services.projector.view import Overtaken, View
from services.projector.writer import Writer
from tests.simulation.database import Connection, Database
from tests.simulation.group import Group, Member
from tests.simulation.log import SimLog, SimReader

IDLE_S: Final = 3600.0
RETRY_S: Final = 1.0


class Projecting:
    def __init__(self, log: SimLog, group: Group, database: Database, max_attempts: int, gathered_s: float) -> None:
        self._log = log
        self._group = group
        self._database = database
        self._max_attempts = max_attempts
        self._gathered_s = gathered_s
        self._assigned: frozenset[int] | None = None
        self._placed = False
        self._connection: Connection | None = None
        self._view: View | None = None
        self._writer: Writer | None = None
        self._reader: SimReader | None = None
        self._changed = asyncio.Event()

    async def run(self) -> None:
        self._reader = await self._log.open_reader()
        Member(self._log.process, self._group, self._log.network, self._revoked, self._given)
        while True:
            self._changed.clear()
            if not self._placed and not await self._place():
                if self._assigned is None:
                    await self._changed.wait()
                else:
                    await asyncio.sleep(RETRY_S)
                continue
            # What comes thick is gathered, as projector.py does.
            await self._log.broker.loop.pause(self._gathered_s * self._log.broker.loop.random.random() ** 2)
            polled = await self._reader.poll(IDLE_S)
            records = [record for records in polled.values() for record in records]
            if records and self._placed:
                await self._apply(records)

    async def _revoked(self, _partitions: frozenset[int]) -> None:
        self._assigned = None
        self._placed = False
        self._look()

    async def _given(self, partitions: frozenset[int]) -> None:
        self._assigned = partitions
        self._placed = False
        self._look()

    def _look(self) -> None:
        self._changed.set()
        if self._reader is not None:
            self._reader.interrupt()

    async def _place(self) -> bool:
        partitions = self._assigned
        if partitions is None or self._reader is None:
            return False
        try:
            if self._view is None:
                self._connection = self._database.connect(self._log.process)
                connection: Any = self._connection
                self._view = View(connection, max_attempts=self._max_attempts)
            wanted = [(topic, partition) for topic in TOPICS for partition in sorted(partitions)]
            positions = await self._view.positions(wanted)
        except postgres.UNREACHABLE:
            self._drop()
            return False
        try:
            await self._reader.bounds([Source(*partition) for partition in positions])
        except LogError:
            return False
        if partitions is not self._assigned:
            return False
        self._reader.assign({Source(*partition): offset for partition, offset in positions.items()})
        self._writer = Writer(self._view, positions, "")
        self._placed = True
        return True

    async def _apply(self, records: list[Any]) -> None:
        assert self._writer is not None
        try:
            await self._writer.apply(records)
        except Overtaken:
            self._placed = False
        except postgres.UNREACHABLE:
            self._drop()

    def _drop(self) -> None:
        self._placed = False
        self._view = None
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
