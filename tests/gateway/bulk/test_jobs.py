"""How a bulk retry goes its way, with answers that the tests give in the fulfiller's place."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from schemas.ids import retry_command_id
from tests.gateway.bulk.conftest import REASON, Staff
from tests.gateway.bulk.test_preview import in_state
from tests.gateway.conftest import Log, Stand, View, standing
from tests.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="session")


class Orders:
    """Waiting orders, and the fulfiller's part."""

    def __init__(self, view: View, ids: list[str]) -> None:
        self.ids = ids
        self._view = view

    async def answer(
        self, job_id: str, order_id: str, state: str = "delivered", why: str | None = None, *, turned_away: bool = False
    ) -> None:
        status = {"delivered": "success", "unknown": "processing"}.get(state, "failed")
        await self._view.change(
            order_id,
            attempt_number=1 if why or turned_away else 2,
            state=state,
            status=status,
            command_id=retry_command_id(job_id, order_id),
            command_rejected=why,
        )


@pytest.fixture
def waiting(view: View) -> Any:
    async def made(count: int) -> Orders:
        return Orders(view, [await view.add(**in_state("waiting")) for _ in range(count)])

    return made


async def stands(staff: Staff, job_id: str, **wanted: Any) -> dict[str, Any]:
    """The job once it is so."""

    async def there() -> dict[str, Any] | None:
        job = await staff.job(job_id)
        return job if all(job[name] == said for name, said in wanted.items()) else None

    found: dict[str, Any] = await until(there, f"the bulk retry to be {wanted}")
    return found


async def test_a_few_go_first_and_the_others_follow(operator: Staff, waiting: Any, log: Log) -> None:
    orders = await waiting(8)
    token = (await operator.preview(orderIds=orders.ids))["token"]
    job = await operator.start(token=token, canary=2, perSecond=50)
    assert (job["state"], job["orders"], job["actor"], job["reason"]) == ("canary", 8, operator.actor, REASON)
    await stands(operator, job["id"], sent=2, waiting=6)
    first = [row["orderId"] for row in await operator.rows(job["id"]) if row["sentAt"]]
    assert first == orders.ids[:2], "the oldest go first"
    for order in first:
        await orders.answer(job["id"], order)
    await stands(operator, job["id"], state="running", sent=6, delivered=2)
    third, fourth, fifth, *rest = orders.ids[2:]
    await orders.answer(job["id"], third, "waiting", "the order changed since it was looked at")
    await orders.answer(job["id"], fourth, "waiting")
    await orders.answer(job["id"], fifth, "unknown")
    await orders.answer(job["id"], rest[0], "waiting", turned_away=True)
    await stands(operator, job["id"], state="running", sent=len(rest), failed=1, inDoubt=1, refused=1)
    for order in rest:
        await orders.answer(job["id"], order)
    done = await stands(operator, job["id"], state="done")
    counts = {name: done[name] for name in ("delivered", "failed", "inDoubt", "refused", "waiting", "sent")}
    assert counts == {"delivered": 5, "failed": 1, "inDoubt": 1, "refused": 1, "waiting": 0, "sent": 0}
    # What comes of a doubt is told when it comes.
    await orders.answer(job["id"], fifth)
    await stands(operator, job["id"], delivered=6, inDoubt=0)
    (refused,) = await operator.rows(job["id"], outcome="refused")
    assert (refused["orderId"], refused["why"]) == (third, "the order changed since it was looked at")
    for number, order in enumerate(orders.ids):
        (command,) = await log.commands(order)
        said = {name: command[name] for name in ("type", "command_id", "actor", "reason", "expected_sequence")}
        assert said == {
            "type": "RetryFulfillment",
            "command_id": retry_command_id(job["id"], order),
            "actor": operator.actor,
            "reason": REASON,
            "expected_sequence": 1,
        }, number


async def test_a_canary_that_fails_halts_it_until_a_person_says_so(operator: Staff, waiting: Any, view: View) -> None:
    orders = await waiting(5)
    job = await operator.start(orderIds=orders.ids, canary=2, tolerate=0, perSecond=50)
    await stands(operator, job["id"], sent=2)
    await orders.answer(job["id"], orders.ids[0], "waiting")
    halted = await stands(operator, job["id"], state="paused", failed=1, waiting=3)
    assert halted["why"] == "1 of the first 2 orders failed again"
    # What was sent is heard of all the same.
    await orders.answer(job["id"], orders.ids[1])
    await stands(operator, job["id"], delivered=1)
    resumed = await operator.post(f"/{job['id']}/resume", reason="it was the number")
    assert (resumed.status, resumed.json["job"]["state"]) == (200, "running")
    await stands(operator, job["id"], sent=3)
    for order in orders.ids[2:]:
        await orders.answer(job["id"], order)
    ended = await stands(operator, job["id"], state="done", delivered=4)
    assert ended["endedAt"] is not None
    audit = await view.connection.fetch(
        "SELECT actor, action FROM access.audit WHERE target = $1 ORDER BY id", job["id"]
    )
    assert [tuple(row) for row in audit] == [
        (operator.actor, "bulk_retry_started"),
        (operator.actor, "bulk_retry_resumed"),
    ]


