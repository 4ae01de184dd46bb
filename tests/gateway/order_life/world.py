"""Gateway, fulfiller, projector and sandbox in one process on a real broker and database, and a clock to move on.

The fulfiller lives an hour's wait in no time; what it says to the provider, and what people say over HTTP, is real.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final, cast

import aiohttp
import asyncpg
from aiohttp import web

from services.at_ishare_contract import PURCHASE_PATH, REFERENCE_MEMORY_S
from services.fulfiller.__main__ import shared
from services.fulfiller.clock import SystemClock
from services.fulfiller.kafka_log import KafkaLog
from services.fulfiller.lane import Lane
from services.fulfiller.providers.at_ishare import AtIShare
from services.fulfiller.providers.port import Profile, Provider
from services.fulfiller.takeover import take_over
from services.fulfiller.worker import Worker
from services.gateway import keys
from services.gateway.access import Role
from services.gateway.server import serving
from services.health import Readiness
from services.projector.projector import Projector
from services.sandbox.faults import PhoneFault, Plan
from services.sandbox.ledger import Ledger
from services.sandbox.provider import SandboxProvider
from services.settings import SANDBOX_KEY, SANDBOX_SECRET, Settings
from services.setup.patience import Patience
from services.setup.setup import set_up_kafka
from tests.conftest import quick_settings
from tests.gateway.conftest import Answer, Client
from tests.waiting import until

LEAP: Final = timedelta(hours=26)
"""Longer than any delay, and than a day."""
LATER, TAKEOVER, RESTART = "later", "another takes over", "a restart with other settings"
_AT_ONCE_S: Final = 0.1
CALL_S: Final = 60.0


class Clock(SystemClock):
    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def now(self) -> datetime:
        return super().now() + self.ahead

    def monotonic_s(self) -> float:
        return super().monotonic_s() + self.ahead.total_seconds()


class Desk:
    """The sandbox's provider, behind two doors: one can be shut, and to some questions neither answers."""

    def __init__(self) -> None:
        self.provider = SandboxProvider(SANDBOX_KEY, SANDBOX_SECRET, Ledger(10**12), Plan(latency_s=0))
        self.silent: set[str] = set()
        self._phones: dict[str, PhoneFault] = {}
        self._doors: list[tuple[web.Server, asyncio.Server]] = []

    async def open(self) -> str:
        """Where."""
        server = web.Server(self._dispatch, access_log=None)
        listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
        self._doors.append((server, listener))
        return f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1"

    async def shut(self) -> None:
        """The last that was opened."""
        server, listener = self._doors.pop()
        listener.close()
        await server.shutdown(0)

    async def close(self) -> None:
        while self._doors:
            await self.shut()
        self.provider.close()

    async def _dispatch(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "GET" and request.rel_url.path.removeprefix(f"/v1{PURCHASE_PATH}/") in self.silent:
            return web.Response(status=503)
        return await self.provider.handle(request)

    def meets(self, phone: str, fault: str | None, times: int = 0) -> None:
        """From now on."""
        self._phones.pop(phone, None)
        if fault is not None:
            self._phones[phone] = PhoneFault(fault=fault, times=times)
        self.provider.plan = self.provider.plan.model_copy(update={"phones": dict(self._phones)})


class Barrier:
    """The clock moves on, and services come and go, when every story has got where it can get without."""

    def __init__(self) -> None:
        self._active = 0
        self._waiting: Counter[str] = Counter()
        self._changed = asyncio.Condition()
        self._rounds: Counter[str] = Counter()

    async def wait(self, what: str) -> None:
        async with self._changed:
            number = self._rounds[what]
            self._waiting[what] += 1
            self._changed.notify_all()
            await self._changed.wait_for(lambda: self._rounds[what] > number)

    @asynccontextmanager
    async def story(self) -> AsyncIterator[None]:
        self._active += 1
        try:
            yield
        finally:
            async with self._changed:
                self._active -= 1
                self._changed.notify_all()

    async def all_wait(self) -> str:
        """What is to be done next, once nobody gets on without; empty when every story is told."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._waiting.total() >= self._active)
            return next((what for what in (LATER, TAKEOVER, RESTART) if self._waiting[what]), "")

    async def done(self, what: str) -> None:
        async with self._changed:
            self._waiting[what] = 0
            self._rounds[what] += 1
            self._changed.notify_all()


class World:
    def __init__(self, settings: Settings, desk: Desk, stack: AsyncExitStack) -> None:
        self.settings = settings
        self.desk = desk
        self.barrier = Barrier()
        self.client: Client
        self.database: asyncpg.Pool[Any]
        self.operators: list[Mapping[str, str]] = []
        self._stack = stack
        self._clock = Clock()
        self._doors: list[str] = []
        self._worker: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()

    async def begin(self) -> None:
        stack = self._stack
        self._doors = [await self.desk.open(), await self.desk.open()]
        _, port, _ = await stack.enter_async_context(serving(self.settings))
        session = await stack.enter_async_context(aiohttp.ClientSession(f"http://127.0.0.1:{port}"))
        self.client = Client(session, port)
        # What stands for something forgotten is done to tables that refer to each other.
        session_settings = {"session_replication_role": "replica"}
        self.database = await stack.enter_async_context(
            asyncpg.create_pool(
                self.settings.database_url.get_secret_value(), min_size=1, max_size=4, server_settings=session_settings
            )
        )
        async with self.database.acquire() as connection:
            for _ in range(2):
                token = await keys.create(cast("asyncpg.Connection[Any]", connection), Role.OPERATOR, None)
                self.operators.append({"Authorization": f"Bearer {token}"})
        stop = asyncio.Event()
        projecting = asyncio.create_task(Projector(self.settings, Readiness("kafka", "postgres")).run(stop))

        async def stop_projecting() -> None:
            stop.set()
            await projecting

        stack.push_async_callback(stop_projecting)
        stack.push_async_callback(self.stop)

    async def start(self, networks: Mapping[str, str], changes: Mapping[str, Mapping[str, Any]]) -> None:
        """A fulfiller that sends each network's orders to the provider of that name; `changes` are their profiles'."""
        providers: list[Provider] = []
        session = aiohttp.ClientSession()
        for name, changed in changes.items():
            profile = Profile(
                name=name,
                networks=frozenset(network for network, provider in networks.items() if provider == name),
                idempotent_references=True,
                reference_memory_s=REFERENCE_MEMORY_S,
                status_query=True,
                not_found_final_s=_AT_ONCE_S,
                call_timeout_s=CALL_S,
            )
            url = self._doors[-1] if name == "shut" else self._doors[0]
            providers.append(AtIShare(session, url, SANDBOX_KEY, SANDBOX_SECRET, replace(profile, **changed)))
        log = KafkaLog(self.settings)
        made = shared(self.settings, providers)
        lanes = {
            provider.profile.name: Lane(provider, self._clock, max_in_flight=256, probe_interval_s=0.5)
            for provider in providers
        }
        ready = asyncio.Event()
        self._stop = asyncio.Event()
        worker = Worker(
            log,
            replace(made, clock=self._clock, lanes=lanes),
            Readiness("kafka", "group"),
            await log.cluster_id(),
            ready.set,
        )

        async def work(stop: asyncio.Event) -> None:
            try:
                await worker.run(stop)
            finally:
                await session.close()
                await log.close(1.0)

        self._worker = asyncio.create_task(work(self._stop))
        await ready.wait()

    async def stop(self) -> None:
        """The fulfiller; calls that are held end unanswered."""
        if self._worker is not None:
            self._stop.set()
            self.desk.provider.gates.release(None)
            await self._worker
            self._worker = None

    async def request(self, method: str, path: str, headers: Mapping[str, str], **said: Any) -> Answer:
        """Of a client that repeats what was not taken: all that is here shares one processor, and keeps it waiting."""

        async def taken() -> Answer | None:
            answer = await self.client.request(method, path, headers=dict(headers), **said)
            return None if answer.status == 503 else answer

        answer: Answer = await until(taken, f"{method} {path} to be taken")
        return answer

    def later(self) -> None:
        self._clock.ahead += LEAP

    async def take_over(self) -> None:
        """Somebody else becomes the owner, and dies; the fulfiller finds that out, and is the owner anew."""
        log = KafkaLog(self.settings)
        taken = await take_over(
            0, log, self._clock, partitions=1, cluster_id=await log.cluster_id(), loading=asyncio.Lock()
        )
        await taken.writer.close()
        await taken.reader.close()
        await log.close(1.0)

    async def shut_door(self) -> None:
        """That of the provider whose orders never leave."""
        if len(self._doors) > 1:
            self._doors.pop()
            await self.desk.shut()


@asynccontextmanager
async def world(kafka: str, database_url: str, prefix: str) -> AsyncIterator[World]:
    settings = quick_settings(kafka, database_url, prefix).model_copy(
        update={"partitions": 1, "retry_delays": (3600.0,), "verify_delays": (3600.0, 3600.0), "max_attempts": 3}
    )
    async with AsyncExitStack() as stack:
        await set_up_kafka(settings, Patience())
        desk = Desk()
        stack.push_async_callback(desk.close)
        made = World(settings, desk, stack)
        await made.begin()
        yield made
