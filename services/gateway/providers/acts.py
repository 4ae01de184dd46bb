"""A person suspends or resumes a provider: one command, once, and what became of it."""

import asyncio
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import structlog
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from schemas.cloudevents import binary_headers, json_value
from schemas.commands import ProviderCommand, ResumeProvider, SuspendProvider
from schemas.orders import Timestamp
from schemas.topics import FULFILLMENT_COMMANDS
from services.gateway import body, preferences
from services.gateway.access import Caller
from services.gateway.acts import Reason
from services.gateway.address import Addresses
from services.gateway.audit import Audit, By
from services.gateway.changes import Changes, Watch
from services.gateway.database import Database, DatabaseAwayError
from services.gateway.fulfillment import DEFAULT_WAIT_S
from services.gateway.problem import PROVIDER_CONFLICT, Problem, unavailable
from services.gateway.providers.listing import Listings
from services.gateway.purchase import SOURCE, not_written
from services.gateway.writer import NotWrittenError, Writer

PARTITION: Final = 0
"""Whose owner sees to the providers."""

log = structlog.get_logger()

Provider = dict[str, Any]


class ProviderAct(BaseModel):
    """`since`: as the actor saw it; refused where the provider's state has changed meanwhile."""

    model_config = ConfigDict(
        strict=True, frozen=True, json_schema_extra={"examples": [{"reason": "the balance is being paid in"}]}
    )

    reason: Reason
    since: Timestamp | None = Field(default=None, json_schema_extra={"examples": ["2026-01-31T12:00:00Z"]})


class Acts:
    def __init__(
        self, listings: Listings, database: Database, writer: Writer, audit: Audit, addresses: Addresses
    ) -> None:
        self._listings = listings
        self._database = database
        self._writer = writer
        self._audit = audit
        self._addresses = addresses
        self.changes = Changes()

    async def suspend(self, request: web.Request, caller: Caller) -> web.Response:
        return await self._act(request, caller, "suspend", SuspendProvider, _is_suspended)

    async def resume(self, request: web.Request, caller: Caller) -> web.Response:
        return await self._act(request, caller, "resume", ResumeProvider, _is_up)

    async def _act(
        self,
        request: web.Request,
        caller: Caller,
        act: str,
        command: Callable[..., ProviderCommand],
        is_so: Callable[[Provider], bool],
    ) -> web.Response:
        name, said = request.match_info["name"], await body.read(request, ProviderAct)
        wait_s = preferences.wait_s(request.headers.getall("Prefer", ()))
        with self.changes.watch(name) as watch:
            provider = await self._listings.named(name)
            _check(provider, said, is_so)
            command_id = await self._send(request, caller, act, command, name, said.reason)
            until_s = asyncio.get_running_loop().time() + (DEFAULT_WAIT_S if wait_s is None else wait_s)
            provider = await self._await(name, provider, watch, until_s, is_so)
        if is_so(provider) and provider["commandId"] != command_id:
            raise _so_already(provider)
        done = is_so(provider)
        message = f"The provider is {_DONE[act]}" if done else "The command is accepted; the provider shows its effect"
        content = {"success": True, "message": message, "provider": provider}
        return body.json_response(content, status=200 if done else 202)

    async def _send(  # noqa: PLR0917 - called here alone
        self,
        request: web.Request,
        caller: Caller,
        act: str,
        make: Callable[..., ProviderCommand],
        name: str,
        reason: str,
    ) -> str:
        """The command's id, once Kafka has it. Problem 503."""
        command_id = str(uuid.uuid4())
        command = make(command_id=command_id, provider=name, actor=caller.actor, reason=reason, at=datetime.now(UTC))
        try:
            await self._audit.note(By(caller.actor, self._addresses.of(request)), act, name, {"reason": reason})
        except DatabaseAwayError as error:
            raise unavailable("what cannot be noted is not done: the database is away", retry_after_s=2) from error
        log.info("[FULFILLMENT] %s of provider %s", act, name, actor=caller.actor)
        headers = binary_headers(command.type, command_id, SOURCE, command.at)
        try:
            await self._writer.append_as_it_is(
                FULFILLMENT_COMMANDS, PARTITION, name.encode(), json_value(command), headers
            )
        except NotWrittenError as error:
            raise not_written(error, f"the {act}") from error
        return command_id

    async def _await(
        self, name: str, provider: Provider, watch: Watch, until_s: float, is_so: Callable[[Provider], bool]
    ) -> Provider:
        """The provider once it is so, or the time is up, or nobody can be asked."""
        while not is_so(provider) and await watch.change(until_s):
            try:
                provider = await self._listings.named(name)
            except Problem as problem:
                log.info("provider_not_seen", why=problem.detail)  # when the database is back, everybody looks again
        return provider


_DONE: Final = {"suspend": "suspended", "resume": "up"}


def _is_suspended(provider: Provider) -> bool:
    """By a person: one that its provider brought about ends by itself."""
    return (provider["state"], provider["by"]) == ("suspended", "operator")


def _is_up(provider: Provider) -> bool:
    return bool(provider["state"] == "up")


def _check(provider: Provider, said: ProviderAct, is_so: Callable[[Provider], bool]) -> None:
    """Problem 409 where there is nothing to do, or something else has happened meanwhile."""
    if is_so(provider):
        raise _so_already(provider)
    if said.since is not None and provider["since"] != said.since:
        why = f"it has changed meanwhile: {_story(provider)}"
        raise Problem(PROVIDER_CONFLICT, why, members={"message": why})


def _so_already(provider: Provider) -> Problem:
    why = f"so it is already: {_story(provider)}"
    return Problem(PROVIDER_CONFLICT, why, members={"message": why})


def _story(provider: Provider) -> str:
    """What happened to it last, in a line."""
    since = "" if provider["since"] is None else f" since {provider['since'].isoformat(timespec='seconds')}"
    who = f", by {provider['actor']}" if provider["actor"] else ""
    why = f": {provider['why']}" if provider["why"] else ""
    return f"{provider['state']}{since}{who}{why}"
