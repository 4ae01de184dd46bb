"""Who is calling, and what they may do. Denied by default."""

import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol
from urllib.parse import urlsplit

import structlog
from aiohttp import hdrs, web

from services.gateway import body
from services.gateway.address import Addresses, household
from services.gateway.problem import FORBIDDEN, FOREIGN, TOO_MANY_GUESSES, UNAUTHENTICATED, WRONG_HOST, Problem
from services.gateway.rates import Quota, Rates
from services.settings import Environment, Settings

LOCAL_ACCOUNT: Final = "local"
CSRF_HEADER: Final = "X-CSRF-Token"
FORM_TOKEN: Final = "csrf"  # noqa: S105 - a field's name
"""What a form without script sends instead of the header."""

GUESSES_PER_S: Final = 1.0
GUESSES_AT_ONCE: Final = 50
"""Of one address, each a question to PostgreSQL about a key or a session that nobody has."""

_BEARER = re.compile(r"bearer +(\S+) *", re.IGNORECASE)
_LOOPBACK_HOST = re.compile(r"(?:127\.0\.0\.1|localhost|\[::1\])(?::\d{1,5})?", re.ASCII | re.IGNORECASE)
_LOOPBACK_PEERS = ("127.", "::1", "::ffff:127.")
# A proxy on this machine speaks for strangers.
_FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Via")
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
# Asked by machines that know an address alone.
_NAMELESS: Final = frozenset({"/livez", "/readyz", "/metrics"})

log = structlog.get_logger()


class Role(StrEnum):
    PURCHASER = "purchaser"
    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Session:
    """Of somebody who logged in."""

    token_hash: bytes
    csrf_token: str


@dataclass(frozen=True, slots=True)
class Caller:
    account: str
    """Whose orders and Idempotency-Keys are meant."""
    actor: str
    """The key's id, or `user:NAME`: who it was, for the record."""
    roles: frozenset[Role]
    session: Session | None = None
    ends_at_s: float = float("inf")
    """By the wall clock: from then on who it is has to be asked again, of whoever still listens."""

    @property
    def csrf_token(self) -> str | None:
        """What the session's pages send with whatever changes something."""
        return None if self.session is None else self.session.csrf_token

    def may_see(self, account: object) -> bool:
        """An order of that account; a purchaser sees its own alone."""
        return account == self.account or bool(self.roles - {Role.PURCHASER})


LOCAL: Final = Caller(LOCAL_ACCOUNT, "local", frozenset({Role.PURCHASER, Role.OPERATOR}))
ANYONE: Final = Caller("", "anyone", frozenset())


class Credentials(Protocol):
    def is_guess(self, token: str) -> bool:
        """Whether nothing is known of it, so that it costs a question to PostgreSQL."""
        ...

    async def caller(self, token: str) -> Caller | None:
        """Whose it is, None where it is nobody's. Problem 503 where that cannot be found out now."""
        ...


@dataclass(frozen=True, slots=True)
class Permission:
    """Who may use a route; an admin may use every one."""

    roles: frozenset[Role] = frozenset()
    local: bool = False
    """In development a caller on this machine needs no key."""
    anyone: bool = False


