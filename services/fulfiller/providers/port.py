"""What the fulfiller asks of a provider, and what an answer means. One adapter a file."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple, Protocol


class OutcomeClass(StrEnum):
    """What an answer (or the lack of one) says about the bundle. Never derived from the HTTP status alone."""

    DELIVERED = "delivered"
    ACCEPTED = "accepted"
    """Taken, not yet delivered."""
    DECLINED_PERMANENT = "declined_permanent"
    DECLINED_TRANSIENT = "declined_transient"
    NOT_SENT = "not_sent"
    """No byte of the request left: DNS, connection refused, deadline passed before the first byte."""
    TURNED_AWAY = "turned_away"
    """Refused at the door, to be tried later: 429. `retry_after_s` where it was said."""
    SUSPENDED = "suspended"
    """Nobody's order can work: dealer balance empty, credentials refused, account suspended."""
    UNKNOWN = "unknown"
    """It may have been delivered."""
    NOT_FOUND = "not_found"
    """Status queries only: the provider knows no such reference (now)."""
    NO_ANSWER = "no_answer"
    """Status queries only: nothing was said about the reference (401, 5xx, timeout, garbage)."""


class Outcome(NamedTuple):
    """One answer. `deliver` never returns NOT_FOUND or NO_ANSWER; `verify` returns only DELIVERED, ACCEPTED,
    DECLINED_PERMANENT, DECLINED_TRANSIENT (the reference is known and has failed), NOT_FOUND and NO_ANSWER.
    """

    kind: OutcomeClass
    code: str | None = None
    """The provider's own code, bounded to 64 characters."""
    message: str | None = None
    """For operators; never shown to customers. Bounded."""
    transaction_id: str | None = None
    duplicate: bool = False
    """The provider says that it had this reference before. The core decides what that means."""
    retry_after_s: float | None = None
    """Capped by the adapter to an hour; never negative."""
    raw: Mapping[str, Any] | None = None
    """The answer for operators (`api_response`): JSON, bounded to 4 KiB, without secrets."""
    alert: bool = False
    """An answer that the adapter's contract does not know; somebody should look."""


@dataclass(frozen=True, slots=True)
class Balance:
    available_mb: int
    reserved_mb: int


@dataclass(frozen=True, slots=True)
class Profile:
    """What a provider promises. The rules for unknown outcomes follow from it."""

    name: str
    networks: frozenset[str]
    """Canonical network names that it serves."""
    idempotent_references: bool
    """A repeated reference replays the first result instead of executing again."""
    reference_memory_s: float
    """For how long a reference is remembered; a later "not found" proves nothing."""
    status_query: bool
    not_found_final_s: float
    """A "not found" at least this long after the attempt's deadline is proof that the request never arrived."""
    call_timeout_s: float


@dataclass(frozen=True, slots=True)
class Deadline:
    """When a call must be over, on both clocks; the first to pass counts."""

    monotonic_s: float
    """On the clock of `time.monotonic()`."""
    wall_s: float
    """Unix time."""


class Provider(Protocol):
    @property
    def profile(self) -> Profile: ...

    async def deliver(self, reference: str, phone: str, size_mb: int, network: str, deadline: Deadline) -> Outcome:
        """Buy the bundle, once. Checks the deadline immediately before the first byte leaves (then NOT_SENT) and
        ends by it. Never raises but for cancellation.
        """
        ...

    async def verify(self, reference: str) -> Outcome:
        """What became of OUR reference; matched by nothing else. Never raises but for cancellation."""
        ...

    async def balance(self) -> Balance | None:
        """None: it could not be had now (credentials refused, provider down)."""
        ...

    async def close(self) -> None: ...
