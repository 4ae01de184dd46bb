"""A whole system for one test: its own topics, database and sandbox; services at will; clients that keep a record."""

import asyncio
import itertools
import random
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import aiohttp
import asyncpg
from aiokafka import AIOKafkaProducer

from schemas.cloudevents import binary_headers, json_value
from schemas.commands import Command
from schemas.ids import canonical_uuid
from schemas.orders import OrderCreated
from schemas.topics import FULFILLMENT_COMMANDS, ORDERS_EVENTS
from services import kafka
from services.settings import Settings
from services.setup.patience import Patience
from services.setup.setup import set_up_kafka
from tests.backend import Backend
from tests.case import Finding
from tests.checker import assert_sound, findings
from tests.conftest import copied, new_prefix, quick_settings, remove_topics
from tests.evidence import Accepted, Answer, Clients, Evidence, Headers, Poison, gather
from tests.processes import Processes, Service, environment
from tests.waiting import until

PARTITIONS: Final = 2
PROVEN_S: Final = 60.0
_PASSING: Final = {"I1", "I2", "I5", "I8"}
"""What is not so yet may still come: a dead letter of a command too, for commands wait for orders. Until then the log,
the tables and the ledger were read at different times.
"""
_PURCHASE: Final = "/api/orders/purchase"


class Sandbox:
    """The provider, as a test drives it."""

    def __init__(self, service: Service, url: str, session: aiohttp.ClientSession) -> None:
        self.service = service
        self.url = url
        self._session = session

    async def faults(self, **plan: Any) -> None:
        """Put these in force, beside what is."""
        async with self._session.patch(f"{self.url}/faults", json=plan) as response:
            assert response.status == 200, await response.text()

    async def reached(self, kind: str, at_least: int, reference: str | None = None) -> None:
        """Wait until so many `sends`, `queries`, `deliveries` have been, or calls are `held` now."""
        query = {"kind": kind, "at_least": str(at_least)} | ({"reference": reference} if reference else {})
        async with self._session.get(f"{self.url}/calls", params=query) as response:
            assert response.status == 200, f"{kind} did not reach {at_least}: {await response.text()}"

    async def release(self) -> int:
        """Let every held call go on; how many."""
        async with self._session.post(f"{self.url}/release") as response:
            return int((await response.json())["released"])

    async def ledger(self) -> dict[str, dict[str, Any]]:
        """What is known of each reference."""
        async with self._session.get(f"{self.url}/ledger") as response:
            return dict((await response.json())["references"])

    async def sends(self) -> dict[str, int]:
        return {reference: said["sends"] for reference, said in (await self.ledger()).items()}


