"""What a storm does, and when: all of it drawn from one seed. Pure; `storm.py` does it."""

import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Generic, TypeVar

Item = TypeVar("Item")


class Role(StrEnum):
    GATEWAY = "gateway"
    FULFILLER = "fulfiller"
    PROJECTOR = "projector"
    REBUILD = "rebuild"


class Deed(StrEnum):
    KILL = "kill"
    FREEZE = "freeze"
    STOP = "stop"
    KILL_ALL = "kill_all"
    """Every worker of the role at once, as when a machine's power fails."""
    RESIZE = "resize"
    """So many of the role are wanted from now on."""
    REBUILD = "rebuild"
    BROKER_KILL = "broker_kill"
    BROKER_RESTART = "broker_restart"
    BROKER_FREEZE = "broker_freeze"
    POSTGRES_KILL = "postgres_kill"
    POSTGRES_RESTART = "postgres_restart"
    POSTGRES_FREEZE = "postgres_freeze"
    DUPLICATES = "duplicates"
    """Hundreds of orders are written once more, anywhere."""
    REFUSE_CREDENTIALS = "refuse_credentials"
    """The provider turns everybody away for a while."""
    LULL = "lull"
    """Nobody who starts now is to die at a point: what has gathered is worked off."""
    GUST = "gust"
    """The end of a lull."""


@dataclass(frozen=True, slots=True)
class Act:
    after_s: float
    """After the act before."""
    deed: Deed
    role: Role | None = None
    which: float = 0.0
    """0 ≤ which < 1: the part of those there are."""
    for_s: float = 0.0
    """How long it is frozen, or away."""
    count: int = 0


POINTS: Final[Mapping[Role, Mapping[str, int]]] = {
    Role.GATEWAY: {"gateway.before_produce": 20, "gateway.after_ack": 20},
    Role.FULFILLER: {
        "fulfiller.polled": 40,
        "fulfiller.intent_committed": 30,
        "fulfiller.request_sent": 80,
        "fulfiller.replied": 80,
        "fulfiller.outcome_uncommitted": 30,
        "fulfiller.takeover": 4,
    },
    Role.PROJECTOR: {"projector.before_commit": 20, "projector.after_commit": 20},
    Role.REBUILD: {"projector.rebuild": 3},
}
"""Every named point, by who passes it; it acts at one of the first so many passages."""
ACTIONS: Final = ("kill",) * 8 + ("stop",) * 2 + ("raise",)
UNARMED: Final = 0.1
"""The share of processes that reach no point of their own accord."""
SESSION_S: Final = 6.0
LULL_S: Final = (15.0, 30.0)
"""Where workers die every few seconds the group does nothing but wait for the dead: orders move on in between."""
FULFILLERS: Final = (1, 2, 3)
MEAN_PAUSE_S: Final = 1.2

_DEEDS: Final[Sequence[tuple[Deed, Role | None]]] = (
    *((Deed.KILL, Role.FULFILLER),) * 4,
    *((Deed.FREEZE, Role.FULFILLER),) * 3,
    *((Deed.RESIZE, Role.FULFILLER),) * 3,
    (Deed.STOP, Role.FULFILLER),
    *((Deed.KILL, Role.PROJECTOR),) * 2,
    *((Deed.KILL, Role.GATEWAY),) * 2,
    (Deed.KILL_ALL, Role.FULFILLER),
    (Deed.FREEZE, Role.PROJECTOR),
    (Deed.STOP, Role.PROJECTOR),
    (Deed.FREEZE, Role.GATEWAY),
    (Deed.STOP, Role.GATEWAY),
    *((Deed.REBUILD, Role.REBUILD),) * 2,
    *((Deed.DUPLICATES, None),) * 2,
)
_BROKER: Final = (Deed.BROKER_KILL, Deed.BROKER_RESTART, Deed.BROKER_KILL, Deed.BROKER_FREEZE)
_POSTGRES: Final = (Deed.POSTGRES_KILL, Deed.POSTGRES_RESTART, Deed.POSTGRES_KILL, Deed.POSTGRES_FREEZE)
REFUSED_EACH: Final = 3
"""Rounds between one refusal of everybody and the next."""


def rng_of(seed: int, whose: str) -> random.Random:
    """A source of chance of its own for each, so that none depends on how often another draws."""
    return random.Random(f"{seed}:{whose}")  # noqa: S311 - a plan, no secret


class Bag(Generic[Item]):
    """Draws each of its items once before any of them again."""

    def __init__(self, items: Sequence[Item], rng: random.Random) -> None:
        self._items = items
        self._rng = rng
        self._left: list[Item] = []

    def draw(self) -> Item:
        if not self._left:
            self._left = self._rng.sample(self._items, len(self._items))
        return self._left.pop()


def acts(seed: int) -> Iterator[Act]:
    """Without end. Each round has one act on the broker, one on the database, every other deed, and then a lull."""
    rng = rng_of(seed, "acts")
    broker, postgres, sizes = Bag(_BROKER, rng), Bag(_POSTGRES, rng), Bag(FULFILLERS, rng)
    for number in itertools.count(1):
        deeds = [*_DEEDS, (broker.draw(), None), (postgres.draw(), None)]
        if number % REFUSED_EACH == 0:
            deeds.append((Deed.REFUSE_CREDENTIALS, None))
        for deed, role in rng.sample(deeds, len(deeds)):
            yield Act(
                after_s=min(rng.expovariate(1 / MEAN_PAUSE_S), 4 * MEAN_PAUSE_S),
                deed=deed,
                role=role,
                which=rng.random(),
                for_s=_duration_s(deed, rng),
                count=sizes.draw() if deed is Deed.RESIZE else rng.randrange(100, 400),
            )
        yield Act(after_s=0.0, deed=Deed.LULL)
        yield Act(after_s=rng.uniform(*LULL_S), deed=Deed.GUST)


def frozen_s(rng: random.Random) -> float:
    """Now shorter, now longer than the group waits for a silent worker."""
    return rng.uniform(0.3, 3.0) if rng.random() < 0.6 else rng.uniform(1.1, 2.0) * SESSION_S


def _duration_s(deed: Deed, rng: random.Random) -> float:
    if deed is Deed.FREEZE:
        return frozen_s(rng)
    return rng.uniform(0.5, 3.0)


class Arming:
    """Which point each new process of a role is to die at, freeze at, or fail at."""

    def __init__(self, seed: int, role: Role) -> None:
        self._rng = rng_of(seed, role)
        self._points = Bag(list(POINTS[role].items()), self._rng)
        self._actions = Bag(ACTIONS, self._rng)

    def draw(self, unhit: AbstractSet[str]) -> str:
        """CRASHPOINTS of the next one. Points that nobody has hit yet come first, at one of their first passages."""
        if unhit:
            return f"{self._rng.choice(sorted(unhit))}:kill:{self._rng.randint(1, 3)}"
        if self._rng.random() < UNARMED:
            return ""
        name, within = self._points.draw()
        return f"{name}:{self._actions.draw()}:{self._rng.randint(1, within)}"
