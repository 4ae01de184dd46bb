"""/api/admin/keys, /api/admin/users, /api/admin/audit: who may call, and who did what."""

from collections.abc import Awaitable
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, TypeVar

from aiohttp import web
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, SecretStr

from schemas.orders import Timestamp
from services.gateway import body, keys, passwords, users
from services.gateway.access import Caller, Role
from services.gateway.address import Addresses
from services.gateway.audit import By
from services.gateway.database import Database, DatabaseAwayError
from services.gateway.description import Description, Reply
from services.gateway.login import Done
from services.gateway.passwords import Passwords
from services.gateway.problem import (
    FOREIGN,
    INVALID_REQUEST,
    NAME_TAKEN,
    OWN_ACCESS,
    UNKNOWN_KEY,
    UNKNOWN_USER,
    Problem,
    unavailable,
)
from services.gateway.reads.questions import Period, asked

_TIMEOUT_S: Final = 5.0
_TAG: Final = "Access"
_TEXT: Final = r"^[^\x00-\x1f\x7f]*$"
EXAMPLE_KEY: Final = "0a1b2c3d4e5f6071"
EXAMPLE_USER: Final = "ama"

Result = TypeVar("Result")


class NewKey(BaseModel):
    """`account`: whose orders it makes; without it, its own."""

    model_config = ConfigDict(
        strict=True,
        frozen=True,
        json_schema_extra={"examples": [{"role": "purchaser", "account": "shop-1", "name": "the shop's web server"}]},
    )

    role: Annotated[Role, Field(strict=False)]
    account: Annotated[str, Field(pattern=r"^[A-Za-z0-9._@-]{1,100}$")] | None = None
    name: Annotated[str, Field(max_length=200, pattern=_TEXT)] = ""
    expires_at: Timestamp | None = Field(default=None, alias="expiresAt")


class NewUser(BaseModel):
    model_config = ConfigDict(
        strict=True,
        frozen=True,
        json_schema_extra={
            "examples": [{"name": "kofi", "role": "viewer", "password": "correct horse battery staple"}]
        },
    )

    name: Annotated[str, Field(pattern=f"^{users.NAME}$")]
    role: Annotated[Role, Field(strict=False)]
    password: Annotated[SecretStr, Field(min_length=passwords.MIN_LENGTH, max_length=passwords.MAX_LENGTH)]


class UserChange(BaseModel):
    """What is not named stays. A new password, and `disabled`, end the user's sessions."""

    model_config = ConfigDict(
        strict=True, frozen=True, extra="forbid", json_schema_extra={"examples": [{"role": "operator"}]}
    )

    role: Annotated[Role, Field(strict=False)] | None = None
    password: Annotated[SecretStr, Field(min_length=passwords.MIN_LENGTH, max_length=passwords.MAX_LENGTH)] | None = (
        None
    )
    disabled: bool | None = None


class KeyNamed(BaseModel):
    id: Annotated[str, Field(description="The part before the dot.", examples=[EXAMPLE_KEY])]


class UserNamed(BaseModel):
    name: Annotated[str, Field(description="The user.", examples=[EXAMPLE_USER])]


class Deeds(Period):
    actor: Annotated[str, Field(max_length=200, pattern=_TEXT, description="Who.", examples=["user:ama"])] | None = None
    action: Annotated[str, Field(max_length=50, pattern=_TEXT, description="What.", examples=["login"])] | None = None
    target: Annotated[str, Field(max_length=200, pattern=_TEXT, description="To which key, user or order.")] | None = (
        None
    )
    cursor: Annotated[int, Field(ge=1, le=2**63 - 1, description="`next` of the page before.")] | None = None
    limit: Annotated[int, Field(ge=1, le=200, description="So many at most.")] = 50


class Key(BaseModel):
    id: str
    name: str
    role: Role
    account: str
    created_at: AwareDatetime
    expires_at: AwareDatetime | None
    last_used_at: AwareDatetime | None = Field(description="To some seconds.")
    revoked_at: AwareDatetime | None


class Keys(BaseModel):
    success: Literal[True]
    keys: list[Key]


class KeyMade(BaseModel):
    success: Literal[True]
    key: Key
    token: str = Field(description="`id.secret`: shown this once.")


class User(BaseModel):
    name: str
    role: Role
    created_at: AwareDatetime
    last_login_at: AwareDatetime | None
    disabled_at: AwareDatetime | None


class Users(BaseModel):
    success: Literal[True]
    users: list[User]


class UserMade(BaseModel):
    success: Literal[True]
    user: User


class Deed(BaseModel):
    id: int
    at: AwareDatetime
    actor: str
    action: str
    target: str
    address: str
    detail: dict[str, Any]


class Audited(BaseModel):
    success: Literal[True]
    audit: list[Deed]
    next: int | None = Field(description="The `cursor` of the next page; null on the last one.")


