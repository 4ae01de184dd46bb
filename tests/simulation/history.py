"""One history: everything that runs, what is done to it, and the evidence at its end."""

import asyncio
import hashlib
import math
import re
import uuid
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from types import SimpleNamespace
from typing import Any, Final

import orjson
from aiohttp import web
from multidict import CIMultiDict

from schemas import commands
from schemas.admission import Admission
from schemas.bundle import canonical_network, canonical_phone, canonical_size_mb
from schemas.cloudevents import json_value
from schemas.fulfillment import FulfillmentAttempted, read_event
from schemas.topics import (
    FULFILLMENT_COMMANDS,
    FULFILLMENT_DEAD_LETTER,
    FULFILLMENT_EVENTS,
    FULFILLMENT_PROVIDERS,
    FULFILLMENT_STATE,
    ORDERS_EVENTS,
    retry_topic,
)
from services.fulfiller import retry as retry_module
from services.fulfiller import shard as shard_module
from services.fulfiller import worker as worker_module
from services.fulfiller.lane import Lane
from services.fulfiller.log import Source
from services.fulfiller.positions import GENESIS_KEY, Genesis
from services.fulfiller.retry import Rules
from services.fulfiller.shard import Shard, Shared
from services.fulfiller.worker import Worker
from services.gateway import purchase as purchase_module
from services.gateway.access import Caller, Role
from services.gateway.claims import Claims
from services.gateway.problem import Problem
from services.gateway.purchase import Purchases
from services.health import Readiness
from services.partition import home_partition
from services.projector.batch import TOPICS as PROJECTED
from services.settings import Settings
from tests.checker import findings
from tests.evidence import TOPICS, Accepted, Answer, Clients, Evidence, Poison
from tests.simulation.broker import Broker, Fate
from tests.simulation.database import Database, GatewayDatabase
from tests.simulation.faults import AT_COMMITS, ON_SERVICES, Fault, drawn
from tests.simulation.group import Group
from tests.simulation.log import SimGatewayWriter, SimLog
from tests.simulation.loop import BEGIN_S, Process, SimLoop
from tests.simulation.network import Lost, Network
from tests.simulation.projecting import Projecting
from tests.simulation.provider import NAME, PROFILE, SECRETS, Adapter, Provider, on_simulated_time
from tests.simulation.workload import Buying, Commanding, Producing, Workload, drawn_workload
from tests.virtual_time import BEGIN

RETRY_S: Final = (300.0, 900.0, 3600.0)
VERIFY_S: Final = (15.0, 300.0, 900.0, 3600.0)
MAX_ATTEMPTS: Final = 3
LONGEST_S: Final = 4 * 86400.0
LOOK_S: Final = 300.0
SETTLE_S: Final = 45.0
SWEEP_S: Final = 3600.0
IDLE_FACTOR: Final = 3600
BALANCE_S: Final = 3600.0
FORGETFUL_S: Final = 0.1
"""From markers that it forgets to a broker's end."""
UNANSWERED_LIMIT: Final = timedelta(minutes=20)
"""In place of a day of the same question every 15 seconds."""
ANSWER_S: Final = 12.0
CALLER: Final = Caller("simulated", "client", frozenset({Role.PURCHASER}))
ORDER_ID: Final = re.compile(r"order ([0-9a-f-]{36}) ")
AT_REST: Final = frozenset({"delivered", "failed", "cancelled", "review", "held", "rejected"})
_SETTINGS: Final = Settings()
_RULES: Final = Rules(RETRY_S, MAX_ATTEMPTS, VERIFY_S, {NAME: PROFILE})
_DELAY_TOPICS: Final = frozenset(retry_topic(delay_s) for delay_s in {*RETRY_S, *VERIFY_S})
_TOPICS: Final = (
    *(ORDERS_EVENTS, FULFILLMENT_COMMANDS, FULFILLMENT_EVENTS, FULFILLMENT_STATE, FULFILLMENT_DEAD_LETTER),
    FULFILLMENT_PROVIDERS,
    *_DELAY_TOPICS,
)