class Access:
    def __init__(self, settings: Settings, keys: Credentials, sessions: Credentials, addresses: Addresses) -> None:
        self._development = settings.environment is Environment.DEVELOPMENT
        self._hosts = frozenset(host.lower() for host in settings.allowed_hosts)
        self._rates = Rates(settings.rate_limit_per_s, settings.rate_limit_burst)
        self._guesses = Rates(GUESSES_PER_S, GUESSES_AT_ONCE)
        self._addresses = addresses
        self._keys = keys
        self._sessions = sessions
        self._cookie = session_cookie(settings)

    async def caller(self, request: web.Request, permission: Permission) -> Caller:
        """Whoever is calling, if they may. Problem 401, 403 or 503 otherwise."""
        if permission.anyone:
            return ANYONE
        caller = await self._known(request, permission)
        if not caller.roles & (permission.roles | {Role.ADMIN}):
            log.info("access_denied", actor=caller.actor, method=request.method, path=request.path)
            needed = ", ".join(sorted(permission.roles | {Role.ADMIN}))
            raise Problem(FORBIDDEN, f"this needs one of the roles: {needed}")
        return caller

    def quota(self, caller: Caller) -> Quota | None:
        """What the caller has left, with this request; None for one who is not limited."""
        return None if caller is ANYONE or caller is LOCAL else self._rates.take(caller.actor)

    def check_host(self, request: web.Request) -> None:
        """Problem 421 for a name that is not the gateway's."""
        if self._hosts and request.path not in _NAMELESS:
            said = request.headers.getall(hdrs.HOST, ())
            if len(said) != 1 or said[0].lower() not in self._hosts:
                raise Problem(WRONG_HOST, "Host: not one of ALLOWED_HOSTS")

    async def _known(self, request: web.Request, permission: Permission) -> Caller:
        token = _token(request)
        if token is not None:
            caller = await self._asked(request, self._keys, token)
            if caller is None:
                raise _unauthenticated("the API key is not valid")
            return caller
        cookie = request.cookies.get(self._cookie)
        if cookie is not None:
            caller = await self._asked(request, self._sessions, cookie)
            if caller is None:
                raise _unauthenticated("the session has ended; log in again")
            if request.method not in _SAFE:
                await self._check_own_page(request, caller)
            return caller
        if permission.local and self._development and is_local(request):
            return LOCAL
        raise _unauthenticated("send an API key: Authorization: Bearer <id.secret>, or X-API-Key: <id.secret>")

    async def _asked(self, request: web.Request, credentials: Credentials, token: str) -> Caller | None:
        """Guesses are counted before they are looked at, by address; what was good is no guess. Problem 429 or 503."""
        if not credentials.is_guess(token):
            return await credentials.caller(token)
        address = household(self._addresses.of(request))
        quota = self._guesses.take(address)
        if quota is not None and not quota.allowed:
            log.info("guesses_throttled", address=address)
            wait = {"Retry-After": quota.headers["Retry-After"]}
            raise Problem(TOO_MANY_GUESSES, "too many credentials from this address were wrong; wait", headers=wait)
        wrong = False
        try:
            caller = await credentials.caller(token)
            wrong = caller is None
            return caller
        finally:
            if not wrong:
                self._guesses.give_back(address)

    async def _check_own_page(self, request: web.Request, caller: Caller) -> None:
        """What a browser sends by itself, the cookie, proves nothing about who wrote the page. Problem 403."""
        check_origin(request, required=True, https=not self._development)
        said: Sequence[str] = request.headers.getall(CSRF_HEADER, ())
        if not said and request.content_type == body.FORM:
            said = [(await body.form(request)).get(FORM_TOKEN, "")]
        wanted = (caller.csrf_token or "").encode()
        if len(said) != 1 or not hmac.compare_digest(said[0].encode(errors="replace"), wanted):
            raise Problem(FOREIGN, f"{CSRF_HEADER}: send the csrfToken that the login answered")


def session_cookie(settings: Settings) -> str:
    """Its name. With `__Host-` browsers take it over HTTPS alone, and from this very host alone."""
    return "fulfillment-session" if settings.environment is Environment.DEVELOPMENT else "__Host-fulfillment-session"


def check_origin(request: web.Request, *, required: bool, https: bool) -> None:
    """Problem 403 for a request that a page from elsewhere sent."""
    origins: Sequence[str] = request.headers.getall(hdrs.ORIGIN, ())
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in {"same-origin", "none"}:
        raise Problem(FOREIGN, "Sec-Fetch-Site: a page from elsewhere sent this")
    if not origins and not required:
        return
    if len(origins) != 1 or not _is_own(origins[0], request.headers.get(hdrs.HOST, ""), https=https):
        raise Problem(FOREIGN, "Origin: must be the gateway's own")


def _is_own(origin: str, host: str, *, https: bool) -> bool:
    try:
        said = urlsplit(origin)
    except ValueError:
        return False
    schemes = {"https"} if https else {"http", "https"}
    return said.scheme in schemes and bool(host) and said.netloc.lower() == host.lower()


def is_local(request: web.Request) -> bool:
    """From this machine, to this machine, and not sent by a web page from elsewhere nor through a proxy."""
    headers = request.headers
    host = headers.get(hdrs.HOST, "")
    return (
        (request.remote or "").startswith(_LOOPBACK_PEERS)
        and _LOOPBACK_HOST.fullmatch(host) is not None
        and headers.get(hdrs.ORIGIN, f"http://{host}") == f"http://{host}"
        and not any(name in headers for name in _FORWARDED)
    )


def _token(request: web.Request) -> str | None:
    said = request.headers.getall("X-API-Key", [])
    for value in request.headers.getall(hdrs.AUTHORIZATION, []):
        bearer = _BEARER.fullmatch(value)
        if bearer is None:
            raise _unauthenticated("Authorization: only Bearer <id.secret> is understood")
        said.append(bearer[1])
    if len(set(said)) > 1:
        raise _unauthenticated("more than one API key was sent")
    return said[0] if said else None


def _unauthenticated(detail: str) -> Problem:
    return Problem(UNAUTHENTICATED, detail, headers={"WWW-Authenticate": 'Bearer realm="fulfillment"'})
