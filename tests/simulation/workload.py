"""What clients, producers and people do in a history: drawn from its seed, beforehand."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from services.sandbox.faults import FAULTS, PhoneFault, Plan, QueryAnswer
from tests.simulation.faults import ARRIVING_S

_LIE: Final = "duplicate_nothing"
GIGABYTES: Final = ("500MB", "1GB", "2GB", "1.5GB", 3)


@dataclass(frozen=True, slots=True)
class Buying:
    """A client's purchase over HTTP."""

    at_s: float
    body: Mapping[str, Any]
    key: str | None
    gateway: int
    again: bool
    """It repeats even what was answered."""


@dataclass(frozen=True, slots=True)
class Producing:
    """An OrderCreated, or what is none, straight to Kafka."""

    at_s: float
    order_id: str
    value: Mapping[str, Any] | bytes
    partition: int | None
    """None: at home."""
    created_s: float
    """When the order says that it was made: a repetition says what the first one said."""
    first: bool
    """Of this order: accepted, where it is none that conflicts."""


@dataclass(frozen=True, slots=True)
class Commanding:
    at_s: float
    kind: str
    order: int
    command_id: str


@dataclass(frozen=True, slots=True)
class Workload:
    plan: Plan
    steps: tuple[Buying | Producing | Commanding, ...]
    partitions: int
    fulfillers: int
    gateways: int
    projectors: int
    max_in_flight: int
    provider_max_in_flight: int | None
    rate_per_s: float | None
    """The provider's own limits."""
    dedupe_s: float
    found_after_s: float
    """The provider's status queries find nothing younger."""
    gathered_s: float
    """What a projector waits for at most, so as to write more at once."""


def drawn_workload(seed: int, orders: int) -> Workload:
    random = Random(f"workload {seed}")  # noqa: S311 - it is to be repeated
    partitions = random.choice((1, 2, 2, 3))
    steps: list[Buying | Producing | Commanding] = []
    spread_s = random.choice((2.0, 20.0, ARRIVING_S))
    for number in range(orders):
        at_s = random.uniform(0, spread_s)
        phone = f"+23324{random.randrange(10**7):07}"
        network = "AT-iShare" if random.random() < 0.97 else "MTN"
        size = random.choice(GIGABYTES)
        if random.random() < 0.7:
            key = f"key-{number}" if random.random() < 0.8 else None
            body = {"network": network, "size": size, "phoneNumber": phone}
            steps.append(Buying(at_s, body, key, random.randrange(2), random.random() < 0.2))
        else:
            steps += _produced(random, at_s, phone, network, size, partitions)
    steps += [
        Producing(random.uniform(0, spread_s), "", poison, random.randrange(partitions), 0.0, first=False)
        for poison in random.sample((b"{", b"[]", b'{"order_id":1}', b"\xff\xfe"), random.choice((0, 0, 1, 2)))
    ]
    for _ in range(random.choice((0, 1, 3, 6))):
        kind = random.choice(("Trigger", "Retry", "Retry", "Retry", "Cancel", "Override", "Override", "Resolve"))
        soon = random.random() < 0.5
        at_s = random.uniform(0, spread_s) if soon else random.uniform(0, 3 * 3600)
        steps.append(Commanding(at_s, kind, random.randrange(orders), _uuid(random)))
    steps.sort(key=lambda step: step.at_s)
    return Workload(
        plan=_plan(random, seed, [step.body["phoneNumber"] for step in steps if isinstance(step, Buying)]),
        steps=tuple(steps),
        partitions=partitions,
        fulfillers=random.choice((1, 2, 2, 3)),
        gateways=random.choice((1, 2)),
        projectors=random.choice((1, 1, 2)),
        max_in_flight=random.choice((1, 4, 64)),
        provider_max_in_flight=random.choice((None, None, 3, 5)),
        rate_per_s=random.choice((None, None, None, 3.0)),
        dedupe_s=random.choice((7 * 86400.0, 7 * 86400.0, 1800.0)),
        found_after_s=random.choice((0.0, 0.0, 20.0, 58.0)),
        gathered_s=random.choice((1.0, 20.0, 60.0)),
    )


def _produced(  # noqa: PLR0917 - drawn in one place
    random: Random, at_s: float, phone: str, network: str, size: str | int, partitions: int
) -> list[Producing]:
    order_id = _uuid(random)
    value = {"order_id": order_id, "phone_number": phone, "network": network, "size": size}
    elsewhere = random.randrange(partitions) if random.random() < 0.3 else None
    made = [Producing(at_s, order_id, value, elsewhere, at_s, first=True)]
    while random.random() < 0.3:
        other = value | ({"size": "7GB"} if random.random() < 0.3 else {})
        to = random.randrange(partitions) if random.random() < 0.3 else None
        # Soon, or so late that the order may have been forgotten.
        later_s = random.expovariate(0.05) if random.random() < 0.7 else random.uniform(0, 3 * 3600)
        made.append(Producing(at_s + later_s, order_id, other, to, at_s, first=False))
    return made


def _uuid(random: Random) -> str:
    return str(uuid.UUID(int=random.getrandbits(128), version=4))


def _plan(random: Random, seed: int, phones: Sequence[str]) -> Plan:
    """A tenth to two thirds of all sends go wrong somehow; each history has its own kinds.

    A provider that calls a reference delivered twice over, and delivered nothing, is beyond what anybody could find
    out; that lie is told about first sends alone, where it must not be believed. So is one that denies what it has
    delivered and would deliver it again: one of both is broken in a history.
    """
    total = random.choice((0.0, 0.1, 0.3, 0.65))
    kinds = random.sample(sorted(FAULTS.keys() - {_LIE}), random.choice((1, 4, 12, len(FAULTS) - 1)))
    dedupe = random.random() < 0.7
    if not dedupe or any(not FAULTS[kind].dedupe for kind in kinds):
        kinds = [kind for kind in kinds if not (FAULTS[kind].hidden_s or QueryAnswer.NOT_FOUND in FAULTS[kind].queries)]
        asked = sorted(set(QueryAnswer) - {QueryAnswer.NOT_FOUND})
    else:
        asked = sorted(QueryAnswer)
    lied_about = random.sample(phones, min(len(phones), random.choice((0, 0, 2))))
    shares = {name: total / len(kinds) for name in kinds}
    questions = random.choice((0.0, 0.0, 0.2))
    answers = random.sample(asked, 3)
    return Plan(
        shares=shares,
        query_shares=dict.fromkeys(answers, questions / 3),
        phones={phone: PhoneFault(fault=_LIE, times=1) for phone in lied_about},
        seed=seed,
        dedupe=dedupe,
    )
