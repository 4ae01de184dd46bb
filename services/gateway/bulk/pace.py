"""What a bulk retry does next: its canary, its pace, its end. Pure; time is handed in."""

from dataclasses import dataclass
from typing import Final, Self

from services.gateway.answers import Row

CANARY_WAIT_S: Final = 120.0
"""For what becomes of the canary; then a person looks."""
MAX_FAILING: Final = 25
"""Of the latest 50 answers."""
_AT_ONCE: Final = 100
_UNANSWERED_S: Final = 10
"""So many seconds' worth of commands may be unanswered: a fulfiller that is away is not buried."""


@dataclass(frozen=True, slots=True)
class Progress:
    unsent: int
    unanswered: int
    in_doubt: int
    delivered: int
    failed: int
    failing: int
    """Of the latest 50 answers since the job went on."""
    waited: bool
    """No answer has come for CANARY_WAIT_S after the last command was sent."""

    @classmethod
    def of(cls, row: Row) -> Self:
        return cls(**dict(row) | {"waited": bool(row["waited"])})


@dataclass(frozen=True, slots=True)
class Send:
    orders: int


@dataclass(frozen=True, slots=True)
class Halt:
    """A person should look."""

    why: str


@dataclass(frozen=True, slots=True)
class GoOn:
    """The canary is well."""


@dataclass(frozen=True, slots=True)
class Finish:
    """Every order has its outcome."""


Step = Send | Halt | GoOn | Finish


def next_step(job: Row, progress: Progress, allowance: int) -> Step:
    """`allowance`: so many may be sent now, by the pace alone."""
    if job["state"] == "canary":
        return _canary(job, progress)
    if not progress.unsent and not progress.unanswered:
        return Finish()
    if progress.unsent and progress.failing >= MAX_FAILING:
        return Halt(f"{progress.failing} of the latest 50 orders were not delivered")
    room = max(_UNANSWERED_S * job["per_s"], 20) - progress.unanswered
    return Send(max(0, min(allowance, room, progress.unsent, _AT_ONCE)))


def _canary(job: Row, progress: Progress) -> Step:
    if progress.failed > job["tolerate"] and progress.unsent:
        return Halt(f"{progress.failed} of the first {job['canary']} orders failed again")
    open_ = progress.unanswered + progress.in_doubt
    # One that was refused tried nothing: another takes its place.
    short = min(job["canary"] - open_ - progress.delivered - progress.failed, progress.unsent)
    if short > 0:
        return Send(short)
    if not open_:
        return GoOn()
    if progress.waited and progress.unsent:
        return Halt(f"{open_} of the first {job['canary']} orders have no outcome after {CANARY_WAIT_S:.0f} s")
    return GoOn() if progress.waited else Send(0)


class Pace:
    """How many may be sent by now: `per_s`, and at most a second's worth at once."""

    def __init__(self, now_s: float) -> None:
        self._since_s = now_s
        self._allowance = 1.0

    def allowance(self, per_s: int, now_s: float) -> int:
        self._allowance = min(float(per_s), self._allowance + (now_s - self._since_s) * per_s)
        self._since_s = now_s
        return int(self._allowance)

    def sent(self, orders: int) -> None:
        self._allowance -= orders