class Administration:
    def __init__(self, database: Database, hashing: Passwords, addresses: Addresses) -> None:
        self._database = database
        self._hashing = hashing
        self._addresses = addresses

    async def keys(self, _request: web.Request, _caller: Caller) -> web.Response:
        rows = await _there(self._database.fetch("list_keys", timeout_s=_TIMEOUT_S))
        return _private({"success": True, "keys": [dict(row) for row in rows]})

    async def create_key(self, request: web.Request, caller: Caller) -> web.Response:
        said = await body.read(request, NewKey)
        if said.expires_at is not None and said.expires_at <= datetime.now(UTC):
            raise Problem(INVALID_REQUEST, "expiresAt: is not ahead")
        with _named():
            made = keys.new(said.role, said.account, said.name, said.expires_at)
        by = self._by(request, caller)
        row = await self._row("create_key", by.actor, by.address, *made.columns)
        return _private({"success": True, "key": row, "token": made.token}, status=201)

    async def revoke_key(self, request: web.Request, caller: Caller) -> web.Response:
        key_id = request.match_info["id"]
        by = self._by(request, caller)
        if key_id == caller.actor:
            raise Problem(OWN_ACCESS, "a key does not revoke itself")
        if "\x00" in key_id or await self._row("revoke_key", by.actor, by.address, key_id) is None:
            raise Problem(UNKNOWN_KEY, "there is no such key to revoke")
        return _private({"success": True})

    async def users(self, _request: web.Request, _caller: Caller) -> web.Response:
        rows = await _there(self._database.fetch("list_users", timeout_s=_TIMEOUT_S))
        return _private({"success": True, "users": [dict(row) for row in rows]})

    async def create_user(self, request: web.Request, caller: Caller) -> web.Response:
        said = await body.read(request, NewUser)
        password_hash = await self._hashed(said.name, said.password)
        by = self._by(request, caller)
        row = await self._row("create_user", by.actor, by.address, said.name, password_hash, said.role)
        if row is None:
            raise Problem(NAME_TAKEN, f"there is a user {said.name} already")
        return _private({"success": True, "user": row}, status=201)

    async def change_user(self, request: web.Request, caller: Caller) -> web.Response:
        name = request.match_info["name"]
        said = await body.read(request, UserChange)
        if caller.actor == f"user:{name}" and (said.disabled or said.role not in {None, Role.ADMIN}):
            raise Problem(OWN_ACCESS, "an admin does not take away their own role")
        password_hash = None if said.password is None else await self._hashed(name, said.password)
        by = self._by(request, caller)
        row = None
        if "\x00" not in name:
            row = await self._row("change_user", by.actor, by.address, name, said.role, password_hash, said.disabled)
        if row is None:
            raise Problem(UNKNOWN_USER, "there is no such user")
        return _private({"success": True, "user": {column: row[column] for column in User.model_fields}})

    async def audit(self, request: web.Request, _caller: Caller) -> web.Response:
        said = asked(request, Deeds)
        rows = await _there(
            self._database.fetch(
                "audit",
                *(said.actor, said.action, said.target, said.since, said.until, said.cursor, said.limit + 1),
                timeout_s=_TIMEOUT_S,
            )
        )
        shown = [dict(row) for row in rows[: said.limit]]
        following = shown[-1]["id"] if len(rows) > said.limit else None
        return _private({"success": True, "audit": shown, "next": following})

    async def _hashed(self, name: str, password: SecretStr) -> str:
        with _named():
            passwords.check(name, password.get_secret_value())
        return await self._hashing.hashed(password.get_secret_value())

    async def _row(self, query: str, *values: Any) -> dict[str, Any] | None:
        row = await _there(self._database.fetchrow(query, *values, timeout_s=_TIMEOUT_S))
        return None if row is None else dict(row)

    def _by(self, request: web.Request, caller: Caller) -> By:
        return By(caller.actor, self._addresses.of(request))


async def _there(asked_for: Awaitable[Result]) -> Result:
    try:
        return await asked_for
    except DatabaseAwayError as error:
        raise unavailable("access cannot be looked after now: the database is away", retry_after_s=2) from error


@contextmanager
def _named() -> Any:
    try:
        yield
    except ValueError as error:
        raise Problem(INVALID_REQUEST, str(error)) from None


def _private(content: dict[str, Any], status: int = 200) -> web.Response:
    return body.json_response(content, status=status, headers={"Cache-Control": "no-store"})


KEYS: Final = Description("Every API key", {200: Reply("Without their secrets.", Keys)}, _TAG)
CREATE_KEY: Final = Description(
    "Make an API key",
    {201: Reply("The key, and its secret.", KeyMade)},
    _TAG,
    body=NewKey,
    problems=(FOREIGN,),
)
REVOKE_KEY: Final = Description(
    "Revoke an API key",
    {200: Reply("It is refused from now on, everywhere.", Done)},
    _TAG,
    path=KeyNamed,
    problems=(FOREIGN, UNKNOWN_KEY, OWN_ACCESS),
)
USERS: Final = Description("Every user of the dashboard", {200: Reply("Without their passwords.", Users)}, _TAG)
CREATE_USER: Final = Description(
    "Make a user", {201: Reply("The user.", UserMade)}, _TAG, body=NewUser, problems=(FOREIGN, NAME_TAKEN)
)
CHANGE_USER: Final = Description(
    "Change a user's role or password, disable or enable a user",
    {200: Reply("The user, as it is now.", UserMade)},
    _TAG,
    path=UserNamed,
    body=UserChange,
    problems=(FOREIGN, UNKNOWN_USER, OWN_ACCESS),
)
AUDIT: Final = Description(
    "Who did what",
    {200: Reply("The newest first.", Audited)},
    _TAG,
    "Logins and failed ones, keys and users made and changed, orders triggered and retried. Nothing is ever changed in "
    "it, and nothing removed before AUDIT_RETENTION is over.",
    query=Deeds,
)