async def test_a_person_pauses_and_cancels(operator: Staff, another: Staff, waiting: Any, log: Log) -> None:
    orders = await waiting(6)
    job = await operator.start(orderIds=orders.ids, canary=1)
    await stands(operator, job["id"], sent=1)
    paused = await another.post(f"/{job['id']}/pause", reason="lunch")
    assert (paused.status, paused.json["job"]["state"]) == (200, "paused")
    assert paused.json["job"]["why"] == f"{another.actor}: lunch"
    second = await operator.post(f"/{job['id']}/pause", reason=REASON)
    assert second.is_problem(409)
    assert f"this one is paused ({another.actor}: lunch)" in second.json["detail"]
    resumed = await operator.post(f"/{job['id']}/resume", reason=REASON)
    assert resumed.json["job"]["state"] == "canary", "it goes on where it was"
    ended = await another.post(f"/{job['id']}/cancel", reason="wrong filter")
    assert (ended.json["job"]["state"], ended.json["job"]["cancelled"]) == ("cancelled", 5)
    for act in ("pause", "resume", "cancel"):
        assert (await operator.post(f"/{job['id']}/{act}", reason=REASON)).is_problem(409)
    await orders.answer(job["id"], orders.ids[0])
    await stands(operator, job["id"], delivered=1, sent=0)
    assert [len(await log.commands(order)) for order in orders.ids] == [1, 0, 0, 0, 0, 0]


async def test_two_start_one_preview_and_one_of_them_does(operator: Staff, another: Staff, waiting: Any) -> None:
    token = (await operator.preview(orderIds=(await waiting(3)).ids))["token"]
    came = await asyncio.gather(*(who.post(token=token, reason=REASON) for who in (operator, another) * 3))
    assert Counter(answer.status for answer in came) == {202: 1, 409: 5}
    await operator.post(f"/{token}/cancel", reason=REASON)


async def test_a_command_whose_mark_was_lost_goes_again_under_its_id_from_another_gateway(
    operator: Staff, waiting: Any, stand: Stand, view: View, log: Log
) -> None:
    orders = await waiting(3)
    job = await operator.start(orderIds=orders.ids, canary=0, perSecond=50)
    await stands(operator, job["id"], sent=3)
    # As if its gateway had died between Kafka's answer and PostgreSQL's, and another had taken over.
    async with standing(stand.settings):
        await view.connection.execute(
            "UPDATE access.retry_rows SET sent_at = NULL, command_id = NULL WHERE job_id = $1 AND number < 3", job["id"]
        )
        await view.connection.execute(
            "UPDATE access.retry_jobs SET leased_until = '-infinity' WHERE id = $1", job["id"]
        )
        await stands(operator, job["id"], sent=3)
    for order, times in zip(orders.ids, (2, 2, 1), strict=True):
        commands = await log.commands(order)
        assert [command["command_id"] for command in commands] == [retry_command_id(job["id"], order)] * times
        assert {command["expected_sequence"] for command in commands} == {1}
        await orders.answer(job["id"], order)
    await stands(operator, job["id"], state="done", delivered=3)


async def test_pages_hold_every_order_once(operator: Staff, waiting: Any) -> None:
    orders = await waiting(5)
    job = await operator.start(orderIds=orders.ids, canary=1)
    seen, cursor = [], "0"
    while cursor != "None":
        page = (await operator.get(f"/{job['id']}/rows", limit="2", cursor=cursor)).json
        seen += [row["orderId"] for row in page["rows"]]
        cursor = str(page["next"])
    assert seen == orders.ids
    listed = (await operator.get()).json["jobs"]
    assert job["id"] in {entry["id"] for entry in listed}
    await operator.post(f"/{job['id']}/cancel", reason=REASON)
    nobody = retry_command_id("no", "job")
    for path in (f"/{nobody}", f"/{nobody}/rows"):
        assert (await operator.get(path)).is_problem(404)
    for act in ("pause", "resume", "cancel"):
        assert (await operator.post(f"/{nobody}/{act}", reason=REASON)).is_problem(404)
    assert (await operator.get("/x")).is_problem(400)


async def test_ten_are_open_and_no_more(operator: Staff, waiting: Any) -> None:
    orders = await waiting(1)
    begun, last = [], None
    while last is None or last.status == 202:
        assert len(begun) <= 10
        last = await operator.post(orderIds=orders.ids, reason=REASON, canary=1)
        if last.status == 202:
            begun.append(last.json["job"]["id"])
    assert last.is_problem(409)
    assert "10 bulk retries are open" in last.json["detail"]
    for job_id in begun:
        assert (await operator.post(f"/{job_id}/cancel", reason=REASON)).status == 200
