"""Looking after the providers, for all workers. It belongs to partition 0, in whose shard's transactions it speaks."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final, NamedTuple

import structlog

from schemas.cloudevents import json_value
from schemas.commands import ProviderCommand
from schemas.poison import PoisonError, PoisonKind
from schemas.providers import ProviderChanged
from services.fulfiller import metrics
from services.fulfiller.clock import Clock
from services.fulfiller.lane import Lane
from services.fulfiller.outage import commanded, polled, probed
from services.fulfiller.providers.port import Balance
from services.fulfiller.turn import Turn

PARTITION: Final = 0
BALANCE_INTERVAL_S: Final = 60.0
GRACE_S: Final = 5.0
"""Beyond the time that an adapter has: a provider is asked one question at a time, and the next one must come."""

log = structlog.get_logger()


class _Found(NamedTuple):
    balance: Balance | None
    probed: ProviderChanged | None
    """The suspension that the question was to end; None: it was asked for the balance alone."""


class Warden:
    """Probes what is suspended, polls balances, follows operators' commands."""

    def __init__(
        self,
        lanes: Mapping[str, Lane],
        clock: Clock,
        wake: Callable[[], None],
        *,
        fenced_at_s: float,
        balance_interval_s: float,
    ) -> None:
        self._wards = {name: _Ward(lane, clock, wake, fenced_at_s, balance_interval_s) for name, lane in lanes.items()}

    async def keep(self) -> None:
        """Ask the providers what is to be asked. Runs until cancelled."""
        async with asyncio.TaskGroup() as wards:
            for ward in self._wards.values():
                wards.create_task(ward.keep())

    def follow(self, turn: Turn, command: ProviderCommand) -> None:
        """PoisonError where there is no such provider."""
        ward = self._wards.get(command.provider)
        if ward is None:
            raise PoisonError(PoisonKind.UNKNOWN_PROVIDER, f"there is no provider {command.provider[:40]}")
        ward.follow(turn, command)

    def say(self, turn: Turn) -> None:
        """Write what was found."""
        for ward in self._wards.values():
            ward.say(turn)


class _Ward:
    def __init__(
        self, lane: Lane, clock: Clock, wake: Callable[[], None], fenced_at_s: float, balance_interval_s: float
    ) -> None:
        self._lane = lane
        self._clock = clock
        self._wake = wake
        self._balance_interval_s = balance_interval_s
        # The last owner may have probed just before it was fenced.
        self._suspended_at_s = fenced_at_s
        self._asked_at_s: float | None = None
        self._found: deque[_Found] = deque()
        self._written: ProviderChanged | None = None
        """What we wrote last, until we hear it."""
        self._heard = asyncio.Event()

    @property
    def _said(self) -> ProviderChanged | None:
        return self._written or self._lane.standing.said

    # --- in a turn ----------------------------------------------------------------------------------------------------

    def follow(self, turn: Turn, command: ProviderCommand) -> None:
        said = self._said
        if said is None or said.command_id != command.command_id:
            self._write(turn, commanded(self._lane.name, said, command, turn.now))

    def say(self, turn: Turn) -> None:
        if self._lane.standing.overruled and self._written is None and self._said is not None:
            self._write(turn, self._said.model_copy(update={"at": turn.now}))
        while self._found:
            changed = self._follows(self._found.popleft(), turn.now)
            if changed is not None:
                self._write(turn, changed)

    def _follows(self, found: _Found, now: datetime) -> ProviderChanged | None:
        said = self._said
        if found.probed is None:
            return None if found.balance is None else polled(self._lane.name, said, found.balance, now)
        if said is None or said.since != found.probed.since:
            return None  # something else has happened meanwhile
        return probed(said, found.balance, now, self._lane.probe_interval_s)

    def _write(self, turn: Turn, changed: ProviderChanged) -> None:
        turn.provider(changed)
        self._written = changed

    # --- asking -------------------------------------------------------------------------------------------------------

    async def keep(self) -> None:
        unlisten = self._lane.listen(self._on_heard)
        try:
            while True:
                wait_s = self._due_at_s() - self._clock.monotonic_s()
                if wait_s <= 0:
                    await self._ask()
                    continue
                self._heard.clear()
                try:
                    async with asyncio.timeout(wait_s):
                        await self._heard.wait()
                except TimeoutError:
                    continue
        finally:
            unlisten()

    def _on_heard(self, changed: ProviderChanged) -> None:
        written = self._written
        if written is not None and json_value(written) == json_value(changed):
            self._written = None
        self._heard.set()
        if self._lane.standing.overruled:
            self._wake()

    def _is_to_be_probed(self) -> bool:
        standing = self._lane.standing
        return standing.is_said_suspended and not standing.is_held_by_operator

    def _due_at_s(self) -> float:
        """When the provider is to be asked next: once an interval, whatever for."""
        asked_at_s = self._asked_at_s
        if self._is_to_be_probed():
            last_s = self._suspended_at_s if asked_at_s is None else max(self._suspended_at_s, asked_at_s)
            return last_s + self._lane.probe_interval_s
        return 0.0 if asked_at_s is None else asked_at_s + self._balance_interval_s

    async def _ask(self) -> None:
        self._asked_at_s = self._clock.monotonic_s()
        said = self._lane.standing.said if self._is_to_be_probed() else None
        if said is not None:
            metrics.PROBES.labels(self._lane.name).inc()
        self._found.append(_Found(await self._balance(), said))
        self._wake()

    async def _balance(self) -> Balance | None:
        provider = self._lane.provider
        try:
            async with asyncio.timeout(provider.profile.call_timeout_s + GRACE_S):
                return await provider.balance()
        except Exception:
            log.exception("provider_adapter_raised", provider=self._lane.name)
            return None
