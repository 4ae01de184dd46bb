"""Pages that are not lists of orders keep themselves fresh, each part in its place."""

import re
from datetime import UTC, datetime

import pytest
from playwright.async_api import expect

from schemas.providers import By, ProviderState
from services.at_ishare_contract import NAME
from services.gateway.access import Role
from services.gateway.dashboard.rendering import PATH
from tests.gateway.conftest import Stand
from tests.gateway.dashboard import scene
from tests.gateway.dashboard.conftest import Open
from tests.gateway.providers.conftest import Fulfiller
from tests.gateway.reads.conftest import Hand
from tests.gateway.vitals.test_vitals import tell, told
from tests.projector.events import NOON, Story

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_the_providers_page_lives(open_page: Open, hand: Hand, stand: Stand) -> None:
    await hand.connection.execute("TRUNCATE providers, provider_balances")
    fulfiller = Fulfiller(hand.connection, stand.settings)
    await fulfiller.place()
    now_s = (datetime.now(UTC) - NOON).total_seconds()
    await fulfiller.says(now_s - 600, mb=250_000)
    await tell(stand.settings, told(0, lag=0, overdue_s=0, delivered=90))
    page = await open_page(f"{PATH}/providers")
    await page.evaluate("document.body.dataset.stayed = 'yes'")
    cards = page.locator(".cards")
    await expect(page.locator("#live")).to_have_text("live")
    await expect(cards).to_contain_text("closed breaker")
    await expect(page.locator("[data-balance] canvas")).to_be_visible()
    assert await page.evaluate("[...charts.values()].map(({ scales: { x } }) => x.max - x.min)") == [3600]
    await page.get_by_role("button", name="Suspend").focus()

    await fulfiller.says(now_s, state=ProviderState.SUSPENDED, by=By.PROVIDER, why="INSUFFICIENT_BALANCE", mb=12)
    await expect(page.get_by_role("heading", name="at-ishare")).to_contain_text("Suspended")
    await expect(cards).to_contain_text("open, probing breaker")
    await expect(cards).to_contain_text("12 MB balance")
    await expect(cards).to_contain_text(re.compile(r"\d\.\d\d a second answers"))
    await expect(page.get_by_role("button", name="Suspend")).to_be_focused()
    await expect(page.get_by_role("button", name="Resume")).to_have_count(0)

    await hand.tell(Story("00000000-0000-4000-8000-0000000000f1").requested().attempted().uncertain(), provider=NAME)
    await expect(cards).to_contain_text("1 in doubt")
    await page.locator("h1").click()
    await hand.tell(Story("00000000-0000-4000-8000-0000000000f2").requested().attempted().uncertain(), provider=NAME)
    await expect(page.get_by_role("button", name="Resume")).to_be_visible()
    await expect(page.locator("[data-balance] canvas")).to_be_visible()
    assert await page.evaluate("document.body.dataset.stayed") == "yes"


async def test_the_health_page_lives(open_page: Open, stand: Stand) -> None:
    page = await open_page(f"{PATH}/health", Role.VIEWER)
    await page.evaluate("document.body.dataset.stayed = 'yes'")
    await expect(page.locator("#live")).to_have_text("live")
    await tell(stand.settings, told(9, lag=7, overdue_s=30, delivered=1))
    for chart in ("late-chart", "lag-chart"):
        await expect(page.locator(f"#{chart} canvas")).to_be_visible()
    async with scene.alerted(stand):
        await expect(page.locator("#known-alerts tbody")).to_contain_text("Warning")
        await expect(page.locator("#alerts")).to_contain_text("Reviews")
    await expect(page.locator("#known-alerts tbody")).not_to_contain_text("Reviews")
    await expect(page.locator("#alerts")).to_be_empty()
    assert await page.evaluate("document.body.dataset.stayed") == "yes"


async def test_where_there_is_no_stream_the_providers_are_asked_about_every_30_s(
    open_page: Open, hand: Hand, stand: Stand
) -> None:
    await hand.connection.execute("TRUNCATE providers, provider_balances")
    fulfiller = Fulfiller(hand.connection, stand.settings)
    await fulfiller.place()
    page = await open_page(PATH)
    await page.route("**/stream?*", lambda route: route.abort())
    await page.clock.install()
    await page.goto(f"{PATH}/providers")
    heading = page.get_by_role("heading", name="at-ishare")
    await expect(heading).to_contain_text("Up")
    await expect(page.locator("#live")).not_to_have_text("live")
    await fulfiller.says(9, state=ProviderState.SUSPENDED, by=By.OPERATOR, actor="user:ama", why="their cable is cut")
    await page.clock.run_for(31_000)
    await expect(heading).to_contain_text("Suspended")
    await expect(page.locator(".cards")).to_contain_text("held open breaker")
