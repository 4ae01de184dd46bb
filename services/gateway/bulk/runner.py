"""Carries bulk retries out, beside the requests: whichever gateway takes one holds it by a lease in PostgreSQL.

A turn is one transaction that holds the job's row from the lease to the mark that Kafka has the commands: a person who
stops the job waits for it, and two gateways never send at the same time. What a turn that was broken off had sent is
sent again by the next one under the same ids, and the fulfiller passes it over.
"""

import asyncio
import uuid
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

import asyncpg
import structlog

from schemas.cloudevents import binary_headers, json_value
from schemas.commands import RetryFulfillment
from schemas.ids import retry_command_id
from schemas.topics import FULFILLMENT_COMMANDS
from services.gateway.bulk.pace import CANARY_WAIT_S, Finish, GoOn, Halt, Pace, Progress, Send, next_step
from services.gateway.bulk.store import QUERIES, Store
from services.gateway.database import DatabaseAwayError
from services.gateway.purchase import SOURCE
from services.gateway.writer import NotWrittenError, Writer

LEASE_S: Final = 5.0
_LOOK_EVERY_S: Final = 2.0
_TURN_S: Final = 0.25
_AWAY_S: Final = 1.0
_TOGETHER: Final = 4
"""Jobs at once in one gateway."""

log = structlog.get_logger()


class Runner:
    def __init__(
        self, store: Store, writer: Writer, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._store = store
        self._writer = writer
        self._now = now
        self._owner = uuid.uuid4()
        self._woken = asyncio.Event()
        self._at_work: set[asyncio.Task[None]] = set()

    def wake(self) -> None:
        """There is something to take."""
        self._woken.set()

    async def run(self) -> None:
        """For ever: take what nobody is at, and see what became of what is at rest."""
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    self._woken.clear()
                    try:
                        await self._take(group)
                        await self._settle_at_rest()
                    except DatabaseAwayError as error:
                        log.debug("bulk_retries_wait", error=str(error))
                    except asyncpg.PostgresError:
                        log.exception("bulk_retries_failed")  # and are looked at again: a purchase must not suffer
                    with suppress(TimeoutError):
                        async with asyncio.timeout(_LOOK_EVERY_S):
                            await self._woken.wait()
        finally:
            # So that another gateway need not wait for the leases to pass.
            with suppress(DatabaseAwayError, asyncpg.PostgresError):
                async with self._store.transaction() as connection:
                    await connection.execute(QUERIES["let_go"], self._owner, timeout=1)

    async def _take(self, group: asyncio.TaskGroup) -> None:
        while len(self._at_work) < _TOGETHER:
            async with self._store.transaction() as connection:
                job = await connection.fetchrow(QUERIES["take"], self._owner, LEASE_S)
            if job is None:
                return
            log.info("bulk_retry_taken", job=str(job["id"]), state=job["state"])
            task = group.create_task(self._carry_out(job["id"]))
            self._at_work.add(task)
            task.add_done_callback(self._at_work.discard)

    async def _settle_at_rest(self) -> None:
        async with self._store.transaction() as connection:
            jobs = await connection.fetch(QUERIES["at_rest"])
        for (job_id,) in jobs:
            async with self._store.transaction() as connection:
                if await connection.fetchrow(QUERIES["lock_if_free"], job_id) is not None:
                    await connection.execute(QUERIES["settle"], job_id)

    async def _carry_out(self, job_id: uuid.UUID) -> None:
        """Until the job ends, is stopped, or is somebody else's."""
        loop = asyncio.get_running_loop()
        pace = Pace(loop.time())
        while True:
            pause_s = _TURN_S
            try:
                if not await self._turn(job_id, pace, loop.time()):
                    return
            except DatabaseAwayError as error:
                log.info("bulk_retry_waits", job=str(job_id), error=str(error))
                pause_s = _AWAY_S
            except NotWrittenError as error:
                log.info("bulk_retry_waits", job=str(job_id), error=f"Kafka: {error}")
                pause_s = _AWAY_S
            except asyncpg.PostgresError:
                log.exception("bulk_retry_failed", job=str(job_id))  # and is tried again
                pause_s = _AWAY_S
            await asyncio.sleep(pause_s)

    async def _turn(self, job_id: uuid.UUID, pace: Pace, now_s: float) -> bool:
        """False where there is nothing more to do. NotWrittenError once what was written is noted."""
        failed: NotWrittenError | None = None
        async with self._store.transaction() as connection:
            job = await connection.fetchrow(QUERIES["hold"], job_id, self._owner, LEASE_S)
            if job is None:
                return False
            await connection.execute(QUERIES["settle"], job_id)
            row = await connection.fetchrow(QUERIES["progress"], job_id, CANARY_WAIT_S)
            assert row is not None  # noqa: S101 - it counts
            match next_step(job, Progress.of(row), pace.allowance(job["per_s"], now_s)):
                case Send(orders=0):
                    pass
                case Send(orders=orders):
                    failed = await self._send(connection, job, orders)
                    pace.sent(orders)
                case GoOn():
                    await connection.execute(QUERIES["go_on"], job_id)
                case Halt(why=why):
                    await connection.execute(QUERIES["halt"], job_id, why)
                    log.warning("bulk_retry_halted", job=str(job_id), why=why)
                    return False
                case Finish():
                    await connection.execute(QUERIES["finish"], job_id)
                    log.info("bulk_retry_done", job=str(job_id))
                    return False
        if failed is not None:
            raise failed
        return True

    async def _send(self, connection: Any, job: Any, orders: int) -> NotWrittenError | None:
        """The next ones. Those that Kafka has acknowledged are marked; why not all of them."""
        job_id = str(job["id"])
        rows = await connection.fetch(QUERIES["next_rows"], job["id"], orders)
        commands = [
            RetryFulfillment(
                command_id=retry_command_id(job_id, row["order_id"]),
                order_id=row["order_id"],
                actor=job["actor"],
                reason=job["reason"],
                at=self._now(),
                expected_sequence=row["expected_sequence"],
            )
            for row in rows
        ]
        came = await asyncio.gather(*map(self._write, commands))
        written = [n for n, failed in enumerate(came) if failed is None]
        await connection.execute(
            QUERIES["sent"],
            job["id"],
            [rows[n]["number"] for n in written],
            [commands[n].command_id for n in written],
        )
        log.info("bulk_retry_sent", job=job_id, orders=len(written), actor=job["actor"])
        return next((failed for failed in came if failed is not None), None)

    async def _write(self, command: RetryFulfillment) -> NotWrittenError | None:
        headers = binary_headers(command.type, command.command_id, SOURCE, command.at)
        try:
            await self._writer.append(FULFILLMENT_COMMANDS, command.order_id, json_value(command), headers)
        except NotWrittenError as error:
            return error
        return None
