"""Every call that the gateway answers, and who may make it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from services import health
from services.gateway import acts, login, replies
from services.gateway import administration as access_calls
from services.gateway.access import Caller, Permission, Role
from services.gateway.account import PASSWORD, Account
from services.gateway.acts import Acts
from services.gateway.administration import Administration
from services.gateway.alerts import Alerts
from services.gateway.alerts.listing import ALERTS
from services.gateway.bulk import Bulk
from services.gateway.bulk import replies as bulk_replies
from services.gateway.bulk.jobs import RETRY_PATH
from services.gateway.dead_letters import DeadLetters
from services.gateway.dead_letters import replies as letter_replies
from services.gateway.description import Description
from services.gateway.fulfillment import Fulfillments
from services.gateway.login import Logins
from services.gateway.providers import Providers
from services.gateway.providers import replies as provider_replies
from services.gateway.purchase import STATUS_PATH, Purchases
from services.gateway.reads import Reads
from services.gateway.reads import replies as read_replies
from services.gateway.vitals import Vitals
from services.gateway.vitals.listing import VITALS

Handler = Callable[[web.Request, Caller], Awaitable[web.StreamResponse]]

ADMIN_PATH: Final = "/api/admin/fulfillment"
LETTERS_PATH: Final = "/api/admin/dead-letters"
PROVIDERS_PATH: Final = "/api/admin/providers"

_ADMIN_ALONE: Final = Permission()
_ANYONE: Final = Permission(anyone=True)


@dataclass(frozen=True, slots=True)
class Route:
    method: str
    path: str
    handler: Handler
    permission: Permission = _ADMIN_ALONE
    description: Description | None = None
    """For the OpenAPI document; a test fails where there is none."""


def table(
    purchases: Purchases,
    fulfillments: Fulfillments,
    reads: Reads,
    logins: Logins,
    administration: Administration,
    *,
    bulk: Bulk,
    letters: DeadLetters,
    providers: Providers,
    alerts: Alerts,
    vitals: Vitals,
    account: Account,
    readiness: Callable[[], web.Response],
) -> tuple[Route, ...]:
    async def livez(_request: web.Request, _caller: Caller) -> web.Response:
        return health.live_response()

    async def readyz(_request: web.Request, _caller: Caller) -> web.Response:
        return readiness()

    async def metrics(_request: web.Request, _caller: Caller) -> web.Response:
        return health.metrics_response()

    may_buy = Permission(frozenset({Role.PURCHASER}), local=True)
    may_act = Permission(frozenset({Role.OPERATOR}), local=True)
    # A purchaser sees its own orders: the handler's business.
    may_look = Permission(frozenset({Role.PURCHASER, Role.VIEWER, Role.OPERATOR}), local=True)
    may_look_elsewhere = Permission(may_look.roles)
    may_settle = Permission(frozenset({Role.OPERATOR}))
    more = Acts(fulfillments)
    may_look_at_all = Permission(frozenset({Role.VIEWER, Role.OPERATOR}))
    return (
        Route("POST", "/api/orders/purchase", purchases.purchase, may_buy, replies.PURCHASE),
        Route("POST", STATUS_PATH, fulfillments.act, may_act, replies.ACT),
        Route("GET", STATUS_PATH, fulfillments.status, may_look, replies.STATUS),
        Route("GET", "/api/orders/{id}/events", reads.timelines.events, may_look_elsewhere, read_replies.EVENTS),
        Route("GET", f"{ADMIN_PATH}/logs", reads.listings.logs, may_look_at_all, read_replies.LOGS),
        Route("GET", f"{ADMIN_PATH}/export.csv", reads.exports.csv, may_look_at_all, read_replies.EXPORT),
        Route("GET", f"{ADMIN_PATH}/stats", reads.statistics.stats, may_look_at_all, read_replies.STATS),
        Route("GET", f"{ADMIN_PATH}/stream", reads.streams.stream, may_look_at_all, read_replies.STREAM),
        Route("GET", f"{ADMIN_PATH}/vitals", vitals.listing.vitals, may_look_at_all, VITALS),
        Route("POST", f"{ADMIN_PATH}/{{id}}/resolve", more.resolve, may_settle, acts.RESOLVE),
        Route("POST", f"{ADMIN_PATH}/{{id}}/override", more.override, may_settle, acts.OVERRIDE),
        Route("POST", f"{ADMIN_PATH}/{{id}}/cancel", more.cancel, may_settle, acts.CANCEL),
        Route("GET", PROVIDERS_PATH, providers.listings.providers, may_look_at_all, provider_replies.PROVIDERS),
        Route(
            "GET",
            f"{PROVIDERS_PATH}/{{name}}/balance",
            providers.listings.balance,
            may_look_at_all,
            provider_replies.BALANCE,
        ),
        Route(
            "POST", f"{PROVIDERS_PATH}/{{name}}/suspend", providers.acts.suspend, may_settle, provider_replies.SUSPEND
        ),
        Route("POST", f"{PROVIDERS_PATH}/{{name}}/resume", providers.acts.resume, may_settle, provider_replies.RESUME),
        Route("POST", RETRY_PATH, bulk.jobs.retry, may_settle, bulk_replies.RETRY),
        Route("GET", RETRY_PATH, bulk.jobs.jobs, may_look_at_all, bulk_replies.JOBS),
        Route("GET", f"{RETRY_PATH}/{{job}}", bulk.jobs.job, may_look_at_all, bulk_replies.JOB),
        Route("GET", f"{RETRY_PATH}/{{job}}/rows", bulk.jobs.rows, may_look_at_all, bulk_replies.ROWS),
        Route("POST", f"{RETRY_PATH}/{{job}}/pause", bulk.jobs.pause, may_settle, bulk_replies.PAUSE),
        Route("POST", f"{RETRY_PATH}/{{job}}/resume", bulk.jobs.resume, may_settle, bulk_replies.RESUME),
        Route("POST", f"{RETRY_PATH}/{{job}}/cancel", bulk.jobs.cancel, may_settle, bulk_replies.CANCEL),
        Route("GET", LETTERS_PATH, letters.listings.letters, may_look_at_all, letter_replies.LETTERS),
        Route("POST", f"{LETTERS_PATH}/replay", letters.replays.replay, may_settle, letter_replies.REPLAY),
        Route(
            "GET",
            f"{LETTERS_PATH}/{{partition}}-{{offset}}",
            letters.listings.letter,
            may_look_at_all,
            letter_replies.LETTER,
        ),
        Route("GET", "/api/admin/alerts", alerts.listing.alerts, may_look_at_all, ALERTS),
        Route("GET", "/api/admin/audit", administration.audit, _ADMIN_ALONE, access_calls.AUDIT),
        Route("GET", "/api/admin/keys", administration.keys, _ADMIN_ALONE, access_calls.KEYS),
        Route("POST", "/api/admin/keys", administration.create_key, _ADMIN_ALONE, access_calls.CREATE_KEY),
        Route("DELETE", "/api/admin/keys/{id}", administration.revoke_key, _ADMIN_ALONE, access_calls.REVOKE_KEY),
        Route("GET", "/api/admin/users", administration.users, _ADMIN_ALONE, access_calls.USERS),
        Route("POST", "/api/admin/users", administration.create_user, _ADMIN_ALONE, access_calls.CREATE_USER),
        Route("PATCH", "/api/admin/users/{name}", administration.change_user, _ADMIN_ALONE, access_calls.CHANGE_USER),
        Route("GET", "/api/session", logins.session, may_look, login.SESSION),
        Route("POST", "/api/account/password", account.change_password, may_look_elsewhere, PASSWORD),
        Route("POST", "/login", logins.login, _ANYONE, login.LOGIN),
        Route("POST", "/logout", logins.logout, may_look, login.LOGOUT),
        Route("GET", "/livez", livez, _ANYONE, replies.LIVEZ),
        Route("GET", "/readyz", readyz, _ANYONE, replies.READYZ),
        Route("GET", "/metrics", metrics, _ANYONE, replies.METRICS),
    )
