"""How providers stand: the last that was said of each, and its balances in the course of time."""

from datetime import datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from schemas.cloudevents import json_value
from schemas.providers import By, ProviderBalance, ProviderChanged, ProviderState
from schemas.topics import FULFILLMENT_PROVIDERS
from services.projector.batch import BALANCE_EVERY_S, sort
from services.projector.rebuild import rebuild
from services.settings import Settings
from tests.projector.conftest import Database, Log, projecting
from tests.projector.events import NOON, Record


def changed(at: datetime = NOON, mb: int | None = 1000, name: str = "at-ishare", **said: Any) -> ProviderChanged:
    balance = None if mb is None else ProviderBalance(available_mb=mb, reserved_mb=5, at=at)
    defaults = {"provider": name, "state": ProviderState.UP, "since": NOON, "at": at, "balance": balance}
    return ProviderChanged(**(defaults | said))


def records(*changes: ProviderChanged | bytes | None) -> list[Record]:
    values = [json_value(change) if isinstance(change, ProviderChanged) else change for change in changes]
    return [Record("fulfillment.providers", 0, n, b"at-ishare", value) for n, value in enumerate(values)]


def test_of_a_batch_the_last_counts_and_one_balance_of_each_five_minutes() -> None:
    later = NOON + timedelta(seconds=BALANCE_EVERY_S)
    batch = sort(
        records(
            changed(mb=3),
            changed(NOON + timedelta(seconds=1), mb=2),
            changed(later, mb=1, state=ProviderState.SUSPENDED, why="INSUFFICIENT_BALANCE", by=By.PROVIDER),
            changed(name="other", mb=None),
        ),
        "",
    )
    first, second = batch.stands({})
    assert (first.name, first.state, first.why, first.brought_by, first.available_mb) == (
        "at-ishare", "suspended", "INSUFFICIENT_BALANCE", "provider", 1,
    )  # fmt: skip
    assert (second.name, second.available_mb, second.balance_at) == ("other", None, None)
    assert [(one.start, one.available_mb) for one in batch.balances()] == [(NOON, 2), (later, 1)]


def test_an_operator_s_suspension_ends_by_an_operator_alone() -> None:
    suspended: dict[str, Any] = {"state": ProviderState.SUSPENDED}
    by_hand = changed(**suspended, by=By.OPERATOR, why="ticket 4711")
    late = changed(**suspended, by=By.PROVIDER, why="BAD_CREDENTIALS")
    (held,) = sort(records(late, by_hand), "").stands({})
    assert held.why == "ticket 4711"
    for later in ((late,), (changed(by=By.PROVIDER), late), (changed(),)):
        assert sort(records(*later), "").stands({held.name: held}) == [held]
    (ended,) = sort(records(changed(by=By.PROVIDER), changed(by=By.OPERATOR), late), "").stands({held.name: held})
    assert ended.why == "BAD_CREDENTIALS"


@pytest.mark.parametrize("value", [b"?", b"{}", b'{"type":"ProviderChanged","version":2}'])
def test_what_cannot_be_read_is_set_aside(value: bytes) -> None:
    batch = sort(records(value, None, changed()), "")
    assert [entry.topic for entry in batch.unreadable] == ["fulfillment.providers"]
    assert len(batch.providers) == 1


async def test_the_view_follows_and_a_rebuild_keeps_what_compaction_removed(
    topics: Settings, log: Log, database: Database
) -> None:
    async def say(change: ProviderChanged) -> None:
        await log.raw(FULFILLMENT_PROVIDERS, json_value(change), key=change.provider.encode())

    async def row(state: str) -> Any:
        found = await database.fetch("SELECT * FROM providers WHERE state = $1", state)
        return found[0] if found else None

    await database.listen_to("providers_changed")
    async with projecting(topics):
        for n in range(3):
            await say(changed(NOON + timedelta(seconds=n * BALANCE_EVERY_S), mb=3 - n))
        await say(changed(NOON, mb=None, state=ProviderState.SUSPENDED, why="nul\0", by=By.OPERATOR, actor="user:ama"))
        seen = await database.until(lambda: row("suspended"))
        assert (seen["name"], seen["why"], seen["actor"], seen["available_mb"]) == (
            "at-ishare", "nul\ufffd", "user:ama", None,
        )  # fmt: skip
        balances = "SELECT available_mb FROM provider_balances ORDER BY start"
        assert [mb for (mb,) in await database.fetch(balances)] == [3, 2, 1]
        # As if compaction had been there before the view was.
        await database.execute("INSERT INTO provider_balances VALUES ('at-ishare', '2020-01-01', 9, 0, '2020-01-01')")
        rebuilt = await rebuild(topics, Console(file=StringIO()))
        assert (rebuilt.compared, rebuilt.differences) == (True, [])
        assert [mb for (mb,) in await database.fetch(balances)] == [9, 3, 2, 1]
        await say(changed(by=By.OPERATOR))
        await database.until(lambda: row("up"))
