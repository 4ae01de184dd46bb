"""API keys, `id.secret`: made, listed, revoked, and checked on each call from a cache."""

from __future__ import annotations  # asyncpg's classes take parameters in its stubs alone

import hashlib
import hmac
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

import asyncpg

from services.gateway import metrics
from services.gateway.access import LOCAL_ACCOUNT, Caller, Role
from services.gateway.audit import COMMAND_LINE, By
from services.gateway.database import QUERIES, Database, DatabaseAwayError
from services.gateway.problem import unavailable

FRESH_S: Final = 10.0
UNKNOWN_FRESH_S: Final = 10.0
GOOD_WHILE_AWAY_S: Final = 12 * 3600.0
"""How long a key that was good is taken for good while PostgreSQL is away."""

_CACHED_KEYS: Final = 10_000
_TIMEOUT_S: Final = 1.0
_TOKEN = re.compile(r"([a-z0-9]{8,40})\.([A-Za-z0-9_-]{20,100})", re.ASCII)
# No colon: an order id is derived from account:key.
_ACCOUNT = re.compile(r"[A-Za-z0-9._@-]{1,100}", re.ASCII)


def _hash(secret: str) -> bytes:
    """A plain SHA-256: the secret is 256 random bits, so there is no guessing that a slow hash would slow down."""
    return hashlib.sha256(secret.encode()).digest()


@dataclass(frozen=True, slots=True)
class _Known:
    secret_hash: bytes
    caller: Caller
    at_s: float
    expires_at_s: float
    """By the wall clock; infinity for one that never does."""


class KeyCache:
    """What PostgreSQL said about keys. Unknown ids are kept apart, so that guessing pushes no good key out."""

    def __init__(
        self,
        database: Database,
        clock_s: Callable[[], float] = time.monotonic,
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._clock_s = clock_s
        self._wall_s = wall_s
        self._used: dict[str, float] = {}
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._unknown: OrderedDict[str, float] = OrderedDict()

    def is_guess(self, token: str) -> bool:
        """Whether PostgreSQL would be asked about an id that it never said anything about."""
        match = _TOKEN.fullmatch(token)
        return match is not None and match[1] not in self._known and not self._is_unknown(match[1])

    async def caller(self, token: str) -> Caller | None:
        """Whose key it is, None where it is nobody's. Problem 503 where that cannot be found out now."""
        match = _TOKEN.fullmatch(token)
        if match is None:
            return None
        known = await self._find(match[1])
        if known is None or not hmac.compare_digest(known.secret_hash, _hash(match[2])):
            return None
        now_s = self._wall_s()
        if known.expires_at_s <= now_s:
            return None
        self._used[match[1]] = now_s
        return known.caller

    def forget(self, key_id: str) -> None:
        self._known.pop(key_id, None)
        self._unknown.pop(key_id, None)

    def doubt(self) -> None:
        """Word of a revocation may have been missed: each key is looked up again before it is next honoured."""
        self._unknown.clear()
        for key_id, known in self._known.items():
            self._known[key_id] = replace(known, at_s=min(known.at_s, self._clock_s() - FRESH_S))

    async def note_use(self) -> None:
        """Write down when keys were last used. DatabaseAwayError; they are noted the next time then."""
        used = self._used
        self._used = {}
        if not used:
            return
        times = [datetime.fromtimestamp(at_s, UTC) for at_s in used.values()]
        try:
            await self._database.fetchrow("keys_used", list(used), times, timeout_s=_TIMEOUT_S)
        except DatabaseAwayError:
            self._used = used | self._used
            raise

    def _is_unknown(self, key_id: str) -> bool:
        return self._clock_s() - self._unknown.get(key_id, float("-inf")) < UNKNOWN_FRESH_S

    async def _find(self, key_id: str) -> _Known | None:
        now_s = self._clock_s()
        known = self._known.get(key_id)
        if known is not None and now_s - known.at_s < FRESH_S:
            self._known.move_to_end(key_id)
            metrics.key_checks_total.labels("cache").inc()
            return known
        if self._is_unknown(key_id):
            metrics.key_checks_total.labels("cache").inc()
            return None
        try:
            row = await self._database.fetchrow("key", key_id, timeout_s=_TIMEOUT_S)
        except DatabaseAwayError:
            if known is not None and now_s - known.at_s < GOOD_WHILE_AWAY_S:
                metrics.key_checks_total.labels("cache_while_away").inc()
                return known
            raise unavailable("the API key cannot be checked now: the database is away", retry_after_s=2) from None
        metrics.key_checks_total.labels("database").inc()
        self.forget(key_id)
        if row is None:
            _remember(self._unknown, key_id, now_s)
            return None
        expires_at = row["expires_at"]
        expires_at_s = float("inf") if expires_at is None else expires_at.timestamp()
        caller = Caller(row["account"], row["id"], frozenset({Role(row["role"])}), ends_at_s=expires_at_s)
        fresh = _Known(row["secret_hash"], caller, now_s, expires_at_s)
        _remember(self._known, key_id, fresh)
        return fresh


def _remember(cache: OrderedDict[str, Any], key_id: str, what: object) -> None:
    cache[key_id] = what
    if len(cache) > _CACHED_KEYS:
        cache.popitem(last=False)


@dataclass(frozen=True, slots=True)
class New:
    """A key that is yet to be written down; nobody can show its secret again."""

    token: str
    columns: tuple[Any, ...]


def new(role: Role, account: str | None, name: str = "", expires_at: datetime | None = None) -> New:
    """Without an account the key is one of its own. ValueError for an account that cannot be one."""
    key_id, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
    account = key_id if account is None else account
    if not _ACCOUNT.fullmatch(account):
        raise ValueError("an account is 1 to 100 letters, digits or . _ @ -")
    if account == LOCAL_ACCOUNT:
        raise ValueError(f"the account {LOCAL_ACCOUNT} is that of callers without a key")
    return New(f"{key_id}.{secret}", (key_id, _hash(secret), role, account, name, expires_at))


async def create(
    connection: asyncpg.Connection[Any],
    role: Role,
    account: str | None,
    name: str = "",
    *,
    expires_at: datetime | None = None,
    by: By = COMMAND_LINE,
) -> str:
    """A new key, `id.secret`. ValueError as of `new`."""
    made = new(role, account, name, expires_at)
    await connection.execute(QUERIES["create_key"], by.actor, by.address, *made.columns)
    return made.token


async def list_all(connection: asyncpg.Connection[Any]) -> list[asyncpg.Record]:
    """Every key, revoked ones too, without its secret's hash; oldest first."""
    return await connection.fetch(QUERIES["list_keys"])


async def revoke(connection: asyncpg.Connection[Any], key_id: str, by: By = COMMAND_LINE) -> bool:
    """False where there was no such key to revoke."""
    return await connection.fetchrow(QUERIES["revoke_key"], by.actor, by.address, key_id) is not None
