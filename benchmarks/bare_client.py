"""`python -m benchmarks.bare_client URL CALLS [RATE]`: the calls of an order and nothing else, as a yardstick.

The session, the signature and the body are the adapter's; there is no log, no state and no second thought. Prints JSON.
"""

import asyncio
import resource
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator

import aiohttp
import orjson
import uvloop
from yarl import URL

from benchmarks.orders import phone
from benchmarks.report import quantile
from services.at_ishare_contract import (
    KEY_HEADER,
    PURCHASE_PATH,
    SIGNATURE_HEADER,
    TIMESTAMP_HEADER,
    Purchase,
    sign,
)
from services.settings import SANDBOX_KEY, SANDBOX_SECRET

CONCURRENCY = 256
_TIMEOUT = aiohttp.ClientTimeout(total=30)


class BareClient:
    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = URL(f"{url}{PURCHASE_PATH}")
        self._secret = SANDBOX_SECRET.encode()
        self.codes: Counter[str] = Counter()
        self.call_s: list[float] = []

    async def call(self, number: int) -> None:
        began_s = time.perf_counter()
        body = orjson.dumps(Purchase(str(uuid.uuid4()), phone(number), "AT-iShare", 1000))
        timestamp = str(int(time.time()))
        headers = {
            KEY_HEADER: SANDBOX_KEY,
            TIMESTAMP_HEADER: timestamp,
            SIGNATURE_HEADER: sign(self._secret, timestamp, "POST", self._url.raw_path, body),
            "Content-Type": "application/json",
        }
        async with self._session.post(
            self._url, data=body, headers=headers, timeout=_TIMEOUT, allow_redirects=False
        ) as response:
            answer = orjson.loads(await response.read())
        self.codes[answer["code"]] += 1
        self.call_s.append(time.perf_counter() - began_s)

    async def keep_calling(self, numbers: Iterator[int]) -> None:
        for number in numbers:
            await self.call(number)

    async def call_at(self, number: int, when_s: float) -> None:
        await asyncio.sleep(when_s - asyncio.get_running_loop().time())
        await self.call(number)


async def run(url: str, calls: int, rate_per_s: float | None) -> dict[str, object]:
    """As many at once as the fulfiller has slots; or at a rate, however long each takes."""
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Accept": "application/json", "Accept-Encoding": "identity"},
        auto_decompress=False,
    )
    async with session:
        client = BareClient(session, url)
        began_s, cpu_before_s = time.perf_counter(), _cpu_s()
        if rate_per_s is None:
            numbers = iter(range(calls))
            await asyncio.gather(*(client.keep_calling(numbers) for _ in range(CONCURRENCY)))
        else:
            start_s = asyncio.get_running_loop().time()
            await asyncio.gather(*(client.call_at(number, start_s + number / rate_per_s) for number in range(calls)))
        took_s, cpu_s = time.perf_counter() - began_s, _cpu_s() - cpu_before_s
    return {
        "calls": calls,
        # As many digits as in a phone number would be taken for one.
        "took_s": round(took_s, 4),
        "cpu_s": round(cpu_s, 4),
        "codes": dict(client.codes),
        "call_ms": {f"p{share}": round(1000 * quantile(sorted(client.call_s), share / 100), 3) for share in (50, 99)},
    }


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    _, url_, calls_, *rate = sys.argv
    print(orjson.dumps(uvloop.run(run(url_, int(calls_), float(rate[0]) if rate else None))).decode())
