"""Those who buy, write events, repeat themselves, write nonsense and press buttons while the storm blows."""

import asyncio
import uuid
from collections import Counter, deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import aiohttp
import asyncpg
import orjson
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from schemas.cloudevents import binary_headers, json_value
from schemas.commands import OverrideFulfillment, RetryFulfillment, TriggerFulfillment
from schemas.orders import OrderCreated
from schemas.topics import FULFILLMENT_COMMANDS, ORDERS_EVENTS
from services import kafka
from services.postgres import UNREACHABLE
from tests.chaos.plan import rng_of
from tests.evidence import Headers, Logged, Poison
from tests.stand import Stand

ANSWER_S: Final = 4.0
"""No customer waits longer for an answer."""
TICK_S: Final = 0.25
SHOPPERS: Final = 6
REPEATS: Final = 0.2
"""The share of purchases that are asked for once more after they were answered."""
POISON: Final = 0.01
TWICE: Final = 0.02
"""The share of events that their producer writes again at once, somewhere."""
BACKLOG: Final = 6000
"""Orders that are on their way: with more of them customers stay at home for a while."""
RECENT: Final = 5000
CATCH_UP_S: Final = 10.0
"""What producers could not write in so long, they write all at once."""
_AWAY: Final = (aiohttp.ClientError, TimeoutError)
_OPEN: Final = "SELECT count(*) FROM fulfillment_logs WHERE state NOT IN ('delivered','failed','cancelled','rejected')"
_SOME: Final = (
    "SELECT order_id::text, state FROM fulfillment_logs WHERE state IN ('waiting', 'settling', 'failed', 'review', "
    "'unknown') ORDER BY updated_at DESC LIMIT 60"
)
_ACTION: Final = "/api/orders/fulfillment"


