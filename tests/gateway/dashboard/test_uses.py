"""A morning's work: page by page through a list, out to a file, many at once, a provider back to work."""

import csv
from io import StringIO
from pathlib import Path

import pytest
from playwright.async_api import expect

from schemas.providers import By, ProviderState
from services.gateway.access import Role
from services.gateway.dashboard.rendering import PATH
from tests.gateway.conftest import Log, Stand
from tests.gateway.dashboard.conftest import Open
from tests.gateway.providers.conftest import Fulfiller
from tests.gateway.providers.conftest import commands as provider_commands
from tests.gateway.reads.conftest import Hand
from tests.projector.events import NOON, Story
from tests.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_list_is_read_page_by_page_and_back(open_page: Open, hand: Hand) -> None:
    orders = [await hand.delivered(made=NOON.replace(minute=n // 60, second=n % 60)) for n in range(53)]
    page = await open_page(f"{PATH}?status=success")
    rows = page.locator("tr[data-order]")
    await expect(rows).to_have_count(50)
    await page.get_by_role("link", name="Next page").click()
    await expect(rows).to_have_count(3)
    assert await rows.evaluate_all("rows => rows.map((row) => row.dataset.order)") == orders[2::-1]
    assert "cursor=" in page.url
    assert "status=success" in page.url
    await expect(page.get_by_role("link", name="Next page")).to_have_count(0)
    await page.reload()
    await expect(rows).to_have_count(3)
    await page.go_back()
    await expect(rows).to_have_count(50)


async def test_whoever_sees_no_whole_number_is_offered_no_export(open_page: Open, hand: Hand) -> None:
    await hand.delivered()
    page = await open_page(PATH, Role.VIEWER)
    await expect(page.locator("tr[data-order]")).to_have_count(1)
    await expect(page.get_by_role("link", name="Export CSV")).to_have_count(0)


async def test_what_is_filtered_is_what_is_exported(open_page: Open, hand: Hand, tmp_path: Path) -> None:
    for n in range(2):
        await hand.delivered(phone_number=f"+23324123450{n}")
    failed = await hand.failed(phone_number="+233269999999", message='=HYPERLINK("x"), "quoted"')
    page = await open_page(PATH, Role.OPERATOR)
    await page.locator("#card-failed").click()
    await expect(page.locator("tr[data-order]")).to_have_count(1)
    async with page.expect_download() as coming:
        await page.get_by_role("link", name="Export CSV").click()
    file = await coming.value
    assert file.suggested_filename.endswith(".csv")
    await file.save_as(tmp_path / "orders.csv")
    (row,) = csv.DictReader(StringIO((tmp_path / "orders.csv").read_text()))
    assert row["order_id"] == failed
    assert "+233269999999" not in row.values()
    assert all(not said.startswith("=") for said in row.values())


async def test_selected_rows_alone_are_retried(open_page: Open, hand: Hand, log: Log) -> None:
    chosen, other = [await hand.failed() for _ in range(2)], await hand.failed()
    page = await open_page(PATH)
    for order_id in chosen:
        await page.get_by_label(f"Select order {order_id}").check()
    await expect(page.locator("#chosen-count")).to_have_text("2")
    await page.get_by_role("button", name="Retry them").click()
    dialog = page.get_by_role("dialog", name="Retry them")
    await expect(dialog.locator("li").first).to_contain_text("2 of 2 can be retried")
    await dialog.get_by_label("Reason").fill("ticket 4711")
    await dialog.get_by_role("button", name="Retry them").click()
    await expect(page.get_by_role("heading", name="Retry of 2 orders")).to_be_visible()
    for order_id in chosen:
        (command,) = await until(lambda order_id=order_id: log.commands(order_id), "the command")
        assert command["type"] == "RetryFulfillment"
    assert await log.commands(other) == []


async def test_what_was_not_delivered_is_resolved_so(open_page: Open, hand: Hand, log: Log) -> None:
    story = Story("00000000-0000-4000-8000-0000000000e7").requested().attempted().uncertain().reviewed()
    await hand.tell(story)
    page = await open_page(f"{PATH}/review")
    row = page.locator(f"tr[data-order='{story.order_id}']")
    await row.get_by_role("button", name="It was not delivered").click()
    dialog = page.get_by_role("dialog", name="It was not delivered")
    await dialog.get_by_label("Reason").fill("the provider's word, ticket 12")
    await dialog.get_by_role("button", name="It was not delivered").click()
    (command,) = await until(lambda: log.commands(story.order_id), "the command")
    assert (command["type"], command["delivered"]) == ("ResolveFulfillment", False)
    assert command["reason"] == "the provider's word, ticket 12"


async def test_a_provider_is_resumed_with_a_reason(open_page: Open, hand: Hand, stand: Stand, log: Log) -> None:
    await hand.connection.execute("TRUNCATE providers, provider_balances")
    fulfiller = Fulfiller(hand.connection, stand.settings)
    await fulfiller.place()
    await fulfiller.says(state=ProviderState.SUSPENDED, by=By.OPERATOR, actor="user:ama", why="their cable is cut")
    known = len(await provider_commands(log))
    page = await open_page(f"{PATH}/providers")
    await page.get_by_role("button", name="Resume").click()
    dialog = page.get_by_role("dialog", name="Resume")
    await dialog.get_by_label("Reason").fill("their cable is mended")
    await dialog.get_by_role("button", name="Resume").click()

    async def sent() -> bool:
        return len(await provider_commands(log)) > known

    await until(sent, "the command")
    command = (await provider_commands(log))[-1]
    assert (command["type"], command["reason"]) == ("ResumeProvider", "their cable is mended")
    await fulfiller.says(9, by=By.OPERATOR, actor="user:ama", why="their cable is mended")
    await expect(page.get_by_role("heading", name="at-ishare")).to_contain_text("Up")
    # What somebody is at stays until they leave it.
    await page.locator("h1").click()
    await expect(page.get_by_role("button", name="Resume")).to_have_count(0)
    await expect(page.get_by_role("button", name="Suspend")).to_be_visible()
