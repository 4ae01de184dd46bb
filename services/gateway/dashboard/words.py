"""Orders and what happened to them, in words for operators. Pure."""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from schemas.bundle import masked_phone, spoken_size
from services.gateway import answers
from services.gateway.dead_letters.masking import masked

Row = Mapping[str, Any]
"""Of fulfillment_logs."""

STATES: Final = {
    "received": ("Received", "neutral"),
    "created": ("Waiting for a slot", "neutral"),
    "held": ("Held: nobody serves the network", "doubt"),
    "attempting": ("Being sent", "busy"),
    "accepted": ("Accepted by the provider", "busy"),
    "unknown": ("In doubt: being verified", "doubt"),
    "review": ("In review: a person decides", "doubt"),
    "waiting": ("Waiting for the next attempt", "waiting"),
    "settling": ("Failed: being settled", "waiting"),
    "delivered": ("Delivered", "good"),
    "failed": ("Failed", "bad"),
    "cancelled": ("Cancelled", "bad"),
    "rejected": ("Rejected", "bad"),
}
"""Each state's name and tone."""

_ACTS: Final = {
    "attempt": "next attempt",
    "reply": "the provider's reply is due",
    "verify": "the provider is asked",
    "settle": "the provider is asked for the last time",
}
_NEVER_TAKEN: Final = {
    "not_sent": "It never left: nothing can have been delivered.",
    "turned_away": "The provider turned it away before looking at it.",
    "suspended": "The provider refuses our account for now.",
}
_TRIGGERS: Final = {
    "first": "",
    "retry": "as planned",
    "manual": "on a person's word",
    "override": "with a new reference",
}
_OFFERED: Final = {
    "retry": ("Retry now", "One more attempt at once, with the same reference."),
    "trigger": ("Trigger", "Attempt it as soon as a provider serves its network."),
    "resolve-delivered": ("It was delivered", "You have the provider's word that the bundle arrived."),
    "resolve-failed": ("It was not delivered", "You have the provider's word that it did not."),
    "override": ("Override", "A new reference, after every earlier one is known to have failed."),
    "cancel": ("Cancel", "Nothing is sent. This cannot be undone."),
}
"""Each act's label, and what it does."""
_FURTHER: Final = ("resolve-delivered", "resolve-failed", "override", "cancel")
_NOTHING_TO_TRIGGER: Final = "the order is on its way by itself, or at its end"
IN_DOUBT: Final = frozenset({"unknown", "review"})


class Happening(NamedTuple):
    """One event of a timeline."""

    title: str
    text: str
    tone: str


class Offer(NamedTuple):
    """An act on an order: whether it may be done now, and if not, why."""

    name: str
    label: str
    about: str
    refused_because: str = ""


def size(row: Row) -> str:
    return spoken_size(row["size_mb"])


def phone(row: Row, *, whole: bool) -> str:
    return str(row["phone_number"]) if whole else masked_phone(row["phone_number"])


_BETWEEN: Final = r"[\s().\-/_\u2010-\u2015]{0,3}"
"""What people and machines put between the digits of a phone number."""


def without_number(said: Any, row: Row) -> Any:
    """Whatever a provider put it into: its number masked, behind any prefix, however its digits are set apart."""
    match said:
        case str():
            national = row["phone_number"][-9:]
            return re.sub(_BETWEEN.join(national), f"{national[:4]}•••{national[-2:]}", said)
        case dict():
            return {without_number(name, row): without_number(part, row) for name, part in said.items()}
        case list():
            return [without_number(part, row) for part in said]
        case int() if str(said).endswith(row["phone_number"][-9:]):
            return without_number(str(said), row)
        case _:
            return said


_FREE: Final = frozenset({"error_message", "error_code", "api_response", "why", "reason"})
"""Where providers and people write what they like: other people's numbers too."""
_MINUTE_S: Final = 60
_DIGITS: Final = 9
"""A number has so many at least."""


