"""A storm: everything that dies and comes back while orders stream in, and what is left of them at the end."""

import asyncio
import logging
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import asyncpg
import psutil

from services.local.kafka import Kafka
from services.local.postgres import Postgres
from services.sandbox.faults import QueryAnswer
from tests.backend import from_packages
from tests.case import Finding
from tests.chaos.crew import LOOK_S, Crew
from tests.chaos.customers import Customers
from tests.chaos.plan import Act, Deed, Role, acts
from tests.chaos.remains import keep
from tests.chaos.report import Report, hits
from tests.chaos.timeline import Timeline
from tests.checker import findings
from tests.conftest import TEMPLATE, make_template
from tests.evidence import Evidence
from tests.stand import Stand, stand

FAULT_SHARE: Final = 0.3
_WEIGHTS: Final[Mapping[str, float]] = {
    "busy": 8,
    "try_again": 4,
    "error_with_200": 2,
    "late_1s": 4,
    "late_failure": 2,
    "deliver_then_500": 4,
    "deliver_then_reset": 4,
    "deliver_then_empty": 1,
    "deliver_then_html": 1,
    "deliver_then_garbage": 1,
    "deliver_then_huge": 0.2,
    "deliver_then_redirect": 0.5,
    "wrong_reference": 0.5,
    "no_transaction_id": 0.5,
    "duplicate_delivered": 1,
    "duplicate_reference_delivered": 0.5,
    "reset": 1,
    "empty": 0.5,
    "html": 0.5,
    "garbage": 0.5,
    "error_500": 1,
    "redirect": 0.3,
    "duplicate_reference": 0.5,
    "found_late": 1,
    "status_out_of_order": 1,
    "status_error": 1,
    "invalid_msisdn": 0.5,
    "barred": 0.5,
    # Each of these holds a slot for seconds, or everybody's calls.
    "deliver_then_hang": 0.3,
    "hang_then_deliver": 0.3,
    "rate_limited": 0.05,
}
"""Faults of the sandbox by how often they are met. Left out are those that make a liar of the provider, and those whose
orders wait for days: a code that nobody knows, a delivery an hour later."""
SHARES: Final = {name: FAULT_SHARE * weight / sum(_WEIGHTS.values()) for name, weight in _WEIGHTS.items()}
QUERY_SHARES: Final = {
    QueryAnswer.PROCESSING: 0.05,
    QueryAnswer.INTERNAL: 0.05,
    QueryAnswer.GARBAGE: 0.05,
    QueryAnswer.RESET: 0.04,
    QueryAnswer.HANG: 0.01,
}
PARTITIONS: Final = 4
VERIFY_DELAYS_S: Final = (1, 2, 4, 8)
"""Long enough for one of the questions to come later than the last takeover, and so to prove something."""
SETTLED_S: Final = 90.0
"""Without any progress for so long, the orders that are still on their way stay so."""
PROVEN_S: Final = 60.0
ENCORE_S: Final = 60.0
_OPEN: Final = (
    "SELECT count(*), count(*) FILTER (WHERE state IN "
    "('delivered', 'failed', 'cancelled', 'rejected', 'review', 'held')), coalesce(sum(sequence), 0) "
    "FROM fulfillment_logs"
)


@dataclass(frozen=True)
class Outcome:
    report: Report
    findings: list[Finding]
    faults: list[str]
    """Services that ended as none should."""

    @property
    def sound(self) -> bool:
        return not self.findings and not self.faults

    def __str__(self) -> str:
        breaches = [f"breaches of the invariants: {len(self.findings)}", *map(str, self.findings)]
        return "\n".join(
            [str(self.report), f"services that ended by themselves: {len(self.faults)}", *self.faults, *breaches]
        )