class Stand:
    def __init__(
        self,
        settings: Settings,
        processes: Processes,
        sandbox: Sandbox,
        session: aiohttp.ClientSession,
        producer: AIOKafkaProducer,
    ) -> None:
        self.settings = settings
        self.sandbox = sandbox
        self.session = session
        self.clients = Clients()
        self._processes = processes
        self._producer = producer
        self._phones = (f"+23327{number:07}" for number in itertools.count(random.randrange(9_000_000)))  # noqa: S311

    # --- services -----------------------------------------------------------------------------------------------------

    def start(self, *arguments: str, **env: str) -> Service:
        """`python -m` these arguments, with the stand's settings; more of them by name."""
        return self._processes.start(list(arguments), environment(self.settings) | env)

    def fulfiller(self, crashpoints: str = "", **env: str) -> Service:
        return self.start("services.fulfiller", CRASHPOINTS=crashpoints, **env)

    def projector(self, crashpoints: str = "", **env: str) -> Service:
        return self.start("services.projector", CRASHPOINTS=crashpoints, **env)

    def gateway(self, crashpoints: str = "", **env: str) -> Service:
        return self.start("services.gateway", CRASHPOINTS=crashpoints, **env)

    async def readiness(self, url: str) -> tuple[int, dict[str, str]]:
        """What `/readyz` of a service says: the status, and each dependency."""
        async with self.session.get(f"{url}/readyz") as response:
            return response.status, (await response.json())["dependencies"]

    # --- clients ------------------------------------------------------------------------------------------------------

    def new_phone(self) -> str:
        """One that meets no fault by itself."""
        return next(self._phones)

    async def order(self, phone: str | None = None, network: str = "AT-iShare", order_id: str | None = None) -> str:
        """An event producer writes OrderCreated, with a Java-like partitioner; its id, once the broker has it."""
        return (await self.orders([phone or self.new_phone()], network, order_id))[0]

    async def orders(self, phones: Sequence[str], network: str = "AT-iShare", order_id: str | None = None) -> list[str]:
        """As `order`, one for each of the phones."""
        made = [self.created(phone, network, order_id) for phone in phones]
        for order in made:
            headers = binary_headers("OrderCreated", order.order_id, b"/tests", order.created_at)
            await self.write(json_value(order), order.order_id.encode(), headers=tuple(headers))
            self.accepted(order)
        return [order.order_id for order in made]

    def created(
        self, phone: str | None = None, network: str = "AT-iShare", order_id: str | None = None
    ) -> OrderCreated:
        return OrderCreated(
            order_id=order_id or str(uuid.uuid4()),
            phone_number=phone or self.new_phone(),
            network=network,
            size_mb=1000,
            created_at=datetime.now(UTC),
        )

    def accepted(self, order: OrderCreated) -> None:
        """Note that the client was told so."""
        self.clients.accepted.append(Accepted(order.order_id, order.bundle))

    async def write(
        self, value: bytes | None, key: bytes | None = None, *, partition: int | None = None, headers: Headers = ()
    ) -> None:
        """A record of orders.events, acknowledged."""
        topic = self.settings.topic_prefix + ORDERS_EVENTS
        await self._producer.send_and_wait(topic, value, key=key, partition=partition, headers=list(headers))

    async def poison(self, value: bytes | None, key: bytes | None = None, headers: Headers = ()) -> None:
        await self.write(value, key, headers=headers)
        self.clients.poison.append(Poison(key, value, headers))

    async def command(self, command: Command) -> None:
        """A person's, acknowledged."""
        headers = binary_headers(command.type, command.command_id, b"/tests", command.at)
        topic = self.settings.topic_prefix + FULFILLMENT_COMMANDS
        key = command.order_id.encode()
        await self._producer.send_and_wait(topic, json_value(command), key=key, headers=headers)

    async def purchase(self, url: str, key: str | None = None, phone: str | None = None) -> Answer:
        """Buy over HTTP, once; what was answered. aiohttp.ClientError where nothing was."""
        body: dict[str, Any] = {"network": "AT-iShare", "size": "1GB", "phoneNumber": phone or self.new_phone()}
        headers = {} if key is None else {"Idempotency-Key": key}
        async with self.session.post(url + _PURCHASE, json=body, headers=headers) as response:
            said = await response.json()
            answer = Answer(key, body, response.status, said.get("order", {}))
        self.clients.answers.append(answer)
        if answer.status == 202:
            bundle = (said["order"]["phone_number"], said["order"]["size_mb"], said["order"]["network"])
            self.clients.accepted.append(Accepted(canonical_uuid(said["order"]["id"]), bundle))
        return answer

    async def bought(self, url: str, key: str, phone: str | None = None, within_s: float = 60.0) -> Answer:
        """Buy over HTTP as a careful client does: repeat with the same key until it is answered."""
        phone = phone or self.new_phone()

        async def answered() -> Answer | None:
            try:
                answer = await self.purchase(url, key, phone)
            except aiohttp.ClientError:
                return None
            return answer if answer.status == 202 else None

        answer: Answer = await until(answered, f"purchase {key} to be accepted", within_s)
        return answer

    # --- what came of it ----------------------------------------------------------------------------------------------

    async def rows(self, order_ids: Sequence[str]) -> dict[str, Mapping[str, Any]]:
        """Of fulfillment_logs."""
        connection = await asyncpg.connect(self.settings.database_url.get_secret_value())
        try:
            query = "SELECT order_id::text, * FROM fulfillment_logs WHERE order_id = ANY($1::uuid[])"
            return {row[0]: dict(row) for row in await connection.fetch(query, order_ids)}
        finally:
            await connection.close()

    async def reached(self, order_ids: Sequence[str], *states: str, within_s: float = PROVEN_S) -> None:
        """Wait until every one of the orders is in one of the states, by its row."""

        elsewhere: dict[str, str] = {}

        async def there() -> bool:
            rows = await self.rows(order_ids)
            seen = {order_id: rows[order_id]["state"] if order_id in rows else "nowhere" for order_id in order_ids}
            elsewhere.clear()
            elsewhere.update((order_id, state) for order_id, state in seen.items() if state not in states)
            return not elsewhere

        try:
            await until(there, f"{len(order_ids)} orders to be {' or '.join(states)}", within_s)
        except AssertionError as error:
            error.add_note(f"not there: {elsewhere}")
            raise

    async def evidence(self) -> Evidence:
        logs = {service.name: service.log for service in self._processes} | await self._metrics()
        return await gather(self.settings, self.sandbox.url, self.clients, logs)

    async def _metrics(self) -> dict[str, str]:
        """Of every service that says them now."""
        said: dict[str, str] = {}
        for service in self._processes:
            url = service.ready_url
            if url is None or service is self.sandbox.service or service.exit_code is not None or service.is_frozen:
                continue
            try:
                async with self.session.get(f"{url}/metrics") as response:
                    said[f"{service.name}/metrics"] = await response.text()
            except aiohttp.ClientError:
                continue  # it is just ending
        return said

    async def proven(self, within_s: float = PROVEN_S) -> Evidence:
        """Wait until every order has ended and the view is where the log is; then I1 to I10 hold, or AssertionError."""
        loop = asyncio.get_running_loop()
        give_up_s = loop.time() + within_s
        while True:
            evidence = await self.evidence()
            found = findings(evidence)
            if not found:
                return evidence
            if loop.time() > give_up_s or _at_rest(found):
                assert_sound(evidence)


def _at_rest(found: Sequence[Finding]) -> bool:
    return not any(finding.invariant in _PASSING for finding in found)


@asynccontextmanager
async def stand(backend: Backend, template: str, log_dir: Path, **changes: Any) -> AsyncIterator[Stand]:
    """A stand with its topics made and its sandbox ready; logs go to `log_dir`, `changes` are settings."""
    async with AsyncExitStack() as stack:
        database_url = await stack.enter_async_context(copied(backend.postgres_url, template))
        quick = quick_settings(backend.bootstrap_servers, database_url, new_prefix())
        settings = quick.model_copy(update={"partitions": PARTITIONS, "sandbox_port": 0} | changes)
        stack.push_async_callback(remove_topics, settings)
        processes = stack.enter_context(Processes(log_dir))
        provider = processes.start(["services.sandbox"], environment(settings) | {"SANDBOX_LATENCY_S": "0.01"})
        session = await stack.enter_async_context(aiohttp.ClientSession())
        _, url = await asyncio.gather(set_up_kafka(settings, Patience()), provider.ready())
        producer = AIOKafkaProducer(**kafka.connection(settings), acks="all", linger_ms=0)
        await producer.start()
        stack.push_async_callback(producer.stop)
        settings = settings.model_copy(update={"at_ishare_api_url": f"{url}/v1"})
        yield Stand(settings, processes, Sandbox(provider, url, session), session, producer)