@dataclass
class Outcome:
    """What came of one history."""

    seed: int
    breaches: list[str]
    trace: str
    """A hash of every record that was written, and when, and of how many steps it took."""
    virtual_s: float
    steps: int
    faults: Sequence[Fault]
    met: Counter[str]
    """Faults that came to act."""
    evidence: Evidence = field(repr=False)
    happened: list[tuple[float, str]] = field(repr=False)


class _Service:
    """One place where a process runs, is killed and comes back."""

    def __init__(self, history: "History", name: str, main: Callable[[Process, asyncio.Event], Any]) -> None:
        self._history = history
        self.name = name
        self._main = main
        self.process = Process(history.loop, name)
        self.stop = asyncio.Event()
        self.traps: list[tuple[int, Callable[[], None]]] = []
        self.commit_traps: dict[int, list[Callable[[], None]]] = {}
        self.ahead_s = 0.0

    def start(self) -> None:
        steps, commits = self.process.steps, self.process.commits
        self.process = process = Process(self._history.loop, self.name)
        process.steps = steps
        process.ahead_s = self.ahead_s
        process.traps = self.traps
        process.commits, process.commit_traps = commits, self.commit_traps
        if self._history.broker_away:
            process.cut("broker")
        self.stop = asyncio.Event()
        self._history.processes.append(process)
        process.start(self._main(process, self.stop))

    @property
    def up(self) -> bool:
        process = self.process
        return not (process.dead or process.frozen or process.cut_from)


