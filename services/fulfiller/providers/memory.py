"""A provider in memory, for tests of what the fulfiller does with outcomes: it keeps its promises, unless it is told
not to.
"""

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from services.fulfiller.providers.port import Balance, Deadline, Outcome, OutcomeClass, Profile

MEMORY_PROFILE = Profile(
    name="memory",
    networks=frozenset({"AT-iShare"}),
    idempotent_references=True,
    reference_memory_s=30 * 86400.0,
    status_query=True,
    not_found_final_s=60.0,
    call_timeout_s=30.0,
)


@dataclass(frozen=True, slots=True)
class Step:
    """How one send goes: what the caller hears and whether the bundle arrives all the same."""

    heard: OutcomeClass
    delivers: bool = False


DELIVERS = Step(OutcomeClass.DELIVERED, delivers=True)

_REFUSED = frozenset({OutcomeClass.NOT_SENT, OutcomeClass.TURNED_AWAY, OutcomeClass.SUSPENDED})
_DECLINED = frozenset({OutcomeClass.DECLINED_PERMANENT, OutcomeClass.DECLINED_TRANSIENT})


@dataclass(slots=True)
class _Entry:
    phone: str
    size_mb: int
    answer: Outcome


@dataclass(slots=True)
class MemoryProvider:
    """`script[phone]` holds the steps of the phone's coming sends; a send without a step delivers."""

    profile: Profile = MEMORY_PROFILE
    available_mb: int = 10**9
    script: dict[str, deque[Step]] = field(default_factory=dict)
    deliveries: Counter[str] = field(default_factory=Counter)
    """Reference → how many times it was really delivered."""
    monotonic_s: Callable[[], float] = time.monotonic
    wall_s: Callable[[], float] = time.time
    _entries: dict[str, _Entry] = field(default_factory=dict)
    _transactions: int = 0

    async def deliver(self, reference: str, phone: str, size_mb: int, network: str, deadline: Deadline) -> Outcome:
        if self.monotonic_s() >= deadline.monotonic_s or self.wall_s() >= deadline.wall_s:
            return Outcome(OutcomeClass.NOT_SENT)
        if network not in self.profile.networks:
            return Outcome(OutcomeClass.DECLINED_PERMANENT, code="UNKNOWN_BUNDLE")
        entry = self._entries.get(reference)
        if entry is not None and entry.answer.kind not in _DECLINED:
            if (entry.phone, entry.size_mb) != (phone, size_mb):
                return Outcome(OutcomeClass.UNKNOWN, code="DUPLICATE_REFERENCE", duplicate=True)
            answer = entry.answer
            return Outcome(answer.kind, answer.code, transaction_id=answer.transaction_id, duplicate=True)
        steps = self.script.get(phone)
        step = steps.popleft() if steps else DELIVERS
        if step.heard in _REFUSED:
            return Outcome(step.heard)
        return self._execute(reference, phone, size_mb, step)

    async def verify(self, reference: str) -> Outcome:
        entry = self._entries.get(reference)
        return entry.answer if entry is not None else Outcome(OutcomeClass.NOT_FOUND, code="NOT_FOUND")

    async def balance(self) -> Balance | None:
        return Balance(self.available_mb, 0)

    async def close(self) -> None:
        """Nothing is held."""

    def settle(self, reference: str) -> None:
        """What was accepted is delivered now."""
        entry = self._entries[reference]
        if entry.answer.kind is OutcomeClass.ACCEPTED:
            self._delivered(reference, entry.size_mb)
            entry.answer = Outcome(OutcomeClass.DELIVERED, "OK", transaction_id=entry.answer.transaction_id)

    def _execute(self, reference: str, phone: str, size_mb: int, step: Step) -> Outcome:
        self._transactions += 1
        transaction_id = f"M-{self._transactions}"
        if step.delivers:
            self._delivered(reference, size_mb)
            truth = Outcome(OutcomeClass.DELIVERED, "OK", transaction_id=transaction_id)
        elif step.heard is OutcomeClass.UNKNOWN:
            return Outcome(OutcomeClass.UNKNOWN)  # the request was lost: nobody knows the reference
        else:
            truth = Outcome(step.heard, step.heard.value.upper(), transaction_id=transaction_id)
        self._entries[reference] = _Entry(phone, size_mb, truth)
        return truth if step.heard is truth.kind else Outcome(step.heard)

    def _delivered(self, reference: str, size_mb: int) -> None:
        self.deliveries[reference] += 1
        self.available_mb -= size_mb
