"""How providers stand, what waits for them, and their balance in the course of time."""

from datetime import UTC, datetime, timedelta

import pytest

from schemas.providers import By, ProviderState
from services.at_ishare_contract import NAME
from services.gateway.providers.listing import MAX_POINTS
from tests.gateway.conftest import View
from tests.gateway.providers.conftest import Fulfiller, Staff
from tests.projector.events import NOON

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_one_of_whom_nothing_was_said_is_up(fulfiller: Fulfiller, viewer: Staff) -> None:
    provider = await viewer.provider()
    assert (provider["state"], provider["since"], provider["balance"]) == ("up", None, None)
    assert set(provider["orders"].values()) == {0}


async def test_state_balance_and_what_waits(fulfiller: Fulfiller, viewer: Staff, view: View) -> None:
    await fulfiller.says(mb=70)
    await fulfiller.says(
        60, mb=0, state=ProviderState.SUSPENDED, why="INSUFFICIENT_BALANCE", by=By.PROVIDER,
        next_probe_at=NOON + timedelta(seconds=65),
    )  # fmt: skip
    now = datetime.now(UTC)
    past, ahead = now - timedelta(minutes=1), now + timedelta(minutes=5)
    for state, status, next_at, retry_after in (
        ("created", "pending", past, None),
        ("created", "pending", past, None),
        ("waiting", "failed", past, past),
        ("waiting", "failed", ahead, ahead),
        ("settling", "failed", ahead, ahead),
        ("attempting", "processing", ahead, None),
        ("attempting", "processing", past, None),
        ("unknown", "processing", ahead, None),
        ("accepted", "processing", ahead, None),
        ("review", "processing", ahead, None),
        ("delivered", "success", None, None),
        ("failed", "failed", None, None),
    ):
        await view.add(state=state, status=status, next_at=next_at, retry_after=retry_after, provider=NAME)
    provider = await viewer.provider()
    assert (provider["state"], provider["why"], provider["by"]) == ("suspended", "INSUFFICIENT_BALANCE", "provider")
    assert (provider["balance"]["availableMb"], provider["since"]) == (0, "2026-01-31T12:01:00+00:00")
    assert provider["nextProbeAt"] == "2026-01-31T12:01:05+00:00"
    counted = {"waiting": 3, "later": 1, "calling": 1, "inDoubt": 3, "settling": 1, "inReview": 1}
    assert provider["orders"] == counted


async def test_its_balance_in_the_course_of_time(fulfiller: Fulfiller, viewer: Staff) -> None:
    for n in range(4):
        await fulfiller.says(n * 300, mb=100 - n)
    answer = await viewer.get(f"/{NAME}/balance", **{"from": "2026-01-31T12:05:00Z", "to": "2026-01-31T12:15:00Z"})
    assert [point["availableMb"] for point in answer.json["balance"]] == [99, 98]
    far = await viewer.get(f"/{NAME}/balance", **{"from": "2000-01-01", "to": "2999-01-01"})
    assert [point["availableMb"] for point in far.json["balance"]] == [97]
    assert len((await viewer.get(f"/{NAME}/balance")).json["balance"]) <= MAX_POINTS


async def test_what_cannot_be_asked_is_refused(fulfiller: Fulfiller, viewer: Staff) -> None:
    assert (await viewer.get("/nobody/balance")).is_problem(404)
    assert (await viewer.get("/%00/balance")).is_problem(404)
    assert (await viewer.get(state="up")).is_problem(400)
    assert (await viewer.get(f"/{NAME}/balance", **{"from": "2026-02-01", "to": "2026-01-01"})).is_problem(400)
    assert (await viewer.get(f"/{NAME}/balance", limit="1")).is_problem(400)