class Storm:
    def __init__(self, stand_: Stand, kafka: Kafka, postgres: Postgres, seed: int, timeline: Timeline) -> None:
        self.stand = stand_
        self.seed = seed
        self._kafka = kafka
        self._postgres = postgres
        self._timeline = timeline
        self.crew = Crew(stand_, seed, timeline)
        self.customers: Customers
        self.servers: Counter[str] = Counter()
        """Deeds done to the broker and the database."""
        self._under_way: set[asyncio.Task[None]] = set()
        self._over: list[asyncio.Task[None]] = []
        self._busy: dict[str, asyncio.Lock] = {"kafka": asyncio.Lock(), "postgres": asyncio.Lock()}

    async def blow(self, for_s: float, orders_per_s: float) -> None:
        """Do as the seed says, for so long; then let everything come back."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + for_s
        self.crew.look()
        keeping = asyncio.create_task(self.crew.keep())
        self.customers = Customers(self.stand, self.seed, orders_per_s, lambda: list(self.crew.urls()))
        trading = asyncio.create_task(self.customers.trade())
        try:
            for act in acts(self.seed):
                # The pace of the storm; nothing waits for it.
                await asyncio.sleep(max(min(act.after_s, end_s - loop.time()), 0))
                for task in (keeping, trading, *self._over):
                    if task.done() and loop.time() < end_s:
                        task.result()
                if loop.time() >= end_s:
                    break
                self._do(act)
            await self._until_every_point_was_hit()
            while self._under_way:
                await asyncio.gather(*self._under_way)
            self.customers.go_home()
            await trading
        finally:
            for task in (keeping, trading, *self._under_way):
                task.cancel()
            await asyncio.gather(keeping, trading, *self._under_way, return_exceptions=True)
            self._bring_back()

    async def _until_every_point_was_hit(self) -> None:
        """A short storm goes on for a little, with nothing but the points that are left."""
        loop = asyncio.get_running_loop()
        give_up_s = loop.time() + ENCORE_S
        self.crew.armed = True
        for role in (Role.GATEWAY, Role.FULFILLER, Role.PROJECTOR):
            if self.crew.unhit[role]:
                self.crew.kill(role, 0.0)  # its successor is armed with one of them
        while any(self.crew.unhit.values()) and loop.time() < give_up_s:
            if self.crew.unhit[Role.REBUILD]:
                self.crew.begin_rebuild()
            await asyncio.sleep(LOOK_S)

    def _do(self, act: Act) -> None:
        crew, role, which = self.crew, act.role or Role.FULFILLER, act.which
        match act.deed:
            case Deed.KILL:
                crew.kill(role, which)
            case Deed.KILL_ALL:
                crew.kill_all(role)
            case Deed.FREEZE:
                crew.freeze(role, which, act.for_s)
            case Deed.STOP:
                crew.stop(role, which)
            case Deed.RESIZE:
                crew.resize(role, act.count)
            case Deed.LULL | Deed.GUST:
                crew.armed = act.deed is Deed.GUST
            case Deed.REBUILD:
                crew.begin_rebuild()
            case Deed.DUPLICATES:
                self._begin(self.customers.write_again(act.count))
            case Deed.REFUSE_CREDENTIALS:
                self._begin(self._refuse_credentials(act.for_s))
            case Deed.BROKER_KILL | Deed.BROKER_RESTART | Deed.BROKER_FREEZE:
                self._begin(self._strike(self._kafka, act))
            case Deed.POSTGRES_KILL | Deed.POSTGRES_RESTART | Deed.POSTGRES_FREEZE:
                self._begin(self._strike(self._postgres, act))

    def _begin(self, deed: Any) -> None:
        task = asyncio.create_task(deed)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        task.add_done_callback(self._over.append)

    async def _strike(self, server: Kafka | Postgres, act: Act) -> None:
        """Kill, restart or freeze the broker or the database; it comes back after a while."""
        async with self._busy[server.name]:
            self.servers[act.deed] += 1
            self._timeline.note(act.deed, server.name, f"{act.for_s:.1f} s")
            if act.deed in {Deed.BROKER_FREEZE, Deed.POSTGRES_FREEZE}:
                _signal(server, signal.SIGSTOP)
                try:
                    await asyncio.sleep(act.for_s)
                finally:
                    _signal(server, signal.SIGCONT)
            else:
                if act.deed in {Deed.BROKER_KILL, Deed.POSTGRES_KILL}:
                    server.kill()
                else:
                    await asyncio.to_thread(server.stop)
                await asyncio.sleep(act.for_s)
                # From the main thread, so that it dies with it.
                server.begin()
                await asyncio.to_thread(server.await_ready)
            self._timeline.note("is back", server.name)

    async def _refuse_credentials(self, for_s: float) -> None:
        self.servers[Deed.REFUSE_CREDENTIALS] += 1
        self._timeline.note(Deed.REFUSE_CREDENTIALS, "sandbox", f"{for_s:.1f} s")
        await self.stand.sandbox.faults(credentials_refused=True)
        await asyncio.sleep(for_s)
        await self.stand.sandbox.faults(credentials_refused=False)

    def _bring_back(self) -> None:
        for server in (self._kafka, self._postgres):
            if server.process.exit_code is not None:
                server.start()

    # --- what is left -------------------------------------------------------------------------------------------------

    async def settle(self) -> None:
        """The faults stop; wait until every order is at rest, for as long as there is any progress."""
        self._timeline.note("calm")
        await self.stand.sandbox.faults(shares={}, query_shares={})
        await self.crew.calm()
        loop = asyncio.get_running_loop()
        accepted = len({said.order_id for said in self.stand.clients.accepted})
        before, since_s = None, loop.time()
        while loop.time() - since_s < SETTLED_S:
            seen = await self._seen()
            if seen[0] >= accepted and seen[0] == seen[1]:
                break
            if seen != before:
                before, since_s = seen, loop.time()
            await asyncio.sleep(0.5)  # between two looks
        self._timeline.note("settled")

    async def _seen(self) -> tuple[int, int, int]:
        connection = await asyncpg.connect(self.stand.settings.database_url.get_secret_value())
        try:
            ((rows, at_rest, events),) = await connection.fetch(_OPEN)
        finally:
            await connection.close()
        return rows, at_rest, events

    async def judge(self) -> tuple[Evidence, list[Finding]]:
        """What the checker finds, once; again as long as it may be for want of time alone."""
        loop = asyncio.get_running_loop()
        give_up_s = loop.time() + PROVEN_S
        late_s = self._timeline.lag_s
        while True:
            # Where processes wait for the processor, so does the provider with what it has been sent in time.
            gathered = await self.stand.evidence()
            evidence = replace(gathered, late_s=gathered.late_s + late_s)
            self.customers.settle_poison(evidence.of("orders.events"))
            found = findings(evidence)
            if not found or loop.time() > give_up_s or any(f.invariant not in {"I1", "I2", "I5"} for f in found):
                return evidence, found

    def report(self, evidence: Evidence, blown_s: float, settled_s: float, judged_s: float) -> Report:
        crew, customers = self.crew, self.customers
        report = Report(
            seed=self.seed,
            blown_s=blown_s,
            settled_s=settled_s,
            judged_s=judged_s,
            points=hits(evidence.logs),
            kills=crew.kills,
            freezes=crew.freezes,
            starts=crew.starts,
            servers=self.servers,
            done=customers.done,
            answers=customers.answers,
            clock_steps=self._timeline.steps,
            lag_s=self._timeline.lag_s,
        )
        report.read(evidence)
        return report


@asynccontextmanager
async def raised(directory: Path, seed: int) -> AsyncIterator[Storm]:
    """Everything that a storm needs, below `directory`."""
    log_dir = directory / "logs"
    log_dir.mkdir(parents=True)
    with from_packages(directory / "data") as backend, Timeline(directory / "timeline.jsonl") as timeline:
        assert isinstance(backend.kafka, Kafka)
        assert isinstance(backend.postgres, Postgres)
        await make_template(backend.postgres_url)
        async with stand(backend, TEMPLATE, log_dir, partitions=PARTITIONS, verify_delays=VERIFY_DELAYS_S) as stand_:
            await stand_.sandbox.faults(
                shares=SHARES, query_shares={str(name): share for name, share in QUERY_SHARES.items()}, seed=seed
            )
            watching = asyncio.create_task(timeline.watch_the_clock())
            try:
                yield Storm(stand_, backend.kafka, backend.postgres, seed, timeline)
            finally:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)


async def run(directory: Path, seed: int, for_s: float, orders_per_s: float) -> Outcome:
    """A whole storm. What is needed to look into it stays in `directory` where it was not sound."""
    with _quiet_clients():
        return await _run(directory, seed, for_s, orders_per_s)


async def _run(directory: Path, seed: int, for_s: float, orders_per_s: float) -> Outcome:
    async with raised(directory, seed) as storm:
        loop = asyncio.get_running_loop()
        times = [loop.time()]
        await storm.blow(for_s, orders_per_s)
        times.append(loop.time())
        await storm.settle()
        times.append(loop.time())
        evidence, found = await storm.judge()
        times.append(loop.time())
        blown_s, settled_s, judged_s = (later - earlier for earlier, later in pairwise(times))
        report = storm.report(evidence, blown_s, settled_s, judged_s)
    outcome = Outcome(report, found, storm.crew.faults)
    if not outcome.sound:
        keep(directory, evidence, str(outcome))
    return outcome


@contextmanager
def _quiet_clients() -> Iterator[None]:
    """The storm's own clients need not say tens of thousands of times that the broker which it shot is away."""
    clients = logging.getLogger("aiokafka")
    level = clients.level
    clients.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        clients.setLevel(level)


def _signal(server: Kafka | Postgres, number: signal.Signals) -> None:
    """To it and all that it started."""
    parent = psutil.Process(server.process.pid)
    for process in (parent, *parent.children(recursive=True)):
        try:
            os.kill(process.pid, number)
        except ProcessLookupError:
            continue  # a connection's process, which has just ended
