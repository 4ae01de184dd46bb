"""When a provider's orders wait, and what ends that. Pure: records, outcomes and times are passed in.

What is true is the last record of fulfillment.providers. Whoever finds that nobody's order can work stops at once and
says so there; whoever owns partition 0 probes, and says when it is over.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from schemas.commands import ProviderCommand, SuspendProvider
from schemas.providers import By, ProviderBalance, ProviderChanged, ProviderState
from services.fulfiller.providers.port import Balance, Outcome, OutcomeClass

PROBE_INTERVAL_S: Final = 5.0
FAULTS_TO_SUSPEND: Final = 20
"""Calls of one worker in a row that met no working provider. Business refusals are no faults."""
UNREACHABLE: Final = "unreachable"
TRY_ANYWAY: Final = timedelta(minutes=5)
"""After so long a balance that was too small for one bundle is tried with others."""
_FAULTS: Final = frozenset({OutcomeClass.NOT_SENT, OutcomeClass.UNKNOWN})


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a worker found itself: the provider is to be suspended."""

    why: str
    needs_mb: int | None = None
    """The bundle that was refused, where it was for want of balance."""


class Standing:
    """How one provider stands, as far as one worker knows."""

    def __init__(self, provider: str) -> None:
        self.provider = provider
        self.said: ProviderChanged | None = None
        """By the log."""
        self.epoch = 0
        """How often it was up anew: an outcome counts in the epoch in which its call began. One of before tells of an
        outage that is over."""
        self.verdict: Verdict | None = None
        """What the log does not say yet."""
        self.is_being_said = False
        """Somebody writes the verdict, or has."""
        self.overruled = False
        """The log's last record does not count: it has to be said again what does."""
        self._faults = 0
        self._was_up: datetime | None = None
        """Since when, by the last that was heard of it."""

    @property
    def suspended_because(self) -> str | None:
        """None: its orders are sent."""
        if self.verdict is not None:
            return self.verdict.why
        if self.said is None or self.said.state is ProviderState.UP:
            return None
        return self.said.why or "suspended"

    @property
    def is_said_suspended(self) -> bool:
        return self.said is not None and self.said.state is ProviderState.SUSPENDED

    @property
    def is_held_by_operator(self) -> bool:
        return self.is_said_suspended and self.said is not None and self.said.by is By.OPERATOR

    def hear(self, changed: ProviderChanged) -> None:
        """Take what the log says."""
        if self.is_held_by_operator and changed.by is not By.OPERATOR:
            # A worker wrote it that had not heard of the operator yet.
            self.overruled = True
            return
        is_up = changed.state is ProviderState.UP
        if self.is_said_suspended and is_up and changed.since == self._was_up:
            # A balance of before, by who had not heard of the suspension yet: nothing has ended it.
            self.overruled = True
            return
        self.overruled = False
        if is_up:
            self._was_up = changed.since
        was, self.said = self.said, changed
        is_new_epoch = was is not None and (was.state, was.since) != (changed.state, changed.since)
        if changed.state is ProviderState.SUSPENDED:
            self._drop_verdict()
        elif is_new_epoch:
            self.epoch += 1
            self._drop_verdict()

    def observe(self, outcome: Outcome, epoch: int, size_mb: int | None = None) -> bool:
        """Learn from the outcome of a call that began in that epoch. True: it speaks for the provider."""
        if outcome.kind is OutcomeClass.SUSPENDED:
            self._find(Verdict(outcome.code or "suspended", size_mb if outcome.code == _NO_BALANCE else None), epoch)
            return False
        if outcome.kind is OutcomeClass.TURNED_AWAY:
            return False
        if outcome.kind in _FAULTS and outcome.code is None:
            if epoch == self.epoch:
                self._faults += 1
                if self._faults >= FAULTS_TO_SUSPEND:
                    self._find(Verdict(UNREACHABLE), epoch)
            return False
        self._faults = 0
        return True

    def _drop_verdict(self) -> None:
        self.verdict = None
        self.is_being_said = False
        self._faults = 0

    def _find(self, verdict: Verdict, epoch: int) -> None:
        if epoch == self.epoch and self.suspended_because is None:
            self.verdict = verdict


_NO_BALANCE: Final = "INSUFFICIENT_BALANCE"


def suspension(standing: Standing, verdict: Verdict, now: datetime, interval_s: float) -> ProviderChanged:
    """What a worker found, for all."""
    return ProviderChanged(
        provider=standing.provider,
        state=ProviderState.SUSPENDED,
        why=verdict.why,
        by=By.PROVIDER,
        since=now,
        next_probe_at=now + timedelta(seconds=interval_s),
        needs_mb=verdict.needs_mb,
        balance=standing.said.balance if standing.said else None,
        at=now,
    )


def is_over(said: ProviderChanged, balance: Balance, now: datetime) -> bool:
    """Whether what a probe was answered ends a suspension that the provider brought about."""
    if balance.available_mb <= 0:
        return False
    enough = said.needs_mb is None or balance.available_mb >= said.needs_mb
    return enough or now - said.since >= TRY_ANYWAY


def probed(said: ProviderChanged, balance: Balance | None, now: datetime, interval_s: float) -> ProviderChanged:
    """What a probe has found: it is up, or is probed again."""
    if balance is not None and is_over(said, balance, now):
        return ProviderChanged(
            provider=said.provider,
            state=ProviderState.UP,
            by=By.PROVIDER,
            since=now,
            balance=_said(balance, now),
            at=now,
        )
    changes = {"next_probe_at": now + timedelta(seconds=interval_s), "at": now}
    return said.model_copy(update=changes | _balance(balance, now))


def polled(provider: str, said: ProviderChanged | None, balance: Balance, now: datetime) -> ProviderChanged | None:
    """The same state with a new balance; None: nothing has changed."""
    if said is None:
        return ProviderChanged(
            provider=provider, state=ProviderState.UP, since=now, balance=_said(balance, now), at=now
        )
    known = said.balance
    if known is not None and (known.available_mb, known.reserved_mb) == (balance.available_mb, balance.reserved_mb):
        return None
    return said.model_copy(update={"at": now} | _balance(balance, now))


def commanded(provider: str, said: ProviderChanged | None, command: ProviderCommand, now: datetime) -> ProviderChanged:
    """What follows from an operator's command; where it is so already, it is only said once more."""
    suspends = isinstance(command, SuspendProvider)
    if said is not None:
        is_so = (said.state, said.by) == (ProviderState.SUSPENDED, By.OPERATOR) if suspends else _is_up(said)
        if is_so:
            return said.model_copy(update={"at": now})
    return ProviderChanged(
        provider=provider,
        state=ProviderState.SUSPENDED if suspends else ProviderState.UP,
        why=command.reason or None,
        by=By.OPERATOR,
        actor=command.actor,
        command_id=command.command_id,
        since=now,
        balance=said.balance if said else None,
        at=now,
    )


def _is_up(said: ProviderChanged) -> bool:
    return said.state is ProviderState.UP


def _balance(balance: Balance | None, now: datetime) -> dict[str, ProviderBalance]:
    return {} if balance is None else {"balance": _said(balance, now)}


def _said(balance: Balance, now: datetime) -> ProviderBalance:
    return ProviderBalance(available_mb=balance.available_mb, reserved_mb=balance.reserved_mb, at=now)
