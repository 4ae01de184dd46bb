"""Resolve, override, cancel: a command each, once, in the states that allow it."""

import asyncio
from typing import Any

import pytest
import pytest_asyncio

from services.gateway import keys
from services.gateway.access import Role
from services.gateway.reads.questions import STATUS_OF
from tests.gateway.conftest import FULFILLMENT, Answer, Client, Log, View
from tests.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="session")

ADMIN = "/api/admin/fulfillment"
ALLOWED: dict[str, set[tuple[str, int]]] = {
    "resolve": {("review", 1)},
    "override": {("failed", 3)},
    "cancel": {("created", 0), ("held", 0)},
}
STATES = [(state, attempt) for state in STATUS_OF for attempt in (0, 1, 3)]
BODIES: dict[str, dict[str, Any]] = {
    "resolve": {"delivered": True, "reason": "ticket 4711"},
    "override": {"reason": "ticket 4711"},
    "cancel": {"reason": "ticket 4711"},
}
TYPES = {"resolve": "ResolveFulfillment", "override": "OverrideFulfillment", "cancel": "CancelFulfillment"}


class Operator:
    def __init__(self, client: Client, token: str) -> None:
        self._client = client
        self._headers = {"Authorization": f"Bearer {token}"}

    async def act(self, act: str, order_id: str, body: object = None, prefer: str = "wait=0") -> Answer:
        headers = self._headers | {"Prefer": prefer}
        body = BODIES[act] if body is None else body
        return await self._client.request("POST", f"{ADMIN}/{order_id}/{act}", json=body, headers=headers)


@pytest_asyncio.fixture(loop_scope="session")
async def operator(client: Client, view: View) -> Operator:
    return Operator(client, await keys.create(view.connection, Role.OPERATOR, "acme"))


@pytest.mark.parametrize("act", BODIES)
async def test_an_act_is_taken_in_the_states_that_allow_it_and_refused_in_all_others(
    operator: Operator, view: View, log: Log, act: str
) -> None:
    for state, attempt in STATES:
        order_id = await view.add(state=state, status=STATUS_OF[state], attempt_number=attempt)
        answer = await operator.act(act, order_id)
        commands = await log.commands(order_id)
        allowed = state in {s for s, _ in ALLOWED[act]} and (act != "override" or attempt == 3)
        if allowed:
            assert answer.status == 202, (state, answer.content)
            (command,) = commands
            assert (command["type"], command["reason"]) == (TYPES[act], "ticket 4711")
            assert command["actor"] != "local"
        else:
            assert answer.is_problem(409)
            assert state in answer.json["detail"]
            assert commands == []


async def test_the_answer_waits_for_what_the_fulfiller_says(operator: Operator, view: View, log: Log) -> None:
    for rejected, status in ((None, 200), ("the order was attempted meanwhile", 409)):
        order_id = await view.add(state="created")
        acting = asyncio.create_task(operator.act("cancel", order_id, prefer="wait=20"))
        commands: list[dict[str, Any]] = []

        async def sent(order_id: str = order_id, commands: list[dict[str, Any]] = commands) -> bool:
            commands += await log.commands(order_id)
            return bool(commands)

        await until(sent, "the command")
        await view.change(order_id, state="cancelled", status="failed", command_id=commands[0]["command_id"],
                          command_rejected=rejected)  # fmt: skip
        answer = await acting
        assert answer.status == status
        assert rejected is None or answer.json["detail"] == rejected


@pytest.mark.parametrize(
    ("act", "body"),
    [
        ("cancel", {}),
        ("cancel", {"reason": ""}),
        ("cancel", {"reason": "  x  "}),
        ("cancel", {"reason": "nul\0"}),
        ("cancel", {"reason": "x" * 10_240}),
        ("override", {"reason": 4711}),
        ("resolve", {"reason": "ticket 4711"}),
        ("resolve", {"reason": "ticket 4711", "delivered": "yes"}),
        ("resolve", [1]),
    ],
)
async def test_what_is_not_said_rightly_changes_nothing(
    operator: Operator, view: View, log: Log, act: str, body: object
) -> None:
    order_id = await view.add(state="review" if act == "resolve" else "created")
    assert (await operator.act(act, order_id, body)).is_problem(400)
    assert await log.commands(order_id) == []


@pytest.mark.usefixtures("silence")
@pytest.mark.parametrize("action", ["trigger", "retry"])
@pytest.mark.parametrize("reason", ["x" * 10_240, "nul\0", 4711])
async def test_a_retry_that_is_not_said_rightly_changes_nothing(
    client: Client, view: View, action: str, reason: object
) -> None:
    order_id = await view.add(state="waiting", status="failed", attempt_number=1)
    said = {"action": action, "orderId": order_id, "reason": reason}
    answer = await client.request("POST", FULFILLMENT, json=said)
    assert answer.is_problem(400)
    assert answer.json["detail"].startswith("reason")


@pytest.mark.usefixtures("silence")
@pytest.mark.parametrize("role", [Role.PURCHASER, Role.VIEWER])
async def test_who_may_not_act_changes_nothing_in_any_state(client: Client, view: View, role: Role) -> None:
    """Of their own account's orders, and of another's."""
    headers = {"Authorization": f"Bearer {await keys.create(view.connection, role, 'acme')}", "Prefer": "wait=0"}
    for state, attempt in STATES:
        account = "acme" if attempt else "other"
        order_id = await view.add(account=account, state=state, status=STATUS_OF[state], attempt_number=attempt)
        for act, body in BODIES.items():
            answer = await client.request("POST", f"{ADMIN}/{order_id}/{act}", json=body, headers=headers)
            assert answer.is_problem(403), (state, act)
        for action in ("trigger", "retry"):
            said = {"action": action, "orderId": order_id}
            assert (await client.request("POST", FULFILLMENT, json=said, headers=headers)).is_problem(403), state


async def test_an_order_that_nobody_knows(operator: Operator) -> None:
    assert (await operator.act("cancel", "00000000-0000-4000-8000-00000000dead")).is_problem(404)
    assert (await operator.act("cancel", "no-order")).is_problem(400)


async def test_an_act_is_in_the_audit_log(operator: Operator, view: View) -> None:
    order_id = await view.add(state="created")
    await operator.act("cancel", order_id)
    row = await view.connection.fetchrow("SELECT action, detail FROM access.audit WHERE target = $1", order_id)
    assert row is not None
    assert (row["action"], row["detail"]) == ("cancel", {"reason": "ticket 4711"})
