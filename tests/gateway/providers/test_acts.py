"""Suspend and resume: a command each, to partition 0, once."""

import asyncio
from typing import Any

import orjson
import pytest

from schemas.providers import By, ProviderState
from services.at_ishare_contract import NAME
from services.gateway.server import Gateway
from services.gateway.writer import NotWrittenError
from tests.gateway.conftest import Answer, Log, View
from tests.gateway.providers.conftest import REASON, Fulfiller, Staff, commands
from tests.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="session")

BY_A_PERSON: dict[str, Any] = {
    "state": ProviderState.SUSPENDED, "by": By.OPERATOR, "actor": "user:kofi", "why": "ticket 4710",
}  # fmt: skip
TYPES = {"suspend": "SuspendProvider", "resume": "ResumeProvider"}
BY_ITSELF: dict[str, Any] = {"state": ProviderState.SUSPENDED, "by": By.PROVIDER, "why": "BAD_CREDENTIALS"}


async def sent(log: Log, known: int) -> dict[str, Any]:
    """The next command."""
    found: list[dict[str, Any]] = await until(lambda: _beyond(log, known), "the command")
    return found[-1]


async def _beyond(log: Log, known: int) -> list[dict[str, Any]] | None:
    found = await commands(log)
    return found if len(found) > known else None


@pytest.mark.parametrize(
    ("act", "before", "after"),
    [
        ("suspend", {}, "suspended"),
        ("suspend", BY_ITSELF, "suspended"),
        ("resume", BY_A_PERSON, "up"),
        ("resume", BY_ITSELF, "up"),
    ],
)
async def test_it_is_sent_and_seen(
    fulfiller: Fulfiller, operator: Staff, log: Log, view: View, *, act: str, before: dict[str, Any], after: str
) -> None:
    await fulfiller.says(**before)
    known = len(await commands(log))
    acting = asyncio.create_task(operator.act(act, prefer="wait=20"))
    command = await sent(log, known)
    assert (command["type"], command["provider"], command["reason"]) == (TYPES[act], NAME, REASON)
    done = {"actor": command["actor"], "command_id": command["command_id"], "why": REASON, "by": By.OPERATOR}
    await fulfiller.says(1, state=ProviderState(after), **done)
    answer = await acting
    assert answer.status == 200, answer.content
    assert answer.json["provider"]["state"] == after
    (noted,) = await view.connection.fetch(
        "SELECT target, detail FROM access.audit WHERE action = $1 ORDER BY id DESC LIMIT 1", act
    )
    assert (noted["target"], orjson.loads(noted["detail"])) == (NAME, {"reason": REASON})


async def test_it_goes_to_partition_0_under_the_provider_s_name(
    fulfiller: Fulfiller, operator: Staff, log: Log
) -> None:
    answer = await operator.act("suspend")
    assert (answer.status, answer.json["provider"]["state"]) == (202, "up")
    record = (await log.records("fulfillment.commands", NAME))[-1]
    assert (record.partition, dict(record.headers)["ce_type"]) == (0, b"SuspendProvider")


async def test_the_second_of_two_hears_what_happened(
    fulfiller: Fulfiller, operator: Staff, log: Log, view: View
) -> None:
    seen = await fulfiller.says()
    known = len(await commands(log))
    acting = [asyncio.create_task(operator.act("suspend", prefer="wait=20")) for _ in range(2)]
    await until(lambda: _beyond(log, known + 1), "both commands")
    first, _ = (await commands(log))[-2:]
    await fulfiller.says(60, **(BY_A_PERSON | {"actor": "user:ama", "command_id": first["command_id"], "why": "first"}))
    answers: list[Answer] = await asyncio.gather(*acting)
    assert sorted(answer.status for answer in answers) == [200, 409]
    (refused,) = [answer for answer in answers if answer.status == 409]
    assert refused.is_problem(409)
    assert "by user:ama: first" in refused.json["detail"]
    # And whoever looked before that and acts now.
    late = await operator.act("resume", since=seen.since.isoformat())
    assert late.is_problem(409)
    assert "changed meanwhile: suspended" in late.json["detail"]


@pytest.mark.parametrize(("act", "before"), [("suspend", BY_A_PERSON), ("resume", {})])
async def test_what_is_so_already_is_refused(
    fulfiller: Fulfiller, operator: Staff, silence: None, act: str, before: dict[str, Any]
) -> None:
    await fulfiller.says(**before)
    answer = await operator.act(act)
    assert answer.is_problem(409)
    assert "already" in answer.json["detail"]


BAD: tuple[object, ...] = (
    {},
    {"reason": ""},
    {"reason": " x "},
    {"reason": "nul\0"},
    {"reason": "x" * 10_240},
    {"reason": 4711},
    {"reason": REASON, "since": "yesterday"},
    {"reason": REASON, "since": 1},
    [1],
)


async def test_what_is_not_said_rightly_changes_nothing(fulfiller: Fulfiller, operator: Staff, silence: None) -> None:
    for body in BAD:
        assert (await operator.act("suspend", body=body)).is_problem(400), body


async def test_a_provider_that_nobody_knows(fulfiller: Fulfiller, operator: Staff, silence: None) -> None:
    for name in ("nobody", "AT-ISHARE", "%00", "a" * 3000):
        assert (await operator.act("suspend", name)).is_problem(404), name[:20]


async def test_who_only_looks_suspends_nobody(fulfiller: Fulfiller, viewer: Staff, silence: None) -> None:
    assert (await viewer.act("suspend")).is_problem(403)


async def test_without_kafka_it_is_not_accepted(
    fulfiller: Fulfiller, operator: Staff, gateway: Gateway, silence: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise NotWrittenError(maybe_written=False)

    monkeypatch.setattr(gateway.writer, "append_as_it_is", away)
    assert (await operator.act("suspend")).is_problem(503)
