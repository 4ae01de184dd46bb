"""GET /api/admin/fulfillment/stats."""

from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import UTC, datetime

from aiohttp import web

from services.gateway.access import Caller
from services.gateway.reads.listing import answered
from services.gateway.reads.questions import Statistics, asked
from services.gateway.reads.reading import QUERIES, Reading
from services.gateway.reads.summary import Summary


class StatisticsOfOrders:
    def __init__(self, reading: Reading, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._reading = reading
        self._now = now

    async def stats(self, request: web.Request, _caller: Caller) -> web.Response:
        said = asked(request, Statistics)
        since, until = said.whole(self._now())
        values = (said.bucket.width_s, since, until, said.network)
        totals = Summary()
        networks: defaultdict[str, Summary] = defaultdict(Summary)
        buckets: defaultdict[datetime, Summary] = defaultdict(Summary)
        failures: Counter[str] = Counter()
        for start, network, code, *said_of in await self._reading.fetch(QUERIES["statistics"], *values):
            if start is not None:
                buckets[start].add(*said_of)
            elif network is not None:
                networks[network].add(*said_of)
                totals.add(*said_of)
            elif said_of[0] == "failed":
                failures[code] += said_of[1]
        return answered(
            request,
            {
                "success": True,
                "from": since,
                "to": until,
                "bucket": said.bucket,
                "totals": totals.said(),
                "networks": [{"network": name} | networks[name].said() for name in sorted(networks)],
                "failures": [{"errorCode": code or None, "orders": orders} for code, orders in failures.most_common()],
                "buckets": [{"start": start} | buckets[start].said() for start in sorted(buckets)],
            },
        )
