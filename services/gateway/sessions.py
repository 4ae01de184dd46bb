"""Sessions of the dashboard's users: a cookie of 256 random bits, of which PostgreSQL holds the hash."""

import hashlib
import re
import secrets
import time
from collections import OrderedDict
from dataclasses import replace
from typing import Final

from aiohttp import web

from services.gateway.access import Caller, Role, Session, session_cookie
from services.gateway.address import household
from services.gateway.audit import By
from services.gateway.database import Database, DatabaseAwayError
from services.gateway.problem import unavailable
from services.settings import Environment, Settings

_TIMEOUT_S: Final = 5.0
_REMEMBERED: Final = 10_000
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)


class Sessions:
    """Asked of PostgreSQL at each call: an end counts at once, everywhere."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._database = database
        self._idle_s = settings.login_idle_s
        self._life_s = settings.login_life_s
        self._seen: OrderedDict[bytes, bool] = OrderedDict()
        """Whether it lived when it was last asked about; what is over stays so."""
        self._name = session_cookie(settings)
        self._secure = settings.environment is not Environment.DEVELOPMENT

    def is_guess(self, token: str) -> bool:
        """Whether PostgreSQL would be asked about a token that it never said anything about."""
        return _TOKEN.fullmatch(token) is not None and _hash(token) not in self._seen

    async def caller(self, token: str) -> Caller | None:
        """Whose session it is, None where it has ended or never was. Problem 503 where nobody can be asked."""
        if not _TOKEN.fullmatch(token) or self._seen.get(_hash(token)) is False:
            return None
        try:
            row = await self._database.fetchrow(
                "session", _hash(token), self._idle_s, self._life_s, timeout_s=_TIMEOUT_S
            )
        except DatabaseAwayError:
            raise unavailable("the session cannot be checked now: the database is away", retry_after_s=2) from None
        self._note(_hash(token), lives=row is not None)
        if row is None:
            return None
        return replace(caller_of(row["name"], Role(row["role"]), token), ends_at_s=time.time() + row["lives_s"])

    def _note(self, token_hash: bytes, *, lives: bool) -> None:
        self._seen[token_hash] = lives
        self._seen.move_to_end(token_hash)
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)

    async def begin(
        self, request: web.Request, by: By, name: str, credential: int, password_hash: str | None
    ) -> str | None:
        """A new session's token, and the one that the browser had before ends; `password_hash` replaces the user's.

        None where the credential that was proven has changed meanwhile.
        """
        token = secrets.token_urlsafe(32)
        before = _hash(request.cookies.get(self._name, ""))
        begun = await self._database.fetchrow(
            "begin_session",
            *(by.actor, by.address, name, _hash(token), before, password_hash, household(by.address), credential),
            timeout_s=_TIMEOUT_S,
        )
        return token if begun is not None else None

    async def end(self, by: By, session: Session) -> None:
        await self._database.fetchrow("end_session", by.actor, by.address, session.token_hash, timeout_s=_TIMEOUT_S)

    async def forget(self) -> None:
        """Those that have ended by themselves. DatabaseAwayError."""
        await self._database.fetchrow("forget_sessions", self._idle_s, self._life_s, timeout_s=60)

    def give(self, response: web.Response, token: str) -> None:
        """The cookie: no script reads it, and no foreign page's form sends it."""
        response.set_cookie(
            self._name, token, max_age=int(self._life_s), path="/", httponly=True, secure=self._secure, samesite="Lax"
        )

    def take(self, response: web.Response) -> None:
        response.del_cookie(self._name, path="/", httponly=True, secure=self._secure, samesite="Lax")


def caller_of(name: str, role: Role, token: str) -> Caller:
    # No colon in an account: an order id is derived from account:key.
    return Caller(f"user.{name}", f"user:{name}", frozenset({role}), Session(_hash(token), _csrf_token(token)))


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="surrogateescape")).digest()


def _csrf_token(token: str) -> str:
    """Known to whoever was told it by the gateway, not to whoever only makes a browser send the cookie."""
    return hashlib.sha256(f"csrf {token}".encode()).hexdigest()
