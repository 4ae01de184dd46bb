"""What goes wrong in a history: drawn from its seed as a list, so that parts of it can be left out."""

from collections.abc import Sequence
from random import Random
from typing import Final, NamedTuple

from tests.simulation.broker import Fate

EARLY_STEPS: Final = 400
LATE_STEPS: Final = 2500
ARRIVING_S: Final = 60.0


class Fault(NamedTuple):
    kind: str
    target: str
    """A service, or what the kind says."""
    at: float
    """Of a service: after so many of its steps. Of others: seconds."""
    size: float
    """Seconds, for the most part."""

    def __str__(self) -> str:
        when = f"after {self.at:.0f} of its steps" if self.kind in ON_SERVICES else f"at {self.at:.1f} s"
        if self.kind in AT_COMMITS:
            when = f"number {self.at:.0f}"
        return f"{self.kind} {self.target} {when}, {self.size:.1f}".strip()


ON_SERVICES: Final = ("crash", "freeze", "stop", "cut from broker", "cut from provider", "cut from database", "clock")
AT_COMMITS: Final = ("crash at commit", "freeze at commit")
"""As a fulfiller hears of it, and before the calls whose intents it was: the worst moment of all."""
LAST_COMMIT: Final = 60
ELSEWHERE: Final = (
    "broker away",
    "provider refuses",
    "database away",
    "compact",
    "produce",
    "end",
    "append",
    "drop",
    "forget",
)
"""At "forget" the broker loses markers of the next commit, and is away: as it is where it is asked to stop."""
_LONG: Final = (0.05, 1.0, 5.0, 14.0, 17.0, 29.0, 33.0, 50.0, 95.0, 400.0)


def drawn(seed: int, services: Sequence[str]) -> list[Fault]:
    random = Random(f"faults {seed}")  # noqa: S311 - it is to be repeated
    return [_one(random, services) for _ in range(random.choice((0, 1, 2, 3, 4, 5, 6, 8, 12, 25)))]


def _one(random: Random, services: Sequence[str]) -> Fault:
    # Fulfillers have the most to lose.
    if random.random() < 0.65:
        service = random.choice([*services, *[name for name in services if name.startswith("fulfiller")] * 4])
        kind = random.choice(ON_SERVICES)
        if service.startswith("fulfiller") and random.random() < 0.2:
            size = random.choice(_LONG) * random.uniform(0.7, 1.3)
            return Fault(random.choice(AT_COMMITS), service, float(random.randrange(1, LAST_COMMIT)), size)
        if kind == "cut from provider" and not service.startswith("fulfiller"):
            kind = "crash"
        if kind == "clock":
            size = random.choice((-200.0, -40.0, -5.0, 0.5, 31.0, 200.0)) * random.random()
        else:
            size = random.choice(_LONG) * random.uniform(0.7, 1.3)
        last = LATE_STEPS if random.random() < 0.4 else EARLY_STEPS
        return Fault(kind, service, float(random.randrange(1, last)), size)
    kind = random.choice(ELSEWHERE)
    at_s = random.uniform(0, ARRIVING_S * (1.2 if random.random() < 0.7 else 60))
    match kind:
        case "produce" | "end" | "append":
            return Fault(kind, random.choice(list(Fate)).name, at_s, 0.0)
        case "compact" | "drop":
            return Fault(kind, "", at_s, 0.0)
        case _:
            return Fault(kind, "", at_s, random.choice(_LONG) * random.uniform(0.7, 1.3))