class Customers:
    def __init__(self, stand: Stand, seed: int, orders_per_s: float, urls: Callable[[], Sequence[str]]) -> None:
        self._stand = stand
        self._urls = urls
        self._rate = orders_per_s
        self._rng = rng_of(seed, "customers")
        self._recent: deque[OrderCreated] = deque(maxlen=RECENT)
        self._backlog = 0
        self._closing = asyncio.Event()
        self._maybe_poison: list[Poison] = []
        self.done: Counter[str] = Counter()
        self.answers: Counter[str] = Counter()
        self._producer = self._new_producer()
        self._renewing: asyncio.Task[None] | None = None
        self._topic = stand.settings.topic_prefix + ORDERS_EVENTS

    async def trade(self) -> None:
        """Until they `go_home`."""
        await self._producer.start()
        try:
            async with asyncio.TaskGroup() as all_of_them:
                for name in range(SHOPPERS):
                    all_of_them.create_task(self._shop(name))
                all_of_them.create_task(self._produce())
                all_of_them.create_task(self._press_buttons())
                all_of_them.create_task(self._look_at_the_backlog())
        finally:
            if self._renewing is not None:
                await self._renewing
            await self._producer.stop()

    def _new_producer(self) -> AIOKafkaProducer:
        connection = kafka.connection(self._stand.settings)
        return AIOKafkaProducer(**connection, acks="all", enable_idempotence=True, linger_ms=5)

    async def _renew(self) -> None:
        """One that has failed may fail for ever: aiokafka's idempotent producer does not get over a lost sequence."""
        failed = self._producer
        while True:
            producer = self._new_producer()
            try:
                await producer.start()
            except KafkaError:
                await producer.stop()
                await asyncio.sleep(TICK_S)
            else:
                break
        self._producer = producer
        self.done["producers that had to be replaced"] += 1
        await failed.stop()

    def _doubt(self, producer: AIOKafkaProducer, error: KafkaError) -> None:
        self.done[f"events not acknowledged ({type(error).__name__})"] += 1
        if producer is self._producer and (self._renewing is None or self._renewing.done()):
            self._renewing = asyncio.create_task(self._renew())

    def go_home(self) -> None:
        self._closing.set()

    def _now_s(self) -> float:
        return asyncio.get_running_loop().time()

    # --- over HTTP ----------------------------------------------------------------------------------------------------

    async def _shop(self, name: int) -> None:
        """One purchase after another, each repeated with its key, at any gateway, until it is accepted."""
        number = 0
        while not self._closing.is_set():
            number += 1
            key, phone = f"{name}-{number}", self._stand.new_phone()
            while not await self._buy(key, phone):
                self.done["purchases repeated for want of an answer"] += 1
                if self._closing.is_set():
                    return
                await asyncio.sleep(TICK_S)
            if self._rng.random() < REPEATS:
                self.done["purchases repeated once more"] += 1
                await self._buy(key, phone)
            await self._pause()

    async def _buy(self, key: str, phone: str) -> bool:
        urls = self._urls()
        if not urls:
            return False
        try:
            async with asyncio.timeout(ANSWER_S):
                answer = await self._stand.purchase(self._rng.choice(urls), key, phone)
        except _AWAY:
            self.answers["none"] += 1
            return False
        self.answers[str(answer.status)] += 1
        return answer.status == 202

    async def _pause(self) -> None:
        """The shoppers' pace: a quarter of all orders. Nobody waits for it."""
        await asyncio.sleep(self._rng.expovariate(self._rate / 4 / SHOPPERS) if self._backlog < BACKLOG else 1.0)

    # --- as events ----------------------------------------------------------------------------------------------------

    async def _produce(self) -> None:
        """The other three quarters, a batch at a time; with poison between, and some of them twice."""
        owed, last_s = 0.0, self._now_s()
        while not self._closing.is_set():
            await asyncio.sleep(TICK_S)
            now_s = self._now_s()
            owed, last_s = min(owed + (now_s - last_s) * self._rate * 0.75, self._rate * CATCH_UP_S), now_s
            if self._backlog >= BACKLOG:
                continue
            count, owed = int(owed), owed - int(owed)
            await asyncio.gather(*(self._produce_one() for _ in range(count)))

    async def _produce_one(self) -> None:
        order = self._stand.created()
        if await self._write_order(order):
            self._stand.accepted(order)
            self._recent.append(order)
            self.done["orders as events"] += 1
        if self._rng.random() < TWICE:
            await self._write_order(order, anywhere=True)
            self.done["duplicates"] += 1
        if self._rng.random() < POISON:
            await self._poison()

    async def write_again(self, count: int) -> None:
        """Orders of late, once more, anywhere: as a producer does that lost its place."""
        orders = self._rng.sample(list(self._recent), min(count, len(self._recent)))
        self.done["duplicates"] += len(orders)
        await asyncio.gather(*(self._write_order(order, anywhere=True) for order in orders))

    async def _write_order(self, order: OrderCreated, *, anywhere: bool = False) -> bool:
        """In one of the ways in which producers do; whether the broker has it."""
        key: bytes | None = order.order_id.encode()
        partition = None
        headers: Headers = tuple(binary_headers("OrderCreated", order.order_id, b"/tests", order.created_at))
        way = self._rng.randrange(10)
        if anywhere or way == 0:
            partition = self._rng.randrange(self._stand.settings.partitions)
        if way == 1:
            key = None
        elif way == 2:
            key = order.order_id.upper().encode()
        elif way == 3:
            headers = ()
        return await self._send(json_value(order), key, partition, headers)

    async def _send(self, value: bytes | None, key: bytes | None, partition: int | None, headers: Headers) -> bool:
        producer = self._producer
        try:
            await producer.send_and_wait(self._topic, value, key=key, partition=partition, headers=list(headers))
        except KafkaError as error:
            self._doubt(producer, error)
            return False
        return True

    async def _poison(self) -> None:
        poison = self._some_poison(uuid.uuid4().hex)
        if await self._send(poison.value, poison.key, None, poison.headers):
            self._stand.clients.poison.append(poison)
        else:
            self._maybe_poison.append(poison)

    def _some_poison(self, mark: str) -> Poison:
        """One of a kind, so that it can be told from all other."""
        order = self._stand.created()
        key = order.order_id.encode()
        said: dict[str, Any] = orjson.loads(json_value(order)) | {"note": mark}
        kinds: tuple[Callable[[], Poison], ...] = (
            lambda: Poison(None, b"not JSON " + mark.encode()),
            lambda: Poison(key, b"\xff\xfe" + mark.encode()),
            lambda: Poison(key, orjson.dumps(said | {"size_mb": -1})),
            lambda: Poison(key, orjson.dumps(said | {"phone_number": "none"})),
            lambda: Poison(key, orjson.dumps(said | {"network": 7})),
            lambda: Poison(key, orjson.dumps(said | {"type": "OrderRegretted"})),
            lambda: Poison(key, orjson.dumps(said | {"version": 99})),
            lambda: Poison(key, orjson.dumps([mark])),
            lambda: Poison(key, b'{"order_id":1,"order_id":"' + mark.encode() + b'"}'),
            lambda: Poison(key, None, (("mark", mark.encode()),)),
            lambda: Poison(key, orjson.dumps({**said, "order_id": "no id"}), (("ce_specversion", b"0.3"),)),
        )
        return self._rng.choice(kinds)()

    def settle_poison(self, written: Sequence[Logged]) -> None:
        """What was not acknowledged may have been written all the same: what is in orders.events was."""
        there = Counter(Poison(record.key, record.value, record.headers) for record in written)
        for poison in self._maybe_poison:
            self._stand.clients.poison.extend([poison] * there[poison])
        self._maybe_poison.clear()

    # --- people -------------------------------------------------------------------------------------------------------

    async def _press_buttons(self) -> None:
        """Retry, trigger, override, over HTTP and as commands, whatever looks as if it were stuck."""
        while not self._closing.is_set():
            await asyncio.sleep(4 * TICK_S)
            rows = await self._fetch(_SOME)
            for order_id, state in self._rng.sample(rows, min(6, len(rows))):
                await self._press(order_id, state)

    async def _press(self, order_id: str, state: str) -> None:
        urls = self._urls()
        if state == "failed" and self._rng.random() < 0.2:
            await self._command(OverrideFulfillment, order_id)
        elif urls and self._rng.random() < 0.7:
            action = self._rng.choice(("retry", "trigger"))
            body = {"action": action, "orderId": order_id}
            self.done["buttons pressed over HTTP"] += 1
            try:
                async with (
                    asyncio.timeout(ANSWER_S),
                    self._stand.session.post(
                        self._rng.choice(urls) + _ACTION, json=body, headers={"Prefer": "wait=0"}
                    ) as response,
                ):
                    self.answers[f"{action} {response.status}"] += 1
            except _AWAY:
                self.answers[f"{action} none"] += 1
        else:
            await self._command(self._rng.choice((RetryFulfillment, TriggerFulfillment)), order_id)

    async def _command(
        self, kind: type[RetryFulfillment | TriggerFulfillment | OverrideFulfillment], order_id: str
    ) -> None:
        command = kind(
            command_id=str(uuid.uuid4()), order_id=order_id, actor="tests", reason="a storm", at=datetime.now(UTC)
        )
        self.done[f"{kind.__name__} as events"] += 1
        headers = binary_headers(command.type, command.command_id, b"/tests", command.at)
        topic = self._stand.settings.topic_prefix + FULFILLMENT_COMMANDS
        producer = self._producer
        try:
            await producer.send_and_wait(topic, json_value(command), key=order_id.encode(), headers=headers)
        except KafkaError as error:
            self._doubt(producer, error)

    async def _look_at_the_backlog(self) -> None:
        while not self._closing.is_set():
            await asyncio.sleep(8 * TICK_S)
            rows = await self._fetch(_OPEN)
            counted = await self._fetch("SELECT count(*) FROM fulfillment_logs")
            if rows and counted:
                known = counted[0][0]
                self._backlog = max(len(self._stand.clients.accepted) - known, 0) + rows[0][0]

    async def _fetch(self, query: str) -> list[Any]:
        """Nothing, while the database is away."""
        try:
            async with asyncio.timeout(ANSWER_S):
                connection = await asyncpg.connect(self._stand.settings.database_url.get_secret_value())
                try:
                    return list(await connection.fetch(query))
                finally:
                    await connection.close(timeout=1)
        except (*UNREACHABLE, asyncpg.PostgresError):
            return []
