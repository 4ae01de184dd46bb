"""Pages that stay open: ten thousand orders arrive, the gateway starts anew, the database goes and comes, two act."""

from typing import Final

import asyncpg
import pytest
from playwright.async_api import Browser, Page, expect

from services.gateway.access import Role
from services.gateway.dashboard.rendering import PATH
from services.local.ports import free_port
from services.setup.patience import Patience
from services.setup.setup import set_up_kafka
from tests.conftest import copied, new_prefix, quick_settings
from tests.gateway.conftest import Log, Stand, standing
from tests.gateway.dashboard.conftest import Open, log_in
from tests.gateway.dashboard.test_states import judged
from tests.gateway.reads.conftest import Hand
from tests.projector.events import NOON, Story

MANY: Final = 10_000
AT_ONCE: Final = 500
BACK_MS: Final = 25_000
"""The page asks every 5 s whether all is there."""

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def goes_on(hand: Hand, story: Story, **said: object) -> None:
    """What has come to the story since it was told."""
    known = len(story.events)
    story.succeeded(transaction_id="tx-9")
    story.events = story.events[known:]
    await hand.tell(story, **said)


async def is_live(page: Page, patience_ms: int = BACK_MS) -> None:
    await expect(page.locator("#live")).to_have_text("live", timeout=patience_ms)