def without_numbers(event: Any, row: Row) -> Any:
    """An event for those who are to see nobody's number: its own nowhere, none in what was freely written."""
    own = without_number(event, row)
    return {name: _masked(said) if name in _FREE else said for name, said in own.items()} | (
        {"command": without_numbers(own["command"], row)} if isinstance(own.get("command"), dict) else {}
    )


def _masked(said: Any) -> Any:
    match said:
        case str():
            return masked(said)
        case dict():
            return {masked(str(name)): _masked(part) for name, part in said.items()}
        case list():
            return [_masked(part) for part in said]
        case bool():
            return said
        case int() if len(str(said)) >= _DIGITS:
            return masked(str(said))
        case _:
            return said


def complaint(row: Row, *, whole: bool) -> str:
    """What the provider said of its failure."""
    said = row["error_message"] or ""
    return str(said) if whole else masked(without_number(said, row))


def code(row: Row, *, whole: bool) -> str:
    """What the provider calls its failure: its own text as well."""
    said = row["error_code"] or ""
    return str(said) if whole else masked(without_number(said, row))


def state_name(state: str) -> str:
    return STATES[state][0]


def tone(state: str) -> str:
    return STATES[state][1]


def next_act(row: Row) -> str:
    """What comes next, without its time."""
    if row["next_act"] is not None:
        return _ACTS[row["next_act"]]
    return "a person triggers it" if row["state"] == "held" else ""


def offers(row: Row) -> list[Offer]:
    """Every act there is, in the order of their buttons: retry or trigger first, the two resolutions next."""
    first = "trigger" if row["state"] == "held" else "retry"
    return [Offer(name, *_OFFERED[name], refused(name, row)) for name in (first, *_FURTHER)]


def refused(act: str, row: Row) -> str:
    """Why not, or nothing: what the API says, which the fulfiller may still refuse."""
    match act:
        case "retry" | "trigger":
            answer = answers.before_command(answers.Action(act), row)
            return "" if answer.verdict is answers.Verdict.SEND else answer.why or _NOTHING_TO_TRIGGER
        case "override":
            return answers.before_override(row)
        case "cancel":
            return answers.before_cancel(row)
        case _:
            return answers.before_resolve(row)


def happened(event: Mapping[str, Any]) -> Happening:
    """One event of the timeline in a sentence."""
    teller = _TELLERS.get(event["type"], _unknown)
    return teller(event)


def _requested(event: Mapping[str, Any]) -> Happening:
    whom = masked_phone(event["phone_number"])
    bundle = f"{spoken_size(event['size_mb'])} on {event['network']} for {whom}"
    text = f"{bundle}, in at most {event['max_attempts']} attempts."
    if event.get("provider") is None:
        return Happening("Held", f"{text} No provider serves the network.", "doubt")
    return Happening("Taken up", text, "neutral")


def _attempted(event: Mapping[str, Any]) -> Happening:
    why = _TRIGGERS[event["trigger"]]
    said = f"Attempt {event['attempt']} of {event['max_attempts']}"
    text = f"Sent to {event['provider']} as {event['reference']}{', ' + why if why else ''}."
    return Happening(said, text, "busy")


def _succeeded(event: Mapping[str, Any]) -> Happening:
    how = {"verification": "The provider confirmed it when asked", "resolution": "A person confirmed it"}
    text = how.get(event["source"], "The provider said so at once")
    transaction = f"; transaction {event['transaction_id']}" if event.get("transaction_id") else ""
    return Happening("Delivered", f"{text}{transaction}.", "good")


def _failed(event: Mapping[str, Any]) -> Happening:
    why = event.get("error_message") or event.get("error_code") or "no reason was given"
    if event["final"]:
        return Happening("Failed for good", f"{why} ({event.get('error_code')}).", "bad")
    return Happening(f"Attempt {event['attempt']} failed", f"{why} ({event.get('error_code')}).", "waiting")


def _voided(event: Mapping[str, Any]) -> Happening:
    return Happening(f"Attempt {event['attempt']} did not count", _NEVER_TAKEN[event["void_reason"]], "waiting")


