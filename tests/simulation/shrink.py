"""A failure made small and told in words."""

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final

from schemas.fulfillment import read_event
from schemas.topics import FULFILLMENT_COMMANDS, FULFILLMENT_DEAD_LETTER, FULFILLMENT_EVENTS, ORDERS_EVENTS
from tests.simulation.faults import Fault
from tests.simulation.history import Outcome
from tests.simulation.loop import BEGIN_S

ORDER: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_TOLD: Final = ("attempt", "source", "error_code", "void_reason", "why", "trigger", "reference", "deadline")


def shrunk(outcome: Outcome, simulate: Callable[[int, Sequence[Fault]], Outcome]) -> Outcome:
    """The same seed with as few faults as still break an invariant that was broken: none of them can be left out."""
    broken = {breach.split()[0] for breach in outcome.breaches}
    smallest = outcome
    size = max(len(outcome.faults) // 2, 1)
    while True:
        for begin in range(0, len(smallest.faults), size):
            fewer = [*smallest.faults[:begin], *smallest.faults[begin + size :]]
            tried = simulate(outcome.seed, fewer)
            if broken & {breach.split()[0] for breach in tried.breaches}:
                smallest = tried
                break
        else:
            if size == 1:
                return smallest
            size = max(size // 2, 1)


def told(outcome: Outcome) -> str:
    """Seed, faults, breaches, and the history of the first order that a breach names."""
    lines = [f"seed {outcome.seed}: {len(outcome.breaches)} breaches", *outcome.breaches[:10]]
    lines += [f"{len(outcome.faults)} faults:", *(f"  {fault}" for fault in outcome.faults)]
    named = next((found[0] for breach in outcome.breaches if (found := ORDER.search(breach))), None)
    if named is not None:
        lines += [f"order {named}:", *_life(outcome, named)]
    return "\n".join(lines)


def _life(outcome: Outcome, order_id: str) -> list[str]:
    moments: list[tuple[float, str]] = list(outcome.happened)
    key = order_id.encode()
    for topic in (ORDERS_EVENTS, FULFILLMENT_COMMANDS, FULFILLMENT_EVENTS, FULFILLMENT_DEAD_LETTER):
        for record in outcome.evidence.of(topic):
            if record.key == key:
                at_s = record.timestamp / 1000 - BEGIN_S
                moments.append((at_s, f"{record.place}: {_said(topic, record)}"))
    for reference, known in outcome.evidence.ledger.items():
        if reference.startswith(order_id):
            moments += [(at - BEGIN_S, f"the provider receives {reference}") for at in known.sent_at]
            moments.append((outcome.virtual_s, f"the provider has delivered {reference} {known.deliveries} times"))
    return [f"  {at_s:12.3f} s  {what}" for at_s, what in sorted(moments)]


def _said(topic: str, record: Any) -> str:
    if topic != FULFILLMENT_EVENTS:
        headers = {name: value for name, value in record.headers if name.startswith("dead_letter") or name == "ce_type"}
        return f"{(record.value or b'')[:160].decode(errors='replace')} {headers or ''}"
    event = read_event(record.value or b"")
    said = {name: value for name in _TOLD if (value := getattr(event, name, None)) is not None}
    planned = getattr(event, "next", None)
    if planned is not None:
        said["next"] = f"{planned.act} at {_seconds(planned.at):.3f} s"
    words = ", ".join(f"{n} {_seconds(v):.3f} s" if isinstance(v, datetime) else f"{n} {v}" for n, v in said.items())
    return f"{event.type} ({event.sequence}) {words}"


def _seconds(at: datetime) -> float:
    return at.timestamp() - BEGIN_S
