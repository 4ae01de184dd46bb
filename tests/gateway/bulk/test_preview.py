"""What a dry run says, and that what is then carried out is what it showed."""

import uuid
from typing import Any

import pytest

from services.gateway.answers import FINAL_STATES, Action, Verdict, before_command
from services.gateway.reads.questions import STATUS_OF
from tests.gateway.bulk.conftest import REASON, Staff
from tests.gateway.conftest import Client, View

pytestmark = pytest.mark.asyncio(loop_scope="session")


def in_state(state: str, attempts: int = 1, **columns: Any) -> dict[str, Any]:
    return {"state": state, "status": STATUS_OF[state], "attempt_number": attempts, **columns}


async def test_every_state_is_judged_as_for_a_single_retry(operator: Staff, view: View, client: Client) -> None:
    orders = {
        (state, attempts): await view.add(account="acme", **in_state(state, attempts))
        for state in STATUS_OF
        for attempts in (1, 3)
    }
    preview = await operator.preview(orderIds=[*orders.values()])
    safe = [key for key in orders if key in {("waiting", 1), ("settling", 1), ("failed", 1)}]
    assert preview["safe"]["orders"] == len(safe) == 3
    assert preview["matched"] == len(orders)
    # accepted, unknown and review: asked about.
    assert preview["inDoubt"] == 6
    assert preview["notEligible"] == len(orders) - 9
    said = {(entry["state"], entry["why"]) for entry in preview["why"]}
    for (state, attempts), order_id in orders.items():
        row = in_state(state, attempts, max_attempts=3)
        answer = before_command(Action.RETRY, row)
        assert (answer.verdict is Verdict.SEND) == ((state, attempts) in safe)
        if answer.verdict is not Verdict.SEND:
            assert (state, answer.why) in said
            alone = await client.act("retry", order_id)
            assert (alone.status, alone.json["detail"]) == (409, answer.why)
    assert {state for state, _ in orders} > FINAL_STATES


async def test_what_it_costs_and_whom_it_concerns(operator: Staff, view: View) -> None:
    first = await view.add(**in_state("waiting", size_mb=500, price=2.5))
    second = await view.add(**in_state("failed", size_mb=1500))
    broken = await view.add(**in_state("waiting", quarantined=True))
    nobody = str(uuid.uuid4())
    preview = await operator.preview(orderIds=[first, second, second.upper(), broken, nobody])
    safe = preview["safe"]
    assert (safe["orders"], safe["sizeMb"], safe["price"], safe["withoutPrice"]) == (2, 2000, 2.5, 1)
    assert safe["oldest"] < safe["newest"]
    assert preview["unknown"] == {"orders": 1, "ids": [nobody]}
    assert preview["why"] == [
        {
            "state": "waiting",
            "orders": 1,
            "kind": "not_eligible",
            "why": "its events contradict one another: nobody knows how the order stands",
        }
    ]


async def test_what_changed_since_is_left_out_and_what_came_since_too(operator: Staff, view: View) -> None:
    code = f"CODE_{uuid.uuid4().hex[:8]}"
    orders = [await view.add(**in_state("waiting", error_code=code)) for _ in range(3)]
    token = (await operator.preview(filter={"failure": code}))["token"]
    await view.change(orders[0], state="delivered", status="success")
    await view.add(**in_state("waiting", error_code=code))
    job = await operator.start(token=token, canary=2)
    assert (job["orders"], job["movedOn"]) == (3, 1)
    rows = {row["orderId"]: row for row in await operator.rows(job["id"])}
    assert set(rows) == set(orders)
    gone = rows[orders[0]]
    assert (gone["outcome"], gone["why"], gone["sentAt"]) == ("moved_on", "the order is delivered", None)
    again = await operator.post(token=token, reason=REASON)
    assert again.is_problem(409)
    assert "began it already" in again.json["detail"]
    assert (await operator.post(f"/{job['id']}/cancel", reason=REASON)).status == 200


