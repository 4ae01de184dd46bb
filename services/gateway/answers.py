"""What a row of fulfillment_logs means for somebody who asks about, triggers or retries its order. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from typing import Any, Final

Row = Mapping[str, Any]

FINAL_STATES: Final = frozenset({"delivered", "failed", "cancelled", "rejected"})


class Action(StrEnum):
    TRIGGER = "trigger"
    RETRY = "retry"


class Verdict(Enum):
    DELIVERED = auto()
    FAILED = auto()
    RUNNING = auto()
    """On its way without anybody's doing; or the command is not answered yet."""
    REFUSED = auto()
    DONE = auto()
    """The fulfiller has acted on the command."""
    SEND = auto()
    """The fulfiller is to be asked."""


@dataclass(frozen=True, slots=True)
class Answer:
    verdict: Verdict
    why: str = ""


def before_command(action: Action, row: Row) -> Answer:
    """What to say at once, or that the command is to be sent."""
    status, state = row["status"], row["state"]
    if status == "success":
        if action is Action.TRIGGER:
            return Answer(Verdict.DELIVERED)
        return Answer(Verdict.REFUSED, "the order is delivered; there is nothing to retry")
    if status == "failed":
        return _before_another_attempt(row)
    if action is Action.RETRY:
        return Answer(Verdict.REFUSED, _why_no_retry(state))
    return Answer(Verdict.SEND if state == "held" else Verdict.RUNNING)


def _before_another_attempt(row: Row) -> Answer:
    if row["state"] in {"cancelled", "rejected"}:
        return Answer(Verdict.REFUSED, f"the order is {row['state']}; make a new one")
    if row["attempt_number"] >= row["max_attempts"]:
        return Answer(Verdict.REFUSED, f"all {row['max_attempts']} attempts of the order are used up")
    return Answer(Verdict.SEND)


def _why_no_retry(state: str) -> str:
    if state == "held":
        return "no provider serves the order's network yet; trigger it once one does"
    if state == "review":
        return "it is not known whether the order was delivered; it must be resolved, not sent again"
    return "the order is on its way; there is nothing to retry yet"


def after_command(row: Row, command_id: str) -> Answer:
    """What became of the order since the command was sent."""
    answered = str(row["command_id"]) == command_id
    if answered and row["command_rejected"] is not None:
        return Answer(Verdict.REFUSED, row["command_rejected"])
    if row["status"] == "success":
        return Answer(Verdict.DELIVERED)
    if answered and row["status"] == "failed":
        return Answer(Verdict.FAILED)
    return Answer(Verdict.RUNNING)


def after_act(row: Row, command_id: str) -> Answer:
    """What became of a command that is no attempt to deliver."""
    if str(row["command_id"]) != command_id:
        return Answer(Verdict.RUNNING)
    if row["command_rejected"] is not None:
        return Answer(Verdict.REFUSED, row["command_rejected"])
    return Answer(Verdict.DONE)


def before_resolve(row: Row) -> str:
    """Why not, or nothing."""
    return "" if row["state"] == "review" else f"only an order in review is resolved; this one is {row['state']}"


def before_override(row: Row) -> str:
    if row["state"] == "failed" and row["attempt_number"] >= row["max_attempts"]:
        return ""
    return f"only a confirmed failure with no attempt left is overridden; the order is {row['state']}"


def before_cancel(row: Row) -> str:
    if row["state"] in {"created", "held"}:
        return ""
    if row["state"] == "received":
        # Nobody knows it yet but the view: the command could be read before it, and be about no order.
        return "the order is received, and not taken up yet; it can be cancelled in a moment"
    return f"only an order that was never attempted is cancelled; this one is {row['state']}"


def on_its_way(row: Row) -> Answer:
    """What became of an order that runs by itself."""
    if row["status"] == "success":
        return Answer(Verdict.DELIVERED)
    return Answer(Verdict.FAILED if row["status"] == "failed" else Verdict.RUNNING)


def will_retry(row: Row) -> bool:
    """Another attempt is planned. An order that only settles gets none."""
    return bool(row["state"] == "waiting")


def etag(row: Row) -> str:
    """The sequence of the last event; a rejected order has had none, and yet differs from a received one."""
    suffix = "-rejected" if row["state"] == "rejected" else ""
    return f'"{row["sequence"]}{suffix}"'
