"""What open dashboards cost the gateway while orders come in: the stream, the list as its rows change, the alerts."""

import asyncio
import re
import time
from contextlib import suppress

import aiohttp
import asyncpg
import orjson

from benchmarks.orders import Producer, order
from benchmarks.report import Figure, Result
from benchmarks.rig import Deployment, Rig
from services.gateway import keys
from services.gateway.access import Role
from services.gateway.dashboard.rendering import PATH

_DASHBOARDS = 100
_RATE_PER_S = 50
_WHAT = f"{_DASHBOARDS} dashboards at {_RATE_PER_S} orders/s"
_BEAT_S = 0.1
_SETTLE_S = 0.4
"""As dashboard.js waits for what else changes before it asks for the rows."""
_ALERTS_EVERY_S = 30
_STREAM = "/api/admin/fulfillment/stream?rows=brief"
_ROW = re.compile(r'data-order="([0-9a-f-]{36})" data-sequence="(\d+)"')


class Open:
    """One of them: its first page stays, as nobody asks for what is new."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self._shown: dict[str, int] = {}
        self.messages = 0
        self.pages = 0
        self.refused = 0

    async def look(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self._shown:
                    await self._page()
                await asyncio.gather(self._listen(), self._alerts())

    async def _page(self) -> None:
        async with self._session.get(PATH, headers={"HX-Request": "true"}) as answer:
            if answer.status != 200:  # the page stays as it is, and is looked at again with the next change
                self.refused += 1
                return
            rows = dict(_ROW.findall(await answer.text()))
        self._shown = {row: int(rows.get(row, sequence)) for row, sequence in (self._shown or rows).items()}
        self.pages += 1

    async def _listen(self) -> None:
        async with self._session.get(_STREAM) as answer:
            assert answer.status == 200
            async for line in answer.content:
                if not line.startswith(b"data: {"):
                    continue
                self.messages += 1
                logs = orjson.loads(line[6:]).get("logs", ())
                if any(self._shown.get(log["order_id"], log["sequence"]) < log["sequence"] for log in logs):
                    await asyncio.sleep(_SETTLE_S)
                    await self._page()

    async def _alerts(self) -> None:
        while True:
            await asyncio.sleep(_ALERTS_EVERY_S)
            async with self._session.get(f"{PATH}/alerts") as answer:
                await answer.read()


def measure(rig: Rig, *, quick: bool) -> Result:
    """The processor's time with nobody looking, then with all of them."""
    seconds = 10 if quick else 40
    settings = {"RATE_LIMIT_PER_S": "100000", "RATE_LIMIT_BURST": "100000"}
    with Deployment(rig, "dashboards", settings) as deployment:
        deployment.set_up()
        deployment.start("sandbox", "fulfiller", "projector", "gateway")
        asyncio.run(_orders(deployment, 3))
        alone = asyncio.run(_share(deployment, seconds, 0))
        share, opened = asyncio.run(_share(deployment, seconds, _DASHBOARDS))
    return Result(
        "dashboards",
        [
            Figure(
                f"{_DASHBOARDS} dashboards at {_RATE_PER_S} orders/s",
                100 * (share - alone[0]),
                "% of a core",
                at_most=5,
            )
        ],
        [
            f"the gateway with nobody looking: {100 * alone[0]:.1f} %; {seconds} s each",
            f"{sum(one.messages for one in opened)} messages, {sum(one.pages for one in opened)} pages",
            f"{sum(one.refused for one in opened)} pages refused, as the machine was busy",
        ],
        {"alone": alone[0], "share": share},
    )


async def _share(deployment: Deployment, seconds: float, dashboards: int) -> tuple[float, list[Open]]:
    """Of a core, that the gateway uses meanwhile."""
    connection = await asyncpg.connect(deployment.database_url)
    try:
        token = await keys.create(connection, Role.VIEWER, "benchmarks")
    finally:
        await connection.close()
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(
        deployment.gateway_url, headers={"X-API-Key": token}, connector=connector, read_bufsize=2**20
    ) as session:
        opened = [Open(session) for _ in range(dashboards)]
        looking = [asyncio.create_task(one.look(seconds + 120)) for one in opened]
        while not all(one.messages for one in opened):
            await _orders(deployment, 1)
        before, began = deployment.cpu_s()["gateway"], time.monotonic()
        await _orders(deployment, seconds)
        share = (deployment.cpu_s()["gateway"] - before) / (time.monotonic() - began)
        for one in looking:
            one.cancel()
        for ended in await asyncio.gather(*looking, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended
    return share, opened


async def _orders(deployment: Deployment, seconds: float) -> None:
    loop, each = asyncio.get_running_loop(), round(_RATE_PER_S * _BEAT_S)
    async with Producer(deployment.settings) as producer:
        start_s = loop.time()
        for beat in range(round(seconds / _BEAT_S)):
            await asyncio.sleep(max(0.0, start_s + beat * _BEAT_S - loop.time()))
            await producer.write([order(beat * each + number) for number in range(each)])