class History:
    def __init__(self, seed: int, orders: int, faults: Sequence[Fault] | None = None) -> None:
        self.seed = seed
        self.workload: Workload = drawn_workload(seed, orders)
        self.loop = SimLoop(seed)
        self.random = Random(f"history {seed}")  # noqa: S311 - it is to be repeated
        self.processes: list[Process] = []
        self.clients = Clients()
        self.met: Counter[str] = Counter()
        self.happened: list[tuple[float, str]] = []
        self.order_ids: list[str] = []
        self.broker_away = 0
        self.pending = 0
        """Faults, and clients, that have not ended."""
        self.services: dict[str, _Service] = {}
        names = [
            *(f"fulfiller-{n}" for n in range(self.workload.fulfillers)),
            *(f"gateway-{n}" for n in range(self.workload.gateways)),
            *(f"projector-{n}" for n in range(self.workload.projectors)),
        ]
        self.faults = drawn(seed, names) if faults is None else list(faults)
        self._names = names

    # --- the run ------------------------------------------------------------------------------------------------------

    def run(self) -> Outcome:
        with _patient(self.loop), on_simulated_time(self.loop):
            self.loop.run_until_complete(self._run())
        self.loop.close()
        evidence = self._evidence()
        found = [finding for finding in findings(evidence) if not self._is_believed_lie(finding.what, evidence)]
        breaches = [str(finding) for finding in found]
        breaches += [f"I9 {what}" for what in self._calls_without_intents()]
        breaches += [f"I9 {what}" for what in self._too_many_at_once()]
        breaches += [f"I2 something failed that nobody took care of: {what}" for what in self.loop.failures]
        trace = hashlib.blake2b(self.broker.trace() + str(self.loop.steps).encode(), digest_size=8)
        return Outcome(
            self.seed,
            breaches,
            trace.hexdigest(),
            self.loop.now_s,
            self.loop.steps,
            self.faults,
            self.met,
            evidence,
            self.happened,
        )

    async def _run(self) -> None:
        loop, workload = self.loop, self.workload
        self.network = Network(loop)
        self.broker = Broker(loop, workload.partitions, _TOPICS)
        self.database = Database(loop)
        self.group = Group(loop, workload.partitions)
        self.projectors_group = Group(loop, workload.partitions)
        self.provider = Provider(loop, workload.plan, workload.found_after_s)
        genesis = Genesis(cluster_id=Broker.cluster_id, partitions=workload.partitions, at="now")
        for partition in range(workload.partitions):
            value = genesis.model_dump_json().encode()
            self.broker.append(Source(FULFILLMENT_STATE, partition), GENESIS_KEY, value, ())
        mains = {"fulfiller": self._fulfiller, "gateway": self._gateway, "projector": self._projector}
        for name in self._names:
            self.services[name] = _Service(self, name, mains[name.partition("-")[0]])
        self._set_faults()
        for service in self.services.values():
            service.start()
        for step in workload.steps:
            self.pending += 1
            loop.world.start(self._act(step))
        await self._until_at_rest()

    async def _until_at_rest(self) -> None:
        while self.loop.now_s < LONGEST_S:
            await self.loop.pause(LOOK_S)
            if not self.pending and self._at_rest():
                await asyncio.sleep(SETTLE_S)
                if not self.pending and self._at_rest():
                    return

    def _at_rest(self) -> bool:
        tables = self.database.tables
        if not all(service.up for service in self.services.values()):
            return False
        if any(row.state not in AT_REST for row in tables.rows.values()):
            return False
        return all(
            tables.positions.get((topic, number), 0) >= self._last(topic, number)
            for topic in PROJECTED
            for number in range(self.broker.partitions)
        )

    def _last(self, topic: str, number: int) -> int:
        """The offset behind the last visible record."""
        source = Source(topic, number)
        at = self.database.tables.positions.get((topic, number), 0)
        return max((record.offset + 1 for record in self.broker.visible(source, at)), default=0)

    # --- services -----------------------------------------------------------------------------------------------------

    async def _fulfiller(self, process: Process, stop: asyncio.Event) -> None:
        log = SimLog(process, self.broker, self.network, self.group)
        adapter = Adapter(process, self.network, self.provider)
        lane = Lane(
            adapter,
            process,
            max_in_flight=self.workload.max_in_flight,
            partitions=self.workload.partitions,
            provider_max_in_flight=self.workload.provider_max_in_flight,
            rate_per_s=self.workload.rate_per_s,
        )
        admission = Admission(timedelta(seconds=self.workload.dedupe_s), 100_000)
        lanes = {NAME: lane}
        shared = Shared(self.workload.partitions, process, _RULES, admission, lanes, _DELAY_TOPICS, BALANCE_S)
        worker = Worker(log, shared, Readiness("kafka", "group"), Broker.cluster_id)
        await worker.run(stop)

    async def _projector(self, process: Process, _stop: asyncio.Event) -> None:
        log = SimLog(process, self.broker, self.network, self.projectors_group)
        gathered_s = self.workload.gathered_s
        await Projecting(log, self.projectors_group, self.database, MAX_ATTEMPTS, gathered_s).run()

    async def _gateway(self, process: Process, stop: asyncio.Event) -> None:
        log = SimLog(process, self.broker, self.network, self.group)
        writer: Any = SimGatewayWriter(log)
        database: Any = GatewayDatabase(self.database, process)
        process.purchases = Purchases(_SETTINGS, writer, Claims(database), now=process.now)
        await stop.wait()

    # --- clients ------------------------------------------------------------------------------------------------------

    async def _act(self, step: Buying | Producing | Commanding) -> None:
        await self.loop.pause(step.at_s)
        try:
            match step:
                case Buying():
                    await self._buy(step)
                case Producing():
                    await self._produce(step)
                case Commanding():
                    self._command(step)
        finally:
            self.pending -= 1

    async def _buy(self, buying: Buying) -> None:
        for number in range(5):
            service = self.services[f"gateway-{(buying.gateway + number) % self.workload.gateways}"]
            response = await self._request(service, buying)
            if response is not None:
                order = orjson.loads(response.body) if response.status < 300 else {}
                self.clients.answers.append(Answer(buying.key, buying.body, response.status, order.get("order", {})))
                if response.status < 300:
                    order_id = order["order"]["id"]
                    self.clients.accepted.append(Accepted(order_id, _bundle(buying.body)))
                    self.order_ids.append(order_id)
                    if not buying.again or number == 4:
                        return
            if buying.key is None:
                return
            await asyncio.sleep(self.random.choice((0.5, 5.0, 31.0)))

    async def _request(self, service: _Service, buying: Buying) -> web.Response | None:
        process = service.process
        answer: asyncio.Future[Any] = self.loop.create_future()
        purchases = getattr(process, "purchases", None)
        if process.dead or purchases is None:
            await asyncio.sleep(0.1)
            return None

        async def handle() -> None:
            try:
                response = await purchases.purchase(_Request(buying.body, buying.key), CALLER)
            except Problem as problem:
                response = problem.response()
            self.loop.in_world(0.001, _give, answer, response)

        process.start(handle())
        try:
            async with asyncio.timeout(ANSWER_S):
                response: web.Response = await answer
        except TimeoutError:
            return None
        return response

    async def _produce(self, step: Producing) -> None:
        if isinstance(step.value, bytes):
            self.broker.append(Source(ORDERS_EVENTS, step.partition or 0), b"k", step.value, ())
            self.clients.poison.append(Poison(b"k", step.value))
            return
        created_at = BEGIN + timedelta(seconds=step.created_s)
        value = orjson.dumps({**step.value, "created_at": created_at.isoformat()})
        home = home_partition(step.order_id, self.broker.partitions)
        to = home if step.partition is None else step.partition
        self.broker.append(Source(ORDERS_EVENTS, to), step.order_id.encode(), value, ())
        if step.first:
            self.order_ids.append(step.order_id)
            bundle = {"phoneNumber": step.value["phone_number"], **step.value}
            self.clients.accepted.append(Accepted(step.order_id, _bundle(bundle)))

    def _command(self, step: Commanding) -> None:
        if not self.order_ids:
            return
        order_id = self.order_ids[step.order % len(self.order_ids)]
        said: dict[str, Any] = {
            "command_id": step.command_id,
            "order_id": order_id,
            "actor": "ama",
            "reason": "asked by the customer",
            "at": self.loop.world.now(),
        }
        kind = getattr(commands, f"{step.kind}Fulfillment")
        if kind is commands.ResolveFulfillment:
            known = [record for ref, record in self.provider.ledger.records.items() if ref.startswith(order_id)]
            if any(record.in_flight or record.status == "processing" for record in known):
                return  # people are not wrong here: they wait until it is known
            said["delivered"] = any(record.deliveries for record in known)
        home = home_partition(order_id, self.broker.partitions)
        value = json_value(kind.model_validate(said))
        self.broker.append(Source(FULFILLMENT_COMMANDS, home), order_id.encode(), value, ())

    # --- faults -------------------------------------------------------------------------------------------------------

    def _set_faults(self) -> None:
        for fault in self.faults:
            if fault.kind in AT_COMMITS:
                service = self.services[fault.target]
                traps = service.commit_traps.setdefault(int(fault.at), [])
                traps.append(lambda fault=fault, service=service: self._strike(fault, service))
            elif fault.kind in ON_SERVICES:
                service = self.services[fault.target]
                service.traps.append((int(fault.at), lambda fault=fault, service=service: self._strike(fault, service)))
            else:
                self.pending += 1
                self.loop.in_world(fault.at, self._befall, fault)
        for service in self.services.values():
            service.traps.sort(key=lambda trap: -trap[0])

    def _note(self, fault: Fault) -> None:
        self.met[fault.kind] += 1
        self.happened.append((self.loop.now_s, str(fault)))

    def _strike(self, fault: Fault, service: _Service) -> None:
        """Between two steps of its process."""
        process = service.process
        if process.dead or process.frozen:
            return
        self._note(fault)
        match fault.kind.removesuffix(" at commit"):
            case "crash":
                process.kill()
                self._later(fault.size, service.start)
            case "freeze":
                process.freeze()
                self._later(fault.size, process.thaw)
            case "stop":
                service.stop.set()
                # Ten seconds are what it has; then it is killed.
                self._later(11.0, lambda: (process.kill(), service.start()))
            case "clock":
                service.ahead_s = process.ahead_s = process.ahead_s + fault.size
            case _:
                server = fault.kind.removeprefix("cut from ")
                if server not in process.cut_from:
                    process.cut(server)
                    self._later(fault.size, lambda: process.mend(server))

    def _later(self, after_s: float, act: Callable[[], Any]) -> None:
        self.pending += 1

        def over() -> None:
            self.pending -= 1
            act()

        self.loop.in_world(after_s, over)

    def _befall(self, fault: Fault) -> None:
        self.pending -= 1
        if fault.kind == "forget":
            self.broker.forgetting.append(lambda: self._forgotten(fault))
            return
        self._note(fault)
        match fault.kind:
            case "compact":
                self.broker.compact(FULFILLMENT_STATE)
            case "produce":
                self.broker.produce_fates.append(Fate[fault.target])
            case "end":
                self.broker.end_fates.append(Fate[fault.target])
            case "append":
                self.broker.append_fates.append(Fate[fault.target])
            case "drop":
                self.database.drops += 1
            case "provider refuses":
                plan = self.provider.sandbox.plan
                self.provider.sandbox.plan = plan.model_copy(update={"credentials_refused": True})
                self._later(fault.size, self._provider_back)
            case "broker away" | "database away":
                self._away(fault.kind.removesuffix(" away"), fault.size)

    def _forgotten(self, fault: Fault) -> None:
        self._note(fault)
        self._later(self.random.random() * FORGETFUL_S, lambda: self._away("broker", fault.size))

    def _provider_back(self) -> None:
        plan = self.provider.sandbox.plan
        self.provider.sandbox.plan = plan.model_copy(update={"credentials_refused": False})

    def _away(self, server: str, for_s: float) -> None:
        cut = [s.process for s in self.services.values() if server not in s.process.cut_from]
        for process in cut:
            process.cut(server)

        def back() -> None:
            for process in cut:
                process.mend(server)

        self._later(for_s, back)

    # --- what is left -------------------------------------------------------------------------------------------------

    def _evidence(self) -> Evidence:
        tables = self.database.tables
        known = self.provider.known()
        # By a moved clock the checker would take a call for older than its intent; `_calls_without_intents` does not.
        if self.met["clock"]:
            for reference in known.values():
                object.__setattr__(reference, "sent_at", ())
        return Evidence(
            partitions=self.workload.partitions,
            max_attempts=MAX_ATTEMPTS,
            clients=self.clients,
            topics={topic: self.broker.records(topic) for topic in TOPICS},
            rows=tables.rows,
            orders=tables.orders,
            quarantined=tables.quarantine,
            ledger=known,
            logs={},
            secrets=SECRETS,
        )

    def _is_believed_lie(self, what: str, evidence: Evidence) -> bool:
        """Believed on a later attempt (docs/order-life.md): a duplicate of what the provider never received before."""
        named = ORDER_ID.match(what)
        if named is None or not what.endswith("is a success and was not delivered"):
            return False
        row = evidence.rows.get(named[1])
        return row is not None and row.attempt_number > 1 and row.phone_number in self.workload.plan.phones

    def _calls_without_intents(self) -> Iterator[str]:
        """Each call has one committed intent of its own, told by its deadline, which no clock moves."""
        intents: Counter[tuple[str, int]] = Counter()
        for record in self.broker.records(FULFILLMENT_EVENTS):
            if b'"FulfillmentAttempted"' in (record.value or b""):
                event = read_event(record.value or b"")
                if isinstance(event, FulfillmentAttempted):
                    intents[event.reference, round(event.deadline.timestamp() * 1e6)] += 1
        for sent in self.provider.sent:
            intent = (sent.reference, round(sent.deadline.wall_s * 1e6))
            intents[intent] -= 1
            if intents[intent] < 0:
                yield f"{sent.reference} was sent at {sent.at_s:.3f} s without an intent of its own"
            for arrived_s in sent.arrived:
                if arrived_s > sent.deadline.monotonic_s + 1:
                    yield f"{sent.reference} arrived {arrived_s - sent.deadline.monotonic_s:.1f} s after its deadline"

    def _too_many_at_once(self) -> Iterator[str]:
        """However many workers there are, die and come back, all together keep the provider's limit.

        A call that hangs though something was found out about it counts until the next takeover (docs/design.md).
        """
        limit = self.workload.provider_max_in_flight
        forgotten_s: dict[str, float] = {}
        for record in self.broker.records(FULFILLMENT_EVENTS):
            event = read_event(record.value or b"")
            reference = getattr(event, "reference", None)
            if reference is not None and not isinstance(event, FulfillmentAttempted):
                known_s = record.timestamp / 1000 - BEGIN_S
                taken_s = self.broker.taken_s[f"fulfiller-{record.partition}"]
                forgotten_s.setdefault(reference, min((at_s for at_s in taken_s if at_s > known_s), default=math.inf))
        changes: list[tuple[float, int]] = []
        for sent in self.provider.sent:
            for arrived_s in sent.arrived:
                ended_s = min([*sent.ended, sent.until_s, forgotten_s.get(sent.reference, math.inf)])
                if ended_s > arrived_s:
                    changes += [(arrived_s, 1), (ended_s, -1)]
        under_way = 0
        for at_s, change in sorted(changes):
            under_way += change
            if limit is not None and under_way > limit:
                yield f"{under_way} calls were under way at {at_s:.3f} s, where the provider takes {limit}"
                return


