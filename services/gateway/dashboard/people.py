"""Pages about people: log in and out, who did what, API keys, users."""

from typing import Final
from urllib.parse import urlencode

from aiohttp import web

from services.gateway.access import Caller, Permission, Role
from services.gateway.administration import Administration
from services.gateway.dashboard.rendering import LOGIN_PATH, PATH
from services.gateway.dashboard.site import ADMINS, ANYONE, TAG, Site, address, filled, page_route, told
from services.gateway.description import Description, Reply
from services.gateway.login import Logins
from services.gateway.problem import (
    FOREIGN,
    INVALID_REQUEST,
    LOGIN_FAILED,
    TOO_LARGE,
    TOO_MANY_LOGINS,
    TOO_SLOW,
    UNAVAILABLE,
    WRONG_TYPE,
    Problem,
)
from services.gateway.routes import Route

LOGOUT_PATH: Final = "/dashboard/logout"
AUDIT_PATH: Final = f"{PATH}/audit"
ACCESS_PATH: Final = f"{PATH}/access"
_EVERYBODY: Final = Permission(frozenset(Role))
_SAID_AT_THE_LOGIN: Final = frozenset({INVALID_REQUEST, LOGIN_FAILED, TOO_MANY_LOGINS, UNAVAILABLE})


class PeoplePages:
    def __init__(self, site: Site, logins: Logins, administration: Administration) -> None:
        self._site = site
        self._logins = logins
        self._administration = administration

    def routes(self) -> tuple[Route, ...]:
        return (
            page_route(AUDIT_PATH, self.audit, "Who did what", ADMINS),
            page_route(ACCESS_PATH, self.access, "API keys and users", ADMINS),
            page_route(f"{PATH}/account", self.account, "One's own password"),
            page_route(LOGIN_PATH, self.login, "Where people log in", ANYONE),
            Route("POST", LOGIN_PATH, self.log_in, ANYONE, _LOGIN),
            Route("POST", LOGOUT_PATH, self.log_out, _EVERYBODY, _LOGOUT),
        )

    async def audit(self, request: web.Request, caller: Caller) -> web.Response:
        query, fault = filled(request), ""
        try:
            said = await told(self._administration.audit, request, caller, query)
        except Problem as problem:
            if problem.kind is not INVALID_REQUEST:
                raise
            said, fault = {"audit": [], "next": None}, problem.detail
        following = said["next"] and address({**query, "cursor": str(said["next"])}, AUDIT_PATH)
        return self._site.page(
            "audit.html", caller, "audit", deeds=said["audit"], next=following, typed=query, fault=fault
        )

    async def access(self, request: web.Request, caller: Caller) -> web.Response:
        keys = await told(self._administration.keys, request, caller, {})
        users = await told(self._administration.users, request, caller, {})
        return self._site.page("access.html", caller, "access", keys=keys["keys"], users=users["users"], roles=[*Role])

    async def account(self, _request: web.Request, caller: Caller) -> web.Response:
        return self._site.page("account.html", caller, "account")

    async def login(self, request: web.Request, _caller: Caller) -> web.Response:
        return self._site.apart("login.html", "login", next=_of_this_site(request), fault="")

    async def log_in(self, request: web.Request, _caller: Caller) -> web.Response:
        following = _of_this_site(request)
        try:
            return await self._logins.login_by_form(request, web.Response(status=303, headers={"Location": following}))
        except Problem as problem:
            if problem.kind not in _SAID_AT_THE_LOGIN:
                raise
            return self._site.apart(
                "login.html",
                "login",
                status=problem.kind.status,
                headers=problem.headers,
                next=following,
                fault=problem.detail,
            )

    async def log_out(self, request: web.Request, caller: Caller) -> web.Response:
        where = f"{LOGIN_PATH}?{urlencode({'next': PATH})}"
        return await self._logins.left(request, caller, web.Response(status=303, headers={"Location": where}))


def _of_this_site(request: web.Request) -> str:
    """Where to go after the login: `//elsewhere` is somebody else's."""
    wanted = request.query.get("next", PATH)
    return wanted if wanted.startswith("/dashboard/") else PATH


_LOGIN: Final = Description(
    "Log in by a form",
    {303: Reply("A session, and the page that was wanted.", headers={"Location": "The page.", "Set-Cookie": "It."})},
    TAG,
    "`username` and `password` as fields of a form. What is refused is told by the page again.",
    problems=(INVALID_REQUEST, LOGIN_FAILED, FOREIGN, TOO_MANY_LOGINS, TOO_SLOW, TOO_LARGE, WRONG_TYPE),
)
_LOGOUT: Final = Description(
    "Log out by a form",
    {303: Reply("The session is over.", headers={"Location": "The login."})},
    TAG,
    "`csrf` as a field of a form.",
    problems=(INVALID_REQUEST, TOO_SLOW, TOO_LARGE, WRONG_TYPE),
)
