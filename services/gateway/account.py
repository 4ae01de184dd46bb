"""POST /api/account/password: a person's own password."""

from typing import Annotated, Final

import structlog
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from services.gateway import body, passwords
from services.gateway.access import Caller
from services.gateway.address import Addresses, household
from services.gateway.audit import Audit, By
from services.gateway.database import Database, DatabaseAwayError
from services.gateway.description import Description, Reply
from services.gateway.login import Done, wait
from services.gateway.passwords import MAX_LENGTH, MIN_LENGTH, Passwords
from services.gateway.problem import FOREIGN, INVALID_REQUEST, TOO_MANY_LOGINS, WRONG_PASSWORD, Problem, unavailable

_TIMEOUT_S: Final = 5.0

log = structlog.get_logger()


class NewPassword(BaseModel):
    """The one that is, and the one that is to be."""

    model_config = ConfigDict(
        strict=True,
        frozen=True,
        extra="forbid",
        json_schema_extra={
            "examples": [{"current": "correct horse battery staple", "new": "a horse that staples batteries"}]
        },
    )

    current: Annotated[SecretStr, Field(min_length=1, max_length=MAX_LENGTH)]
    new: Annotated[SecretStr, Field(min_length=MIN_LENGTH, max_length=MAX_LENGTH)]


class Account:
    def __init__(self, database: Database, hashing: Passwords, audit: Audit, addresses: Addresses) -> None:
        self._database = database
        self._hashing = hashing
        self._audit = audit
        self._addresses = addresses

    async def change_password(self, request: web.Request, caller: Caller) -> web.Response:
        await self.changed(request, caller, await body.read(request, NewPassword))
        return body.json_response({"success": True}, headers={"Cache-Control": "no-store"})

    async def changed(self, request: web.Request, caller: Caller, said: NewPassword) -> None:
        """Ends the caller's other sessions. Problem 400, 403, 429 or 503."""
        if caller.session is None:
            raise Problem(INVALID_REQUEST, "a key has no password: log in")
        name, by = caller.actor.removeprefix("user:"), By(caller.actor, self._addresses.of(request))
        new = said.new.get_secret_value()
        try:
            passwords.check(name, new)
        except ValueError as error:
            raise Problem(INVALID_REQUEST, f"new: {str(error).removeprefix('password: ')}") from None
        try:
            stored = await self._proven(name, by, said.current.get_secret_value())
            row = await self._database.fetchrow(
                "change_own_password",
                *(by.actor, by.address, name, caller.session.token_hash, await self._hashing.hashed(new), stored),
                household(by.address),
                timeout_s=_TIMEOUT_S,
            )
        except DatabaseAwayError as error:
            raise unavailable("the password cannot be changed now: the database is away", retry_after_s=2) from error
        if row is None:
            raise Problem(WRONG_PASSWORD, "current: the password has changed meanwhile")

    async def _proven(self, name: str, by: By, current: str) -> str:
        """The hash of what they know. Counted and slowed down as a login is. Problem 403 or 429; DatabaseAwayError."""
        row = await self._database.fetchrow("try_login", name, household(by.address), timeout_s=_TIMEOUT_S)
        if row is None or not row["allowed"]:
            log.info("login_throttled", address=by.address)
            raise wait(1 if row is None else row["wait_s"])
        if not await self._hashing.matches(row["password_hash"], current):
            await self._audit.note(by, "password_change_failed", name)
            raise Problem(WRONG_PASSWORD, "current: this is not the password")
        return str(row["password_hash"])


PASSWORD: Final = Description(
    "Change one's own password",
    {200: Reply("It counts from now on; other sessions of the user have ended.", Done)},
    "Access",
    "For people who logged in. A wrong `current` counts as a failed login does.",
    body=NewPassword,
    problems=(FOREIGN, WRONG_PASSWORD, TOO_MANY_LOGINS),
)
