"""A bulk retry by real processes, whose gateway is killed in the middle: what came of it, in figures."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import asyncpg
import orjson

from schemas.ids import retry_command_id
from schemas.topics import FULFILLMENT_COMMANDS, FULFILLMENT_EVENTS
from services.gateway import keys
from services.gateway.access import Role
from tests.evidence import Evidence
from tests.gateway.bulk.conftest import REASON, RETRY
from tests.processes import Service
from tests.stand import Stand
from tests.waiting import until

RETRY_DELAYS_S: Final = (86_400, 86_400)
"""Nothing is retried by itself while this lasts."""
_WRITERS: Final = 20
_LOSE_MARKS: Final = """
    WITH last AS (
        SELECT number FROM access.retry_rows WHERE job_id = $1 AND sent_at IS NOT NULL ORDER BY number DESC LIMIT 20
    ), lost AS (
        UPDATE access.retry_rows SET sent_at = NULL, command_id = NULL, answered_at = NULL, outcome = NULL, why = NULL
        WHERE job_id = $1 AND number IN (SELECT number FROM last) RETURNING 1
    )
    SELECT count(*) FROM lost
"""


@dataclass(frozen=True)
class Figures:
    orders: int
    delivered_before: int
    """Orders that were well from the start, and are not to be retried."""
    safe: int
    preview_s: float
    sent_when_killed: int
    marks_lost: int
    """Of commands that Kafka had, as if the gateway had died before it could note so."""
    taken_over_s: float
    """From the kill to the next command of the other gateway."""
    retry_s: float
    per_s: int
    commands: int
    """Records in Kafka: some may be there twice, under one id."""
    attempts: dict[int, int]
    """How many orders had how many."""
    manual: int
    """Orders with exactly one attempt made by the bulk retry."""
    sends: dict[int, int]
    """How many orders were sent so often to the provider."""
    deliveries: dict[int, int]
    outcomes: dict[str, int]

    def __str__(self) -> str:
        return "\n".join(
            [
                f"orders: {self.orders} failed once, {self.delivered_before} delivered",
                f"dry run: {self.safe} safe, in {self.preview_s:.2f} s",
                f"gateway killed at {self.sent_when_killed} sent and {self.marks_lost} sent but not noted",
                f"another gateway went on after {self.taken_over_s:.1f} s",
                f"done in {self.retry_s:.1f} s at {self.per_s} a second",
                f"commands in Kafka: {self.commands}, {self.commands - self.orders} of them a second time",
                f"orders by attempts: {self.attempts}, by manual attempts exactly one: {self.manual}",
                f"orders by sends: {self.sends}, by deliveries: {self.deliveries}",
                f"outcomes: {self.outcomes}",
            ]
        )


class _Operator:
    """Asks whichever gateway is there."""

    def __init__(self, stand: Stand, token: str, *urls: str) -> None:
        self.urls = list(urls)
        self._session = stand.session
        self._headers = {"Authorization": f"Bearer {token}"}

    async def post(self, status: int, **said: Any) -> dict[str, Any]:
        url = self.urls[0] + RETRY
        async with self._session.post(url, json={"reason": REASON} | said, headers=self._headers) as response:
            assert response.status == status, await response.text()
            return dict(await response.json())

    async def job(self, job_id: str) -> dict[str, Any] | None:
        """None while nobody answers."""
        try:
            async with self._session.get(f"{self.urls[-1]}{RETRY}/{job_id}", headers=self._headers) as response:
                return dict((await response.json())["job"]) if response.status == 200 else None
        except aiohttp.ClientError:
            return None


async def trial(
    stand: Stand, orders: int, per_s: int, *, within_s: float, strike: Callable[[], Awaitable[None]] | None = None
) -> tuple[Figures, Evidence]:
    """`stand` with RETRY_DELAYS_S; `strike` once two thirds are sent.

    AssertionError where an order is lost on the way or the checker finds a breach.
    """
    loop = asyncio.get_running_loop()
    services = stand.fulfiller(), stand.projector(), stand.gateway(), stand.gateway()
    urls = [await service.ready() for service in services][2:]
    gateways = dict(zip(urls, services[2:], strict=True))
    connection = await asyncpg.connect(stand.settings.database_url.get_secret_value())
    operator = _Operator(stand, await keys.create(connection, Role.OPERATOR, "acme"), *urls)
    await connection.close()

    well = await _bought(stand, max(orders // 20, 5))
    await stand.reached(well, "delivered", within_s=within_s)
    await stand.sandbox.faults(shares={"busy": 1.0})
    failed = await _bought(stand, orders)
    await stand.reached(failed, "waiting", within_s=within_s)
    await stand.sandbox.faults(shares={"busy": 0.0})

    began_s = loop.time()
    preview = (await operator.post(200, filter={"state": "waiting"}, dryRun=True))["preview"]
    preview_s = loop.time() - began_s
    job_id = (await operator.post(202, token=preview["token"], perSecond=per_s))["job"]["id"]
    began_s = loop.time()

    async def well_on_its_way() -> int:
        job = await operator.job(job_id)
        return orders - job["waiting"] if job and job["waiting"] < orders * 2 // 3 else 0

    sent_when_killed = await until(well_on_its_way, "a third of the commands to be sent", within_s)
    killed, other = _by_work(gateways, job_id)
    operator.urls = [other]
    gateways[killed].kill()
    killed_s = loop.time()
    lost = await _lose_marks(stand, job_id)
    job = await operator.job(job_id)
    assert job is not None
    sent_when_killed = orders - job["waiting"]

    async def went_on() -> bool:
        job = await operator.job(job_id)
        return job is not None and orders - job["waiting"] > sent_when_killed

    await until(went_on, "the other gateway to go on", within_s)
    taken_over_s = loop.time() - killed_s

    async def two_thirds() -> bool:
        job = await operator.job(job_id)
        return job is not None and job["waiting"] < orders // 3

    if strike is not None:
        await until(two_thirds, "two thirds of the commands to be sent", within_s)
        await strike()

    async def done() -> dict[str, Any] | None:
        job = await operator.job(job_id)
        assert job is None or job["state"] != "paused", job["why"]
        return job if job and job["state"] == "done" else None

    job = await until(done, "the bulk retry to be done", within_s)
    retry_s = loop.time() - began_s
    evidence = await stand.proven(within_s)
    ledger = await stand.sandbox.ledger()
    attempts, manual = _attempts(evidence, failed)
    figures = Figures(
        orders=orders,
        delivered_before=len(well),
        safe=preview["safe"]["orders"],
        preview_s=preview_s,
        sent_when_killed=sent_when_killed,
        marks_lost=lost,
        taken_over_s=taken_over_s,
        retry_s=retry_s,
        per_s=per_s,
        commands=_commands(evidence, job_id, failed),
        attempts=attempts,
        manual=manual,
        sends=dict(Counter(ledger[order_id]["sends"] for order_id in failed)),
        deliveries=dict(Counter(ledger[order_id]["deliveries"] for order_id in failed)),
        outcomes={name: job[name] for name in ("delivered", "failed", "inDoubt", "refused", "movedOn", "cancelled")},
    )
    return figures, evidence


def holds(figures: Figures) -> bool:
    """Each order was retried once, and delivered."""
    orders = figures.orders
    return (
        figures.safe == orders
        and figures.attempts == figures.sends == {2: orders}
        and figures.manual == orders
        and figures.deliveries == {1: orders}
        and figures.outcomes["delivered"] == orders == sum(figures.outcomes.values())
        and figures.commands == orders + figures.marks_lost
        and 0 < figures.sent_when_killed < orders
    )


async def _lose_marks(stand: Stand, job_id: str) -> int:
    connection = await asyncpg.connect(stand.settings.database_url.get_secret_value())
    try:
        return int(await connection.fetchval(_LOSE_MARKS, job_id))
    finally:
        await connection.close()


async def _bought(stand: Stand, count: int) -> list[str]:
    sizes = [count // _WRITERS + (n < count % _WRITERS) for n in range(_WRITERS)]
    made = await asyncio.gather(*(stand.orders([stand.new_phone() for _ in range(size)]) for size in sizes))
    return [order_id for orders in made for order_id in orders]


def _by_work(gateways: dict[str, Service], job_id: str) -> tuple[str, str]:
    """The gateway that is at it, and the one that is not."""
    (at_work,) = [
        url for url, gateway in gateways.items() if "bulk_retry_sent" in gateway.log and job_id in gateway.log
    ]
    (other,) = [url for url in gateways if url != at_work]
    return at_work, other


def _attempts(evidence: Evidence, order_ids: Sequence[str]) -> tuple[dict[int, int], int]:
    wanted = set(order_ids)
    attempts: Counter[str] = Counter()
    manual: Counter[str] = Counter()
    for record in evidence.of(FULFILLMENT_EVENTS):
        said = orjson.loads(record.value or b"{}")
        if said.get("order_id") not in wanted:
            continue
        if said["type"] == "FulfillmentAttempted":
            attempts[said["order_id"]] += 1
            manual[said["order_id"]] += said["trigger"] == "manual"
        elif said["type"] == "AttemptVoided":
            attempts[said["order_id"]] -= 1
    return dict(Counter(attempts.values())), sum(count == 1 for count in manual.values())


def _commands(evidence: Evidence, job_id: str, order_ids: Sequence[str]) -> int:
    """All of them the job's own, for each of the orders at least one."""
    found = [orjson.loads(record.value or b"{}") for record in evidence.of(FULFILLMENT_COMMANDS)]
    assert all(said["command_id"] == retry_command_id(job_id, said["order_id"]) for said in found)
    assert {said["order_id"] for said in found} == set(order_ids)
    return len(found)