@pytest.mark.usefixtures("silence")
async def test_where_nothing_is_left_nothing_begins(operator: Staff, view: View) -> None:
    order = await view.add(**in_state("waiting"))
    token = (await operator.preview(orderIds=[order]))["token"]
    await view.change(order, state="attempting", status="processing")
    for said in ({"token": token}, {"orderIds": [order]}, {"filter": {"failure": "NO_SUCH_CODE"}}):
        answer = await operator.post(**said, reason=REASON)
        assert answer.is_problem(409), said
        assert answer.json["type"] == "urn:fulfillment:nothing-to-retry"
    empty = await operator.preview(filter={"failure": "NO_SUCH_CODE"})
    assert (empty["matched"], empty["token"], empty["expiresAt"]) == (0, None, None)


async def test_of_one_persons_previews_five_are_kept_and_none_for_long(
    operator: Staff, view: View, gateway: Any
) -> None:
    order = await view.add(**in_state("waiting"))
    tokens = [(await operator.preview(orderIds=[order]))["token"] for _ in range(7)]
    kept = "SELECT id::text FROM access.retry_jobs WHERE state = 'previewed' AND actor = $1 ORDER BY created_at"
    assert [row[0] for row in await view.connection.fetch(kept, operator.actor)] == tokens[2:]
    assert (await operator.post(token=tokens[0], reason=REASON)).is_problem(404)
    await view.connection.execute("UPDATE access.retry_jobs SET created_at = created_at - interval '2 hours'")
    await gateway.bulk.jobs.forget()
    assert await view.connection.fetch(kept, operator.actor) == []


@pytest.mark.usefixtures("silence")
@pytest.mark.parametrize(
    ("said", "named"),
    [
        ({}, "by a filter, by orderIds, or by the token"),
        ({"filter": {"status": "failed"}, "orderIds": [str(uuid.uuid4())]}, "by a filter"),
        ({"filter": {}}, "name at least one thing"),
        ({"filter": []}, "filter"),
        ({"filter": 7}, "filter"),
        ({"filter": {"q": 7}}, "filter"),
        ({"filter": {"state": "lost"}}, "filter.state"),
        ({"filter": {"status": "failed", "colour": "red"}}, "filter.colour"),
        ({"filter": {"from": "2026-02-01", "to": "2026-01-01"}}, "from: later than to"),
        ({"orderIds": []}, "orderIds"),
        ({"orderIds": ["x"]}, "orderIds"),
        ({"orderIds": "x"}, "orderIds"),
        ({"filter": {"status": "failed"}, "reason": None}, "reason"),
        ({"filter": {"status": "failed"}, "reason": "  "}, "reason"),
        ({"filter": {"status": "failed"}, "reason": "x" * 1001}, "reason"),
        ({"filter": {"status": "failed"}, "reason": "a\x00b c"}, "reason"),
        ({"filter": {"status": "failed"}, "canary": -1}, "canary"),
        ({"filter": {"status": "failed"}, "canary": 101}, "canary"),
        ({"filter": {"status": "failed"}, "perSecond": 0}, "perSecond"),
        ({"filter": {"status": "failed"}, "perSecond": 201}, "perSecond"),
        ({"filter": {"status": "failed"}, "perSecond": "20"}, "perSecond"),
        ({"filter": {"status": "failed"}, "hurry": True}, "hurry"),
        ({"token": str(uuid.uuid4()), "dryRun": True}, "token"),
        ({"token": "x"}, "token"),
    ],
)
async def test_what_cannot_be_meant_is_refused(operator: Staff, said: dict[str, Any], named: str) -> None:
    answer = await operator.post(**{"reason": REASON} | said)
    assert answer.is_problem(400), answer.content
    assert named in answer.json["detail"]


@pytest.mark.usefixtures("silence")
async def test_ten_thousand_orders_may_be_named_and_no_larger_body_is_read(operator: Staff) -> None:
    ids = [str(uuid.UUID(int=n)) for n in range(10_001)]
    preview = await operator.preview(orderIds=ids[:10_000])
    assert preview["unknown"]["orders"] == 10_000
    assert len(preview["unknown"]["ids"]) == 100
    assert (await operator.post(orderIds=ids, dryRun=True)).is_problem(400)
    assert (await operator.post(orderIds=ids * 2, dryRun=True)).is_problem(413)
