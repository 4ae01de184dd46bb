"""POST /login and /logout, GET /api/session: people at the dashboard."""

import asyncio
from collections import Counter
from typing import Annotated, Final, Literal

import structlog
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from services.gateway import body
from services.gateway.access import Caller, Role, check_origin
from services.gateway.address import Addresses, household
from services.gateway.audit import Audit, By
from services.gateway.database import Database, DatabaseAwayError
from services.gateway.description import Description, Reply
from services.gateway.passwords import MAX_LENGTH, Passwords
from services.gateway.problem import FOREIGN, LOGIN_FAILED, TOO_MANY_LOGINS, Problem, unavailable
from services.gateway.sessions import Sessions, caller_of
from services.settings import Environment, Settings

_TIMEOUT_S: Final = 5.0
_AT_ONCE: Final = 2
_WAITING: Final = 20
_WAITING_OF_ONE: Final = 5
"""From one address: a flood of theirs is not to keep others out."""
_TAG: Final = "Access"

log = structlog.get_logger()


class Login(BaseModel):
    model_config = ConfigDict(
        strict=True,
        frozen=True,
        json_schema_extra={"examples": [{"username": "ama", "password": "correct horse battery staple"}]},
    )

    username: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]*$")]
    password: Annotated[SecretStr, Field(min_length=1, max_length=MAX_LENGTH)]


class Person(BaseModel):
    actor: str = Field(description="A key's id, `user:NAME`, or `local`.")
    account: str
    roles: list[Role]


class Known(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "success": True,
                    "caller": {"actor": "user:ama", "account": "user.ama", "roles": ["operator"]},
                    "csrfToken": "5d41402abc4b2a76b9719d911017c592ae2b6a1e7d9f3c8a4b0e6d2c1f5a7b93",
                }
            ]
        }
    )

    success: Literal[True]
    caller: Person
    csrf_token: str | None = Field(
        alias="csrfToken", description="To be sent as X-CSRF-Token with whatever changes something; null of a key."
    )


class Done(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"success": True}]})

    success: Literal[True]


class Logins:
    def __init__(
        self,
        settings: Settings,
        *,
        database: Database,
        sessions: Sessions,
        passwords: Passwords,
        audit: Audit,
        addresses: Addresses,
    ) -> None:
        self._database = database
        self._sessions = sessions
        self._passwords = passwords
        self._audit = audit
        self._addresses = addresses
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._waiting: Counter[str] = Counter()
        """By address."""
        self._https = settings.environment is not Environment.DEVELOPMENT

    async def login(self, request: web.Request, _caller: Caller) -> web.Response:
        check_origin(request, required=False, https=self._https)
        caller, token = await self.entered(request, await body.read(request, Login))
        response = known(caller)
        self._sessions.give(response, token)
        return response

    async def login_by_form(self, request: web.Request, answer: web.Response) -> web.Response:
        """`answer`, with the session. Problem 400, 401, 403 or 429, as for a login by script."""
        check_origin(request, required=False, https=self._https)
        fields = await body.form(request)
        said = body.modelled({name: fields.get(name, "") for name in Login.model_fields}, Login)
        _, token = await self.entered(request, said)
        self._sessions.give(answer, token)
        return answer

    async def entered(self, request: web.Request, said: Login) -> tuple[Caller, str]:
        """Who it is now, and the token of their session. Problem 401, 429 or 503."""
        name, password = said.username.lower(), said.password.get_secret_value()
        address = self._addresses.of(request)
        party = household(address)
        if self._waiting[party] >= _WAITING_OF_ONE or self._waiting.total() >= _WAITING:
            raise wait(1)
        self._waiting[party] += 1
        try:
            # A flood of logins must not take the connections that the purchases need.
            async with self._room:
                role, token = await self._session(request, name, password, address)
        except DatabaseAwayError as error:
            raise unavailable("nobody can log in now: the database is away", retry_after_s=2) from error
        finally:
            self._waiting[party] -= 1
            self._waiting += Counter()  # forgets those of whom nothing waits
        return caller_of(name, role, token), token

    async def _session(self, request: web.Request, name: str, password: str, address: str) -> tuple[Role, str]:
        """The user's role and a new session's token. Problem 401 or 429; DatabaseAwayError."""
        row = await self._database.fetchrow("try_login", name, household(address), timeout_s=_TIMEOUT_S)
        if row is None or not row["allowed"]:
            log.info("login_throttled", address=address)
            raise wait(1 if row is None else row["wait_s"])
        if await self._passwords.matches(row["password_hash"], password):
            renewed = await self._passwords.renewed(row["password_hash"], password)
            by = By(f"user:{name}", address)
            token = await self._sessions.begin(request, by, name, row["credential"], renewed)
            if token is not None:
                return Role(row["role"]), token
        # Only a name that exists is noted: what else is typed there may be a password.
        await self._audit.note(By("anyone", address), "login_failed", row["name"] or "")
        raise Problem(LOGIN_FAILED, "the name or the password is wrong")

    async def logout(self, request: web.Request, caller: Caller) -> web.Response:
        """Of a key there is nothing to end."""
        return await self.left(
            request, caller, body.json_response({"success": True}, headers={"Cache-Control": "no-store"})
        )

    async def left(self, request: web.Request, caller: Caller, answer: web.Response) -> web.Response:
        """`answer`, without the session. Problem 503."""
        if caller.session is not None:
            try:
                await self._sessions.end(By(caller.actor, self._addresses.of(request)), caller.session)
            except DatabaseAwayError as error:
                raise unavailable("the session cannot be ended now: the database is away") from error
        self._sessions.take(answer)
        return answer

    async def session(self, _request: web.Request, caller: Caller) -> web.Response:
        return known(caller)


def wait(wait_s: int) -> Problem:
    """To be raised."""
    return Problem(
        TOO_MANY_LOGINS, "too many logins failed; wait before the next try", headers={"Retry-After": str(wait_s)}
    )


def known(caller: Caller) -> web.Response:
    return body.json_response(
        {
            "success": True,
            "caller": {"actor": caller.actor, "account": caller.account, "roles": sorted(caller.roles)},
            "csrfToken": caller.csrf_token,
        },
        headers={"Cache-Control": "no-store"},
    )


LOGIN: Final = Description(
    "Log in",
    {200: Reply("A session, as a cookie.", Known, {"Set-Cookie": "The session's: HttpOnly, SameSite=Lax."})},
    _TAG,
    "Users are made by an admin, the first one on the command line. After some failures in a row, of a user or from an "
    "address, each next try has to wait longer.",
    body=Login,
    problems=(LOGIN_FAILED, FOREIGN, TOO_MANY_LOGINS),
)
LOGOUT: Final = Description(
    "Log out", {200: Reply("The session is over.", Done)}, _TAG, "With a key it does nothing.", problems=(FOREIGN,)
)
SESSION: Final = Description("Who is calling", {200: Reply("The caller.", Known)}, _TAG)
