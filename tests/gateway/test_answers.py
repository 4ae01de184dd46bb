"""What is said before and after a command, for every state of order-life.md."""

import uuid
from typing import Any

import pytest

from services.gateway import answers
from services.gateway.answers import Action, Verdict

MINE = str(uuid.uuid4())


def row(state: str, status: str, attempt: int = 1, **columns: Any) -> dict[str, Any]:
    return {
        "state": state,
        "status": status,
        "attempt_number": attempt,
        "max_attempts": 3,
        "sequence": 5,
        "command_id": None,
        "command_rejected": None,
        **columns,
    }


@pytest.mark.parametrize(
    ("state", "status", "attempt", "trigger", "retry"),
    [
        ("received", "pending", 0, Verdict.RUNNING, Verdict.REFUSED),
        ("created", "pending", 0, Verdict.RUNNING, Verdict.REFUSED),
        ("held", "pending", 0, Verdict.SEND, Verdict.REFUSED),
        ("attempting", "processing", 1, Verdict.RUNNING, Verdict.REFUSED),
        ("accepted", "processing", 1, Verdict.RUNNING, Verdict.REFUSED),
        ("unknown", "processing", 1, Verdict.RUNNING, Verdict.REFUSED),
        ("review", "processing", 3, Verdict.RUNNING, Verdict.REFUSED),
        ("waiting", "failed", 1, Verdict.SEND, Verdict.SEND),
        ("waiting", "failed", 2, Verdict.SEND, Verdict.SEND),
        ("settling", "failed", 3, Verdict.REFUSED, Verdict.REFUSED),
        ("failed", "failed", 3, Verdict.REFUSED, Verdict.REFUSED),
        ("failed", "failed", 1, Verdict.SEND, Verdict.SEND),
        ("cancelled", "failed", 0, Verdict.REFUSED, Verdict.REFUSED),
        ("rejected", "failed", 0, Verdict.REFUSED, Verdict.REFUSED),
        ("delivered", "success", 1, Verdict.DELIVERED, Verdict.REFUSED),
    ],
)
def test_every_state_has_its_answer(state: str, status: str, attempt: int, trigger: Verdict, retry: Verdict) -> None:
    for action, verdict in ((Action.TRIGGER, trigger), (Action.RETRY, retry)):
        answer = answers.before_command(action, row(state, status, attempt))
        assert answer.verdict is verdict
        assert bool(answer.why) == (verdict is Verdict.REFUSED)


@pytest.mark.parametrize(
    ("seen", "verdict"),
    [
        (row("waiting", "failed"), Verdict.RUNNING),
        (row("attempting", "processing", 2, command_id=MINE), Verdict.RUNNING),
        (row("waiting", "failed", 2, command_id=MINE), Verdict.FAILED),
        (row("delivered", "success", 2, command_id=MINE), Verdict.DELIVERED),
        (row("delivered", "success", 2), Verdict.DELIVERED),
        (row("waiting", "failed", command_id=MINE, command_rejected="why"), Verdict.REFUSED),
        (row("waiting", "failed", command_id=uuid.uuid4(), command_rejected="other"), Verdict.RUNNING),
    ],
)
def test_a_command_is_answered_by_its_own_outcome(seen: dict[str, Any], verdict: Verdict) -> None:
    assert answers.after_command(seen, MINE).verdict is verdict


def test_only_a_waiting_order_will_be_retried() -> None:
    assert answers.will_retry(row("waiting", "failed"))
    assert not answers.will_retry(row("settling", "failed", 3))
    assert not answers.will_retry(row("failed", "failed"))


def test_a_rejected_order_differs_from_the_received_one_of_the_same_sequence() -> None:
    assert answers.etag(row("created", "pending")) == '"5"'
    assert answers.etag(row("received", "pending", sequence=0)) != answers.etag(row("rejected", "failed", sequence=0))
