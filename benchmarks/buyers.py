"""People who buy over HTTP and look at what becomes of it."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import asyncpg

from benchmarks.orders import order, phone
from benchmarks.rig import PATIENT, SERVICES, Deployment, Rig
from schemas.orders import OrderCreated
from tests.waiting import until

_CLIENTS = 200
_WARM_UP_S = 100.0
_SHORT_WARM_UP_S = 30.0
_SETTLE_S = 3.0
_PATIENCE_S = 60.0
_CHANNEL = "fulfillment_changed"
_OUTCOMES = """
SELECT order_id::text FROM fulfillment_logs
WHERE order_id = ANY($1::uuid[]) AND state NOT IN ('received', 'created', 'attempting')
"""
_ALL_ENDED = "SELECT count(*) = 0 FROM fulfillment_logs WHERE state NOT IN ('delivered', 'failed')"


class Buyer:
    """Buys, and looks at the rows that the projector says have changed."""

    def __init__(self, session: aiohttp.ClientSession, rows: Any, url: str) -> None:
        self._session = session
        self._rows = rows
        self._url = f"{url}/api/orders/purchase"
        self._waiting: dict[str, asyncio.Future[float]] = {}
        self._changed: set[str] = set()
        self._awake = asyncio.Event()
        self.bought: list[OrderCreated] = []
        self.answer_s: list[float] = []
        self.outcome_s: list[float] = []
        self.full_per_s = 0.0
        self.cpu: dict[str, float] = {}
        """Of one core, by process."""

    async def buy(self, *, counts: bool) -> None:
        """Until the outcome is seen."""
        number = len(self.bought)
        self.bought.append(order(number))
        began_s = time.perf_counter()
        body = {"network": "AT-iShare", "size": "1GB", "phoneNumber": phone(number)}
        async with self._session.post(self._url, json=body) as response:
            order_id = (await response.json())["order"]["id"]
        accepted_s = time.perf_counter()
        self.bought[number] = self.bought[number].model_copy(update={"order_id": order_id})
        seen = self._waiting[order_id] = asyncio.get_running_loop().create_future()
        if order_id in self._changed:  # before the 202 was
            self._awake.set()
        seen_s = await seen
        if counts:
            self.answer_s.append(accepted_s - began_s)
            self.outcome_s.append(seen_s - accepted_s)

    def notify(self, _connection: Any, _pid: int, _channel: str, payload: object) -> None:
        self._changed.update(str(payload).split(","))
        self._awake.set()

    async def look(self) -> None:
        """Note when an order's outcome is first seen in its row."""
        while True:
            await self._awake.wait()
            self._awake.clear()
            changed = self._changed & self._waiting.keys()
            self._changed -= changed
            if changed:
                found = await self._rows.fetch(_OUTCOMES, list(changed))
                seen_s = time.perf_counter()
                for (order_id,) in found:
                    self._waiting.pop(order_id).set_result(seen_s)

    async def buy_for(self, for_s: float) -> int:
        """Buy again as soon as the outcome is seen; how many outcomes."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + for_s
        outcomes = 0
        while loop.time() < end_s:
            await self.buy(counts=False)
            outcomes += 1
        return outcomes

    async def buy_at(self, at_s: float, *, counts: bool) -> None:
        await asyncio.sleep(at_s - asyncio.get_running_loop().time())
        await self.buy(counts=counts)

    async def saturate(self, for_s: float) -> float:
        """Outcomes a second."""
        return sum(await asyncio.gather(*(self.buy_for(for_s) for _ in range(_CLIENTS)))) / for_s

    async def trickle(
        self, deployment: Deployment, rate_per_s: float, for_s: float, settle_s: float = _SETTLE_S
    ) -> None:
        """What comes in the first `settle_s` does not count."""
        start_s = asyncio.get_running_loop().time() + 0.1
        settled, count = int(settle_s * rate_per_s), int((settle_s + for_s) * rate_per_s)
        measuring = asyncio.create_task(self._measure_cpu(deployment, settle_s, for_s))
        await asyncio.gather(
            *(self.buy_at(start_s + number / rate_per_s, counts=number >= settled) for number in range(count))
        )
        await measuring

    async def _measure_cpu(self, deployment: Deployment, after_s: float, for_s: float) -> None:
        await asyncio.sleep(after_s)
        before = deployment.cpu_s() | {"client": time.process_time()}
        await asyncio.sleep(for_s)
        after = deployment.cpu_s() | {"client": time.process_time()}
        self.cpu = {name: (used_s - before[name]) / for_s for name, used_s in after.items()}


@asynccontextmanager
async def buyer(deployment: Deployment) -> AsyncIterator[Buyer]:
    """Of a deployment that runs. On leaving every order has ended."""
    listener = await asyncpg.connect(deployment.database_url)
    # A plan is kept from when the table was empty, and then it would be to read all of it each time.
    rows = await asyncpg.connect(deployment.database_url, server_settings={"enable_seqscan": "off"})
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), raise_for_status=True)
    async with session:
        buying = Buyer(session, rows, deployment.gateway_url)
        await listener.add_listener(_CHANNEL, buying.notify)
        looking = asyncio.create_task(buying.look())
        yield buying
        await until(lambda: listener.fetchval(_ALL_ENDED), "every order's end", _PATIENCE_S)
        looking.cancel()
    await rows.close()
    await listener.close()


def warm_up(rig: Rig, *, quick: bool) -> None:
    """The broker compiles its code while it runs: its first minutes cost several times as much as the rest."""

    async def buy() -> None:
        async with buyer(deployment) as buying:
            await buying.saturate(_SHORT_WARM_UP_S if quick else _WARM_UP_S)

    with Deployment(rig, "warm-up", PATIENT) as deployment:
        deployment.set_up()
        deployment.start("sandbox", *SERVICES)
        asyncio.run(buy())
