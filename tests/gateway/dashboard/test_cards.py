"""Each figure above the list leads to its orders, and the next search heeds it."""

import pytest
from playwright.async_api import expect

from services.gateway.dashboard.rendering import PATH
from tests.gateway.conftest import Stand
from tests.gateway.dashboard import scene
from tests.gateway.dashboard.conftest import Open
from tests.gateway.reads.conftest import Hand

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_every_card_leads_to_its_orders(open_page: Open, hand: Hand, stand: Stand) -> None:
    await scene.set_up(hand, stand)
    page = await open_page(PATH)
    rows = page.locator("tr[data-order]")
    total = await rows.count()
    cards = page.locator(".cards > *")
    names = await cards.evaluate_all("cards => cards.map(card => card.id)")
    assert names == [
        *("card-total", "card-success", "card-processing", "card-pending", "card-failed", "card-rate"),
        *("card-waiting", "card-unknown", "card-review", "card-doubt"),
    ]
    expected = {"card-rate": 10, "card-doubt": 3}
    for name in names:
        card = page.locator(f"#{name}")
        figure = await card.locator("b").inner_text()
        await card.click()
        await expect(rows).to_have_count(expected[name] if name in expected else int(figure))
        if name != "card-rate":
            await expect(card).to_have_attribute("aria-current", "true")
    assert 0 < expected["card-doubt"] < total
    # The card is heeded by what is searched next, in the form too.
    await expect(page.locator("#filters [name=state]")).to_have_value("doubt")
    networks = await rows.locator("td[data-column=network]").all_inner_texts()
    await page.locator("#filters [name=network]").select_option(networks[0])
    await expect(rows).to_have_count(networks.count(networks[0]))
    assert "state=doubt" in page.url
    await page.locator("#card-failed").click()
    await expect(page.locator("#filters [name=state]")).to_have_value("")


async def test_failures_are_chosen_among_those_that_there_are(open_page: Open, hand: Hand) -> None:
    for code in ("BUSY", "BUSY", "BARRED"):
        await hand.failed(code=code)
    await hand.delivered()
    page = await open_page(f"{PATH}?failure=GONE")
    failure = page.locator("#filters [name=failure]")
    await expect(failure.locator("option")).to_have_text(["all", "BARRED", "BUSY", "GONE"])
    await expect(failure).to_have_value("GONE")
    await failure.select_option("BUSY")
    await expect(page.locator("tr[data-order]")).to_have_count(2)
    await page.reload()
    await expect(failure).to_have_value("BUSY")