def _uncertain(event: Mapping[str, Any]) -> Happening:
    code = f" ({event['error_code']})" if event.get("error_code") else ""
    text = f"It may have been delivered{code}. It is not sent again before the provider has said what became of it."
    return Happening("In doubt", text, "doubt")


def _checked(event: Mapping[str, Any]) -> Happening:
    return Happening(f"Asked the provider ({event['step']})", "The answer proves nothing yet.", "doubt")


def _review(_event: Mapping[str, Any]) -> Happening:
    return Happening("Review requested", "Nobody could say what became of it: a person decides.", "doubt")


def _resolved(event: Mapping[str, Any]) -> Happening:
    return Happening("Resolved by a person", "Delivered." if event["delivered"] else "Not delivered.", "neutral")


def _unknown(event: Mapping[str, Any]) -> Happening:
    return Happening(event["type"], "An event that this version has no words for.", "neutral")


def _accepted(_event: Mapping[str, Any]) -> Happening:
    return Happening("Accepted", "The provider queued it, and is asked what became of it.", "busy")


_TELLERS: Final[dict[str, Callable[[Mapping[str, Any]], Happening]]] = {
    "OrderCreated": lambda _: Happening("Ordered", "The order stands in the log.", "neutral"),
    "FulfillmentRequested": _requested,
    "FulfillmentAttempted": _attempted,
    "FulfillmentSucceeded": _succeeded,
    "FulfillmentAccepted": _accepted,
    "FulfillmentFailed": _failed,
    "AttemptVoided": _voided,
    "FulfillmentUncertain": _uncertain,
    "StatusChecked": _checked,
    "ReviewRequested": _review,
    "FulfillmentResolved": _resolved,
    "FulfillmentCancelled": lambda _: Happening("Cancelled", "Before the first attempt.", "bad"),
    "CommandRejected": lambda event: Happening(f"{event['command_type']} refused", f"{event['why']}.", "neutral"),
    "DeadLetter": lambda event: Happening("Dead letter", f"{event['why']}.", "bad"),
    "Quarantined": lambda event: Happening("Could not be applied", f"{event['why']}.", "bad"),
}  # fmt: skip


def alert_name(alert: Any) -> str:
    return str(alert.name).replace("_", " ").capitalize()


def breaker(provider: Mapping[str, Any]) -> str:
    """Whether calls go through to it: what keeps them from a provider is its suspension."""
    if provider["state"] != "suspended":
        return "closed"
    return "held open" if provider["by"] == "operator" else "open, probing"


def job_tone(state: str) -> str:
    """Of a retry of many."""
    return {"canary": "busy", "running": "busy", "paused": "doubt", "done": "good"}.get(state, "neutral")


def figure(value: float, unit: str) -> str:
    """With its unit; a share in percent."""
    scaled, spoken = (100 * value, "%") if unit == "share" else (value, unit)
    return f"{scaled:,.2f}".rstrip("0").rstrip(".") + f" {spoken}"


def at_risk(rows: Sequence[Row]) -> Any:
    """The price of those in doubt."""
    return sum((row["price"] or 0 for row in rows if row["state"] in IN_DOUBT), 0)


def later(before: datetime | str, at: datetime | str) -> str:
    """How long after the step before; nothing where that is less than a second."""
    s = round((_moment(at) - _moment(before)).total_seconds())
    for width_s, said in ((172_800, f"{s // 86_400} days"), (3600, f"{s // 3600} h {s % 3600 // 60} min")):
        if s >= width_s:
            return f"{said} later"
    if s >= _MINUTE_S:
        return f"{s // _MINUTE_S} min {s % _MINUTE_S} s later"
    return f"{s} s later" if s > 0 else ""


def _moment(at: datetime | str) -> datetime:
    return datetime.fromisoformat(at) if isinstance(at, str) else at


def iso(at: datetime | str | None) -> str:
    """For <time datetime>; events carry text already."""
    return at if isinstance(at, str) else at.isoformat() if at else ""
