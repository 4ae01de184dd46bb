"""/api/admin/fulfillment/retry: previews, starts, shows and stops bulk retries."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Literal

import asyncpg
import structlog
from aiohttp import web

from services.gateway import body
from services.gateway.access import Caller
from services.gateway.acts import Because
from services.gateway.address import Addresses
from services.gateway.audit import By
from services.gateway.bulk.eligibility import Preview, previewed
from services.gateway.bulk.questions import MAX_BODY_BYTES, MAX_RETRIED, OUTCOMES, BulkRetry, Rows
from services.gateway.bulk.runner import Runner
from services.gateway.bulk.store import QUERIES, Store
from services.gateway.database import QUERIES as GATEWAY_QUERIES
from services.gateway.database import DatabaseAwayError
from services.gateway.problem import (
    INVALID_REQUEST,
    JOB_STATE,
    NOTHING_TO_RETRY,
    TOO_MANY_JOBS,
    UNKNOWN_JOB,
    Problem,
    unavailable,
)
from services.gateway.reads import selection
from services.gateway.reads.listing import answered
from services.gateway.reads.questions import asked

RETRY_PATH: Final = "/api/admin/fulfillment/retry"
PREVIEW_LIFE_S: Final = 3600
KEPT_DAYS: Final = 90
MAX_OPEN: Final = 10
_COUNTS: Final = ("waiting", "sent", *OUTCOMES)
_SPOKEN: Final = {"in_doubt": "inDoubt", "moved_on": "movedOn"}

log = structlog.get_logger()


class Jobs:
    def __init__(self, store: Store, runner: Runner, addresses: Addresses) -> None:
        self._store = store
        self._runner = runner
        self._addresses = addresses
        # A preview may go through many orders: one at a time leaves the connections to others.
        self._looking = asyncio.Lock()

    # --- over HTTP ----------------------------------------------------------------------------------------------------

    async def retry(self, request: web.Request, caller: Caller) -> web.Response:
        said = await body.read(request, BulkRetry, MAX_BODY_BYTES)
        by = By(caller.actor, self._addresses.of(request))
        if said.dry_run:
            preview = await self.preview(said, by)
            message = f"{preview['safe']['orders']} of {preview['matched']} orders can be retried"
            return body.json_response({"success": True, "message": message, "preview": preview})
        job = await self.start(said, by)
        return body.json_response(
            {"success": True, "message": f"{job['orders']} orders are retried", "job": job},
            status=202,
            headers={"Location": f"{RETRY_PATH}/{job['id']}"},
        )

    async def jobs(self, request: web.Request, _caller: Caller) -> web.Response:
        if request.query:
            raise Problem(INVALID_REQUEST, "this call takes no parameters")
        return answered(request, {"success": True, "jobs": await self.all_jobs()})

    async def job(self, request: web.Request, _caller: Caller) -> web.Response:
        job_id = _job_id(request)
        if request.query:
            raise Problem(INVALID_REQUEST, "this call takes no parameters")
        return answered(request, {"success": True, "job": await self.one(job_id)})

    async def rows(self, request: web.Request, _caller: Caller) -> web.Response:
        return answered(request, {"success": True, **await self.page(_job_id(request), asked(request, Rows))})

    async def pause(self, request: web.Request, caller: Caller) -> web.Response:
        return await self._act(request, caller, "pause")

    async def resume(self, request: web.Request, caller: Caller) -> web.Response:
        return await self._act(request, caller, "resume")

    async def cancel(self, request: web.Request, caller: Caller) -> web.Response:
        return await self._act(request, caller, "cancel")

    async def _act(self, request: web.Request, caller: Caller, act: str) -> web.Response:
        job_id, said = _job_id(request), await body.read(request, Because)
        job = await self.act(job_id, act, said.reason, By(caller.actor, self._addresses.of(request)))
        return body.json_response({"success": True, "message": f"The bulk retry is {job['state']}", "job": job})

    # --- what is done -------------------------------------------------------------------------------------------------

    async def preview(self, said: BulkRetry, by: By) -> dict[str, Any]:
        """What would be done, kept for an hour under its token. Problem 400 or 503."""
        async with self._looking, self._transaction("repeatable_read") as connection:
            preview, unknown = await _looked_at(connection, said)
            if not preview.kinds:
                return preview.said(unknown, None, None)
            token, expires_at = await _kept(connection, said, preview, by)
            return preview.said(unknown, token, expires_at)

    async def start(self, said: BulkRetry, by: By) -> dict[str, Any]:
        """Begin with what a token stands for, or with what fits now. Problem 400, 404, 409 or 503.

        On return the job is in PostgreSQL, and whatever becomes of this gateway it is carried out.
        """
        async with self._looking, self._transaction("repeatable_read" if said.token is None else None) as connection:
            if await connection.fetchval(QUERIES["open_jobs"]) >= MAX_OPEN:
                raise Problem(TOO_MANY_JOBS, f"{MAX_OPEN} bulk retries are open; let one end, or cancel it")
            if said.token is None:
                preview, unknown = await _looked_at(connection, said)
                if not preview.kinds:
                    why = f"none of {preview.matched} orders can be retried"
                    raise Problem(NOTHING_TO_RETRY, why, members={"preview": preview.said(unknown, None, None)})
                job_id, _ = await _kept(connection, said, preview, by)
            else:
                job_id = said.token
                await _still_as_previewed(connection, job_id)
            begun = (job_id, by.actor, said.canary, said.tolerate, said.per_s, said.reason)
            await connection.execute(QUERIES["begin"], *begun)
            (job,) = await _spoken(connection, [await _locked(connection, job_id)])
            detail = {"reason": said.reason, "orders": job["orders"], "filter": job["filter"]}
            await _note(connection, by, "bulk_retry_started", job_id, detail)
        log.info("bulk_retry_started", job=job_id, actor=by.actor, orders=job["orders"])
        self._runner.wake()
        return job

    async def act(self, job_id: str, act: str, reason: str, by: By) -> dict[str, Any]:
        """Pause, resume or cancel. Once it is paused or cancelled nothing more is sent. Problem 404, 409 or 503."""
        async with self._transaction() as connection:
            job = await _locked(connection, job_id)
            if job["state"] not in _FROM[act]:
                raise Problem(JOB_STATE, f"only one that is {' or '.join(_FROM[act])} is {_DONE[act]}; {_stands(job)}")
            arguments = {
                "pause": (job["state"], f"{by.actor}: {reason}"),
                "resume": (),
                "cancel": (f"{by.actor}: {reason}",),
            }
            changed = await connection.fetchrow(QUERIES[act], job["id"], *arguments[act])
            await _note(connection, by, f"bulk_retry_{_DONE[act]}", job_id, {"reason": reason})
            (spoken,) = await _spoken(connection, [changed])
        log.info("bulk_retry_changed", job=job_id, act=act, actor=by.actor)
        self._runner.wake()
        return spoken

    async def all_jobs(self) -> list[dict[str, Any]]:
        """The latest 50."""
        async with self._transaction() as connection:
            return await _spoken(connection, await connection.fetch(QUERIES["jobs"]))

    async def one(self, job_id: str) -> dict[str, Any]:
        """Problem 404 where there is none."""
        async with self._transaction() as connection:
            job = await connection.fetchrow(QUERIES["job"], job_id)
            if job is None:
                raise _unknown(job_id)
            (spoken,) = await _spoken(connection, [job])
            return spoken

    async def page(self, job_id: str, said: Rows) -> dict[str, Any]:
        """Its orders with their outcomes. Problem 404 where there is no such job."""
        async with self._transaction() as connection:
            if await connection.fetchrow(QUERIES["job"], job_id) is None:
                raise _unknown(job_id)
            asked_for = (job_id, said.outcome, said.cursor or 0, said.limit + 1)
            rows = await connection.fetch(QUERIES["rows"], *asked_for)
        shown = rows[: said.limit]
        return {
            "rows": [
                {
                    "number": row["number"],
                    "orderId": row["order_id"],
                    "state": row["state"],
                    "outcome": row["outcome"],
                    "why": row["why"],
                    "sentAt": row["sent_at"],
                    "answeredAt": row["answered_at"],
                }
                for row in shown
            ],
            "next": shown[-1]["number"] if len(rows) > said.limit else None,
        }

    async def forget(self) -> None:
        """Previews that nobody carried out, and what is long over. DatabaseAwayError where that cannot be done now."""
        try:
            async with self._store.transaction() as connection:
                await connection.execute(QUERIES["forget"], float(PREVIEW_LIFE_S), KEPT_DAYS)
        except asyncpg.QueryCanceledError as error:
            log.info("bulk_retries_not_forgotten", error=str(error))  # an hour later they are

    @asynccontextmanager
    async def _transaction(self, isolation: Literal["repeatable_read"] | None = None) -> AsyncIterator[Any]:
        try:
            async with self._store.transaction(isolation) as connection:
                yield connection
        except asyncpg.QueryCanceledError as error:
            raise unavailable("this takes too long now: ask for less, or later", retry_after_s=10) from error
        except DatabaseAwayError as error:
            raise unavailable("bulk retries need the database, which is away", retry_after_s=2) from error


_FROM: Final = {
    "pause": ("canary", "running"),
    "resume": ("paused",),
    "cancel": ("canary", "running", "paused"),
}
_DONE: Final = {"pause": "paused", "resume": "resumed", "cancel": "cancelled"}


async def _looked_at(connection: Any, said: BulkRetry) -> tuple[Preview, list[str]]:
    """What fits now, and the ids that no order has. Problem 400 where it is too much."""
    where = _where(said)
    groups = await connection.fetch(QUERIES["groups"].format(where=where.sql), *where.values)
    preview = previewed(groups)
    if preview.safe.orders > MAX_RETRIED:
        raise Problem(
            INVALID_REQUEST,
            f"filter: {preview.safe.orders} orders could be retried, and {MAX_RETRIED} at most are at once; narrow it",
        )
    rows = await connection.fetch(QUERIES["unknown"], said.order_ids) if said.order_ids else []
    return preview, [row[0] for row in rows]


async def _kept(connection: Any, said: BulkRetry, preview: Preview, by: By) -> tuple[str, Any]:
    """A preview's token, and until when it is good."""
    token = str(uuid.uuid4())
    filter_ = None if said.filter is None else said.filter.model_dump(mode="json", by_alias=True, exclude_none=True)
    kept = (token, by.actor, filter_, preview.safe.orders, float(PREVIEW_LIFE_S))
    expires_at = await connection.fetchval(QUERIES["keep"], *kept)
    where = _where(said)
    job = where.parameter(token)
    statuses, states, attempts, limits = (where.parameter([kind[n] for kind in preview.kinds]) for n in range(4))
    sql = QUERIES["keep_rows"].format(
        where=where.sql, job=f"{job}::uuid", statuses=statuses, states=states, attempts=attempts, limits=limits
    )
    await connection.execute(sql, *where.values)
    return token, expires_at


