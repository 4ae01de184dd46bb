"""What all pages have in common: who looks at them, where else one may go, and errors in words."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

import orjson
from aiohttp import web

from schemas.bundle import NETWORKS
from services.gateway import body
from services.gateway.access import FORM_TOKEN, Caller, Permission, Role
from services.gateway.alerts.listing import AlertShown
from services.gateway.dashboard import words
from services.gateway.dashboard.rendering import LOGIN_PATH, PATH, Assets, Templates
from services.gateway.dead_letters.masking import masked
from services.gateway.description import Description, Reply
from services.gateway.problem import UNAUTHENTICATED, UNAVAILABLE, Kind, Problem, from_http_error
from services.gateway.routes import Handler, Route

TAG: Final = "Dashboard"
STAFF: Final = Permission(frozenset({Role.VIEWER, Role.OPERATOR}))
OPERATORS: Final = Permission(frozenset({Role.OPERATOR}))
ADMINS: Final = Permission()
ANYONE: Final = Permission(anyone=True)


class Page(NamedTuple):
    """An entry of the header."""

    name: str
    label: str
    path: str
    for_admins: bool = False


PAGES: Final = (
    Page("orders", "Orders", PATH),
    Page("review", "Review", f"{PATH}/review"),
    Page("retries", "Retries", f"{PATH}/retries"),
    Page("providers", "Providers", f"{PATH}/providers"),
    Page("letters", "Dead letters", f"{PATH}/dead-letters"),
    Page("health", "Health", f"{PATH}/health"),
    Page("audit", "Audit", f"{PATH}/audit", for_admins=True),
    Page("access", "Keys and users", f"{PATH}/access", for_admins=True),
)


class Site:
    def __init__(self, alerts: Callable[[], Sequence[AlertShown]]) -> None:
        """`alerts`: those that stand and those that did; Problem 503 where they are not known."""
        self.alerts = alerts
        self.assets = Assets()
        self._templates = Templates(
            asset=self.assets.address,
            here=PATH,
            form_token=FORM_TOKEN,
            states=words.STATES,
            networks=NETWORKS,
            size=words.size,
            tone=words.tone,
            state_name=words.state_name,
            next_act=words.next_act,
            offers=words.offers,
            happened=words.happened,
            at_risk=words.at_risk,
            iso=words.iso,
            later=words.later,
            alert_name=words.alert_name,
            figure=words.figure,
            job_tone=words.job_tone,
            breaker=words.breaker,
            pretty=pretty,
            order_path=order_path,
        )

    def page(self, template: str, caller: Caller, page: str, *, status: int = 200, **said: Any) -> web.Response:
        """Phone numbers are masked, unless `whole_phones`."""
        whole = may_act(caller) and bool(said.get("whole_phones"))
        return self._templates.page(
            template,
            status=status,
            page=page,
            pages=[one for one in PAGES if not one.for_admins or Role.ADMIN in caller.roles],
            actor=caller.actor,
            csrf=caller.csrf_token or "",
            may_act=may_act(caller),
            phone=partial(words.phone, whole=whole),
            complaint=partial(words.complaint, whole=whole),
            code=partial(words.code, whole=whole),
            aside=str if may_act(caller) else masked,
            alerts=self._standing(),
            **said,
        )

    def _standing(self) -> Sequence[AlertShown]:
        """For the banner; the page about alerts says where they are not known."""
        try:
            return [alert for alert in self.alerts() if alert.cleared_at is None and not alert.silenced]
        except Problem:
            return ()

    def apart(
        self, template: str, page: str, *, status: int = 200, headers: Mapping[str, str] | None = None, **said: Any
    ) -> web.Response:
        """Whoever looks at it: nothing is known of them."""
        pages = [one for one in PAGES if not one.for_admins]
        return self._templates.page(
            template, status=status, headers=dict(headers or {}), page=page, pages=pages, actor="", csrf="", **said
        )

    @web.middleware
    async def in_words(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Errors as pages, to whoever looks at pages; who is not logged in is led to where that is done."""
        try:
            return await handler(request)
        except (Problem, web.HTTPException) as error:
            if not request.path.startswith("/dashboard/") or "text/html" not in request.headers.get("Accept", ""):
                raise
            problem = error if isinstance(error, Problem) else from_http_error(error)
        if problem.kind is UNAUTHENTICATED:
            # What was sent is lost; what was looked at is found again.
            where = f"{LOGIN_PATH}?{urlencode({'next': request.path_qs if request.method == 'GET' else PATH})}"
            return web.Response(status=303, headers={"Location": where})
        return self.apart(
            "problem.html",
            "problem",
            status=problem.kind.status,
            headers=problem.headers,
            title=problem.kind.title,
            detail=problem.detail,
            back=request.path if request.method != "GET" else PATH,
            again_s=problem.headers.get("Retry-After", "") if problem.kind is UNAVAILABLE else "",
        )


def page_route(
    path: str,
    handler: Handler,
    about: str,
    permission: Permission = STAFF,
    *,
    named: Any = None,
    content: str = "text/html",
    problems: tuple[Kind, ...] = (),
) -> Route:
    """Pages are for people: none of their parameters is a promise."""
    replies = {200: Reply("The page.", content)}
    return Route("GET", path, handler, permission, Description(about, replies, TAG, path=named, problems=problems))


async def told(handler: Handler, request: web.Request, caller: Caller, query: Mapping[str, str]) -> Any:
    """What a call of the API answers to a query: a page shows that and nothing else. Its Problems pass."""
    answer = await handler(request.clone(rel_url=request.rel_url.with_query(query), headers={}), caller)
    if not isinstance(answer, web.Response) or not isinstance(answer.body, bytes):
        raise TypeError("the call answers no JSON")
    return orjson.loads(answer.body)


def may_act(caller: Caller) -> bool:
    return bool(caller.roles & {Role.OPERATOR, Role.ADMIN})


def address(query: Mapping[str, str], path: str = PATH) -> str:
    said = {name: value for name, value in query.items() if value}
    return f"{path}?{urlencode(said)}" if said else path


def filled(request: web.Request) -> dict[str, str]:
    """The query without what a form left empty."""
    return {name: value for name, value in request.query.items() if value}


def order_path(order_id: object) -> str:
    return f"{PATH}/orders/{order_id}"


def pretty(event: Any) -> str:
    return orjson.dumps(event, default=body.plain, option=orjson.OPT_INDENT_2).decode()