class _Request:
    """As much of aiohttp's as the handler looks at."""

    content_type = "application/json"
    charset = None

    def __init__(self, body: Any, key: str | None) -> None:
        self._body = orjson.dumps(body)
        self.content_length = len(self._body)
        self.headers: CIMultiDict[str] = CIMultiDict({} if key is None else {"Idempotency-Key": f'"{key}"'})

    async def read(self) -> bytes:
        return self._body


def _bundle(body: Any) -> tuple[str, int, str]:
    return (
        canonical_phone(body["phoneNumber"]),
        canonical_size_mb(body["size"]),
        canonical_network(body["network"]),
    )


def _give(answer: asyncio.Future[Any], response: Any) -> None:
    if not answer.done():
        answer.set_result(response)


@contextmanager
def _patient(loop: SimLoop) -> Iterator[None]:
    """On virtual time, whoever looks again every moment to no purpose is what a history would take time for: polls and
    sweeps last long, and are let go of where production's would end by themselves.
    """
    random = Random(f"ids {loop.random.random()}")  # noqa: S311 - it is to be repeated
    stop, pause = Shard.stop, worker_module._pause  # noqa: SLF001 - what is to be patient

    def stopped(shard: Shard) -> None:
        stop(shard)
        reader: Any = shard._reader  # noqa: SLF001 - whose poll would end within POLL_S
        loop.call_later(loop.random.random() * shard_module.POLL_S, reader.nudge)

    def paused(
        stopping: asyncio.Event, seconds: float, other: asyncio.Event | None = None
    ) -> Coroutine[Any, Any, None]:
        return pause(stopping, seconds * IDLE_FACTOR, other)

    ids = SimpleNamespace(uuid4=lambda: uuid.UUID(int=random.getrandbits(128), version=4))
    with ExitStack() as undo:
        for owner, name, instead in (
            (Shard, "stop", stopped),
            (worker_module, "_pause", paused),
            (shard_module, "SWEEP_S", SWEEP_S),
            (retry_module, "UNANSWERED_LIMIT", UNANSWERED_LIMIT),
            (purchase_module, "uuid", ids),
        ):
            undo.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, instead)
        yield


def simulate(seed: int, orders: int = 20, faults: Sequence[Fault] | None = None) -> Outcome:
    """What lies about of killed processes must not be collected in the middle of it: the caller sees to that."""
    return History(seed, orders, faults).run()


__all__ = ["History", "Lost", "Outcome", "simulate"]
