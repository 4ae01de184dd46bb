"""The gateway put together: its parts, its background work, its listening socket."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, ParamSpec

import orjson
import structlog
from aiohttp import web

from services.gateway import database as postgres
from services.gateway.access import Access
from services.gateway.account import Account
from services.gateway.address import Addresses
from services.gateway.administration import Administration
from services.gateway.alerts import Alerts
from services.gateway.app import application
from services.gateway.audit import Audit
from services.gateway.bulk import Bulk
from services.gateway.changes import Changes
from services.gateway.claims import Claims
from services.gateway.dashboard import Dashboard
from services.gateway.database import Database, DatabaseAwayError
from services.gateway.dead_letters import DeadLetters
from services.gateway.documentation import documented
from services.gateway.fulfillment import Fulfillments
from services.gateway.http import KEEP_ALIVE_S, LINGER_S, Runner
from services.gateway.keys import KeyCache
from services.gateway.login import Logins
from services.gateway.passwords import Passwords
from services.gateway.problem import HEADERS, HTTPS_ALONE
from services.gateway.providers import Providers
from services.gateway.purchase import Purchases
from services.gateway.reads import Reads
from services.gateway.routes import Route, table
from services.gateway.sessions import Sessions
from services.gateway.vitals import Vitals
from services.gateway.writer import DEPENDENCY as KAFKA
from services.gateway.writer import Writer
from services.health import Readiness
from services.run import Refusal, announce_ready
from services.settings import Environment, Settings

Said = ParamSpec("Said")

_FINISH_REQUESTS_S: Final = 8.0
log = structlog.get_logger()

_FIRST_TRY_S: Final = 1.0
_FORGET_EVERY_S: Final = 3600.0
_NOTE_USE_EVERY_S: Final = 5.0


class Gateway:
    """One gateway: its parts, and what goes on beside the requests."""

    def __init__(self, settings: Settings) -> None:
        self._audit_retention_s = settings.audit_retention
        self.kafka = Readiness(KAFKA)
        self.postgres = Readiness(postgres.DEPENDENCY)
        self.writer = Writer(settings, self.kafka)
        self.database = Database(settings, self.postgres)
        self.changes = Changes()
        self.keys = KeyCache(self.database)
        self.sessions = Sessions(settings, self.database)
        self.claims = Claims(self.database)
        self.reads = Reads(settings, self.database)
        self.database.on_change = _each(self.changes.notify, self.reads.feed.notify)
        self.database.on_access_change = _each(
            self.keys.forget, self.reads.feed.send_away, self.reads.exports.under_way.end
        )
        addresses = Addresses(settings.trusted_proxies)
        self.audit = audit = Audit(self.database)
        self.alerts = Alerts(settings, lambda: self.reads.feed.say("alerts"))
        self.vitals = Vitals(settings)
        self.letters = DeadLetters(settings, self.reads.reading, self.database, self.writer, addresses)
        self.providers = Providers(
            self.reads.reading, self.database, writer=self.writer, audit=audit, addresses=addresses
        )
        self.database.on_provider_change = _each(
            self.providers.acts.changes.notify, lambda _name: self.reads.feed.say("providers")
        )
        self.bulk = Bulk(settings, self.database, self.writer, addresses)
        passwords = Passwords()
        fulfillments = Fulfillments(self.database, self.writer, self.changes, audit, addresses)
        logins = Logins(
            settings,
            database=self.database,
            sessions=self.sessions,
            passwords=passwords,
            audit=audit,
            addresses=addresses,
        )
        administration = Administration(self.database, passwords, addresses)
        purchases = Purchases(settings, self.writer, self.claims)
        routes = table(
            purchases,
            fulfillments,
            self.reads,
            logins,
            administration,
            bulk=self.bulk,
            letters=self.letters,
            providers=self.providers,
            alerts=self.alerts,
            vitals=self.vitals,
            account=Account(self.database, passwords, audit, addresses),
            readiness=self.readiness,
        )
        self.dashboard = Dashboard(
            settings,
            purchases=purchases,
            reads=self.reads,
            fulfillments=fulfillments,
            logins=logins,
            administration=administration,
            letters=self.letters,
            alerts=self.alerts,
            vitals=self.vitals,
            bulk=self.bulk,
            providers=self.providers,
        )
        self.routes: tuple[Route, ...] = documented((*routes, *self.dashboard.routes()))
        self.access = Access(settings, self.keys, self.sessions, addresses)
        self.database.on_return = _each(
            self.changes.notify_all,
            self.providers.acts.changes.notify_all,
            self.reads.feed.look_again,
            self.reads.feed.send_away,
            self.keys.doubt,
        )

    def readiness(self) -> web.Response:
        """Ready while purchases can be taken, which needs Kafka alone; `degraded` while PostgreSQL is away.

        `monitoring`: whether an alert would be raised at all.
        """
        silent = self.alerts.following.silent()
        content = {
            "ready": bool(self.kafka),
            "degraded": not self.postgres,
            "dependencies": dict(self.kafka) | dict(self.postgres),
            "monitoring": "; ".join(f"{alert.name}: {alert.advice}" for alert in silent) or "ok",
        }
        return web.Response(
            status=200 if self.kafka else 503, body=orjson.dumps(content), content_type="application/json"
        )

    async def run(self) -> None:
        """For ever. services.run.Refusal where the set-up is wrong."""
        try:
            async with asyncio.TaskGroup() as group:
                for work in (
                    self.writer.run(),
                    self.database.run(),
                    self.reads.feed.run(),
                    self.bulk.runner.run(),
                    self.alerts.following.run(),
                    self.vitals.following.run(),
                    self._forget(),
                    self._note_use(),
                ):
                    group.create_task(work)
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None

    async def _forget(self) -> None:
        while True:
            await asyncio.sleep(_FORGET_EVERY_S)
            await self.claims.forget()
            try:
                await self.sessions.forget()
                await self.bulk.jobs.forget()
                await self.audit.forget(self._audit_retention_s)
            except DatabaseAwayError as error:
                log.info("not_forgotten", error=str(error))  # an hour later it is

    async def _note_use(self) -> None:
        while True:
            await asyncio.sleep(_NOTE_USE_EVERY_S)
            try:
                await self.keys.note_use()
            except DatabaseAwayError as error:
                log.debug("key_use_not_noted", error=str(error))  # the next time it is


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[tuple[Gateway, int, asyncio.Task[None]]]:
    """A gateway that answers, its port, and its background work, which ends only by failing.

    On leaving, requests under way are finished within 8 s; what the work failed with is raised.
    """
    production = settings.environment is Environment.PRODUCTION
    if production and not settings.allowed_hosts:
        raise Refusal("setting ALLOWED_HOSTS: production needs the names by which the gateway is called")
    headers = HEADERS | HTTPS_ALONE if production else HEADERS
    gateway = Gateway(settings)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(gateway.database.close)
        stack.push_async_callback(gateway.reads.close)
        stack.push_async_callback(gateway.bulk.close)
        stack.push_async_callback(gateway.writer.close)
        work = asyncio.create_task(gateway.run())
        stack.push_async_callback(_ended, work)
        await _first_tries(gateway, work)
        runner = Runner(
            application(gateway.routes, gateway.access, headers, [gateway.dashboard.in_words]),
            access_log=None,
            keepalive_timeout=KEEP_ALIVE_S,
            lingering_time=LINGER_S,
            shutdown_timeout=_FINISH_REQUESTS_S,
            # A body is taken as it is: nothing small unfolds into something large.
            auto_decompress=False,
        )
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        stack.callback(gateway.changes.close)
        stack.callback(gateway.providers.acts.changes.close)
        stack.callback(gateway.reads.feed.close)
        await web.TCPSite(runner, settings.host, settings.port).start()
        yield gateway, runner.addresses[0][1], work


def _each(*acts: Callable[Said, None]) -> Callable[Said, None]:
    def all_of_them(*args: Said.args, **kwargs: Said.kwargs) -> None:
        for act in acts:
            act(*args, **kwargs)

    return all_of_them


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Until `stop`. services.run.Refusal where the set-up is wrong."""
    async with serving(settings) as (_, port, work):
        announce_ready("gateway", f"http://{settings.host}:{port}")
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait({stopped, work}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()


async def _first_tries(gateway: Gateway, work: asyncio.Task[None]) -> None:
    """Give what is there a moment to be found, and a wrong set-up to be noticed before anybody is served."""

    async def both() -> None:
        await gateway.database.first_tried.wait()
        await gateway.writer.first_tried.wait()

    tried = asyncio.create_task(both())
    await asyncio.wait({tried, work}, timeout=_FIRST_TRY_S, return_when=asyncio.FIRST_COMPLETED)
    tried.cancel()
    if work.done():
        work.result()


async def _ended(work: asyncio.Task[None]) -> None:
    """What it failed with, if it did so by itself."""
    if work.cancel():
        await asyncio.wait({work})
    else:
        work.result()