def _where(said: BulkRetry) -> selection.Where:
    if said.filter is not None:
        return selection.where(said.filter)
    where = selection.Where()
    where.add("order_id = ANY({}::uuid[])", list(said.order_ids or ()))
    return where


async def _still_as_previewed(connection: Any, token: str) -> None:
    """Leave out what changed since. Problem 404 or 409 where nothing can be begun."""
    job = await _locked(connection, token)
    if job["state"] != "previewed":
        raise Problem(JOB_STATE, f"{job['actor']} began it already; {_stands(job)}", members={"job": token})
    await connection.execute(QUERIES["move_on"], token)
    if not await connection.fetchval(QUERIES["left"], token):
        raise Problem(NOTHING_TO_RETRY, f"all {job['orders']} orders changed since they were previewed; look again")


async def _locked(connection: Any, job_id: str) -> Any:
    """Problem 404 where there is none."""
    job = await connection.fetchrow(QUERIES["lock"], job_id)
    if job is None:
        raise _unknown(job_id)
    return job


async def _note(connection: Any, by: By, action: str, job_id: str, detail: dict[str, Any]) -> None:
    await connection.execute(GATEWAY_QUERIES["note"], by.actor, by.address, action, job_id, detail)


async def _spoken(connection: Any, jobs: Sequence[Any]) -> list[dict[str, Any]]:
    """As the answers have them, with how many of their orders are where."""
    counts = {job["id"]: dict.fromkeys(_COUNTS, 0) for job in jobs}
    for job_id, kind, orders in await connection.fetch(QUERIES["counts"], list(counts)):
        counts[job_id][kind] = orders
    return [
        {
            "id": str(job["id"]),
            "state": job["state"],
            "why": job["why"],
            "actor": job["actor"],
            "reason": job["reason"],
            "filter": job["filter"],
            "canary": job["canary"],
            "tolerate": job["tolerate"],
            "perSecond": job["per_s"],
            "createdAt": job["created_at"],
            "startedAt": job["started_at"],
            "endedAt": job["ended_at"],
            "orders": job["orders"],
            **{_SPOKEN.get(kind, kind): orders for kind, orders in counts[job["id"]].items()},
        }
        for job in jobs
    ]


def _stands(job: Any) -> str:
    return f"this one is {job['state']}" + (f" ({job['why']})" if job["why"] else "")


def _unknown(job_id: str) -> Problem:
    return Problem(UNKNOWN_JOB, f"there is no bulk retry {job_id}, or its preview was forgotten")


def _job_id(request: web.Request) -> str:
    return body.order_id("job", request.match_info["job"])