async def test_ten_thousand_orders_arrive_while_one_reads(open_page: Open, hand: Hand) -> None:
    """Rows keep their places and go on telling the truth; the page stays as small and as quick as it was."""
    for _ in range(55):
        await hand.delivered()
    read = await hand.open(made=NOON.replace(minute=1))  # the newest, so that it is on the first page
    page = await open_page(PATH)
    await is_live(page)
    row = page.locator(f"tr[data-order='{read.order_id}']")
    shown = await page.locator("tr[data-order]").evaluate_all("rows => rows.map(row => row.dataset.order)")
    assert len(shown) == 50
    await row.evaluate("row => { row.scrollIntoView({block: 'center'}); row.focus(); }")
    size = "[document.querySelectorAll('*').length, Math.round(document.activeElement.getBoundingClientRect().top)]"
    nodes, top = await page.evaluate(size)
    await page.evaluate(
        "window.slowest = 0; new PerformanceObserver(list => list.getEntries().forEach("
        "one => window.slowest = Math.max(slowest, one.duration))).observe({type: 'longtask'})"
    )
    for n in range(MANY // AT_ONCE):
        told = [Story(f"{n:08x}-0000-4000-8000-{k:012x}").requested() for k in range(AT_ONCE)]
        await hand.tell(*told, order_created_at=NOON.replace(hour=NOON.hour + 1))
        await page.keyboard.press("j" if n % 2 else "k")
    await expect(page.locator("#fresh")).to_contain_text("new")
    await goes_on(hand, read)
    await expect(row).to_contain_text("Delivered")
    assert await page.locator("tr[data-order]").evaluate_all("rows => rows.map(row => row.dataset.order)") == shown
    await row.focus()
    nodes_then, top_then = await page.evaluate(size)
    assert abs(nodes_then - nodes) < 50
    assert abs(top_then - top) <= 45  # the button that counts them
    assert await page.evaluate("window.slowest") < 1000
    await page.locator("#fresh").click()
    await expect(page.locator("tr[data-order]").first).to_contain_text("Waiting for a slot")
    await expect(page.locator("tr[data-order]")).to_have_count(50)
    await expect(page.locator("#fresh")).to_be_hidden()


async def test_a_gateway_that_starts_anew_is_missed_and_nothing_else(open_page: Open, hand: Hand, stand: Stand) -> None:
    story = await hand.open()
    page = await open_page(PATH)
    settings = stand.settings.model_copy(update={"port": free_port()})
    away = page.locator("#away")
    async with standing(settings):
        await page.goto(f"http://127.0.0.1:{settings.port}{PATH}")
        await is_live(page)
    await expect(away).to_contain_text("The gateway cannot be reached", timeout=BACK_MS)
    await expect(page.locator("#live")).not_to_have_text("live")
    await goes_on(hand, story)
    late = await hand.delivered()
    async with standing(settings):
        await expect(away).to_be_hidden(timeout=BACK_MS)
        await expect(page.locator(f"tr[data-order='{story.order_id}']")).to_contain_text("Delivered")
        await is_live(page)
        await expect(page.locator("#fresh")).to_have_text("1 new")
        await page.locator("#fresh").click()
        await expect(page.locator(f"tr[data-order='{late}']")).to_be_visible()
        await page.goto("about:blank")


async def test_a_database_that_goes_and_comes_back(browser: Browser, kafka: str, postgres: str, migrated: str) -> None:
    """An open page says so, keeps what it shows, then shows what is so; one that is opened meanwhile says so too."""
    context = await browser.new_context()
    async with copied(postgres, migrated) as url:
        settings = quick_settings(kafka, url, new_prefix())
        await set_up_kafka(settings, Patience())
        name = url.rpartition("/")[2]
        server, connection = await asyncpg.connect(postgres), await asyncpg.connect(url)
        hand = Hand(connection, settings)
        await hand.empty()
        story = await hand.open()
        async with standing(settings) as stand:
            here = f"http://127.0.0.1:{stand.client.port}"
            page = await context.new_page()
            await log_in(page, connection, Role.OPERATOR, PATH, here)
            await is_live(page)
            await server.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
            await server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
            await expect(page.locator("#away")).to_contain_text("The database cannot be reached", timeout=BACK_MS)
            row = page.locator(f"tr[data-order='{story.order_id}']")
            await expect(row).to_contain_text("Being sent")
            other = await context.new_page()
            answer = await other.goto(f"{here}{PATH}")
            assert answer is not None
            assert answer.status == 503
            await expect(other.get_by_text("This page comes back by itself")).to_be_visible()
            for away, what in ((page, "a page of before"), (other, "503")):
                await judged(away, what)
            await server.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
            connection = await asyncpg.connect(url)
            hand = Hand(connection, settings)
            await hand.place()
            await goes_on(hand, story)
            await expect(row).to_contain_text("Delivered", timeout=BACK_MS)
            await expect(page.locator("#away")).to_be_hidden(timeout=BACK_MS)
            await expect(other.locator(f"tr[data-order='{story.order_id}']")).to_be_visible(timeout=BACK_MS)
            await is_live(page)
            await context.close()
        await connection.close()
        await server.close()


async def test_two_operators_on_one_order(open_page: Open, hand: Hand, log: Log) -> None:
    """Who comes second acts on what is so by now: it is told why not, and nothing is sent."""
    story = Story("00000000-0000-4000-8000-0000000000b2").requested().attempted().uncertain().reviewed()
    await hand.tell(story)
    path = f"{PATH}/orders/{story.order_id}"
    first, second = await open_page(path), await open_page(path)
    for page, act in ((second, "It was not delivered"), (first, "It was delivered")):
        await is_live(page)
        await page.get_by_role("button", name=act).click()
        await page.get_by_label("Reason").fill("the provider's word, ticket 12")
    await first.get_by_role("dialog").get_by_role("button", name="It was delivered").click()
    await expect(first.locator("#said")).to_contain_text("is accepted")
    (command,) = await log.commands(story.order_id)
    assert command["delivered"] is True
    known = len(story.events)
    story.resolved(delivered=True).succeeded()
    story.events = story.events[known:]
    await hand.tell(story)
    for page in (first, second):
        await expect(page.get_by_role("heading", level=1)).to_contain_text("Delivered")
    # The question that was open stays open; what it asks about has moved on.
    await second.get_by_role("dialog").get_by_role("button", name="It was not delivered").click()
    await expect(second.locator("#said")).to_contain_text("this one is delivered")
    await expect(second.get_by_role("button", name="It was not delivered")).to_have_attribute("aria-disabled", "true")
    assert len(await log.commands(story.order_id)) == 1
