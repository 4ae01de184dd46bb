"""A page rests while somebody chooses or looks elsewhere, and asks by itself where nothing tells it."""

import asyncio
from typing import Final

import pytest
from playwright.async_api import Page, Route, expect

from services.gateway.dashboard.rendering import PATH
from tests.gateway.conftest import Stand
from tests.gateway.dashboard.conftest import Open
from tests.gateway.dashboard.test_endurance import goes_on
from tests.gateway.reads.conftest import Hand
from tests.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="session")

POLL_MS: Final = 30_000
_HEARD: Final = "() => caughtUp.due === true"
"""Of a change, and kept for later."""
_STREAMS: Final = "() => listen.source.readyState !== EventSource.CLOSED"
_HIDE: Final = """
(at) => {
  const hidden = at === "hidden";
  Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
  document.dispatchEvent(new Event("visibilitychange"));
}
"""
"""As when another tab is before it: a browser without a screen has none."""


async def test_without_a_stream_the_page_asks_every_30_s(open_page: Open, hand: Hand) -> None:
    story = await hand.open()
    page = await open_page(f"{PATH}/account")
    await page.route("**/stream?*", lambda route: route.fulfill(status=503))
    await page.clock.install()
    await page.goto(PATH)
    await expect(page.locator("#live")).to_have_text("every 30 s")
    row = page.locator(f"tr[data-order='{story.order_id}']")
    await goes_on(hand, story)
    await hand.delivered()
    await page.clock.run_for(POLL_MS // 2)
    await expect(row).to_contain_text("Being sent")
    await page.clock.run_for(POLL_MS // 2 + 1000)
    await expect(row).to_contain_text("Delivered")
    await expect(page.locator("#fresh")).to_have_text("1 new")
    # Once it is let through again, the stream is what tells.
    await page.unroute("**/stream?*")
    other = await hand.open()
    await page.clock.run_for(5000)
    await expect(page.locator("#live")).to_have_text("live")
    await expect(page.locator("#fresh")).to_have_text("2 new")
    await page.locator("#fresh").click()
    await expect(page.locator(f"tr[data-order='{other.order_id}']")).to_be_visible()


async def test_a_page_rests_while_rows_are_selected(open_page: Open, hand: Hand) -> None:
    story = await hand.open()
    chosen = await hand.delivered()
    page = await _live(open_page)
    await page.get_by_label(f"Select order {chosen}").check()
    await goes_on(hand, story)
    for _ in range(3):
        await hand.delivered()
    await page.wait_for_function(_HEARD)
    row = page.locator(f"tr[data-order='{story.order_id}']")
    await expect(row).to_contain_text("Being sent")
    await expect(page.locator("#fresh")).to_be_hidden()
    await expect(page.get_by_label(f"Select order {chosen}")).to_be_checked()
    await page.locator("#unchoose").click()
    await expect(row).to_contain_text("Delivered")
    await expect(page.locator("#fresh")).to_have_text("3 new")
    await expect(page.locator("tr[data-order]")).to_have_count(2)


async def test_a_page_rests_while_its_tab_is_hidden(open_page: Open, hand: Hand) -> None:
    story = await hand.open()
    page = await _live(open_page)
    await page.evaluate(_HIDE, "hidden")
    asked: list[str] = []
    page.on("request", lambda said: asked.append(said.url))
    # Six connections are all that the tabs of a browser have together.
    await expect(page.locator("#live")).to_have_text("paused")
    assert not await page.evaluate(_STREAMS)
    await goes_on(hand, story)
    await hand.delivered()
    row = page.locator(f"tr[data-order='{story.order_id}']")
    await expect(row).to_contain_text("Being sent")
    assert [url for url in asked if PATH in url] == []
    await page.evaluate(_HIDE, "seen")
    await expect(row).to_contain_text("Delivered")
    await expect(page.locator("#fresh")).to_have_text("1 new")
    await expect(page.locator("#live")).to_have_text("live")
    assert await page.evaluate(_STREAMS)


async def test_an_answer_to_an_earlier_question_is_not_shown(open_page: Open, hand: Hand) -> None:
    """Else the list, and what acts on all that fits, would be of other orders than the address says."""
    delivered, failed = await hand.delivered(), await hand.failed()
    page = await _live(open_page)
    answered, asked_anew = asyncio.Event(), asyncio.Event()

    async def late(route: Route) -> None:
        answer = await route.fetch()
        answered.set()
        await asked_anew.wait()
        await route.fulfill(response=answer)

    await page.route(f"**{PATH}", late)
    await page.evaluate("() => { window.reloaded = reload(); }")
    await answered.wait()
    await page.locator("#card-failed").click()
    await page.wait_for_url("**status=failed*")
    await expect(page.locator("tr[data-order]")).to_have_count(1)
    asked_anew.set()
    await page.evaluate("() => window.reloaded")
    await expect(page.locator(f"tr[data-order='{failed}']")).to_be_visible()
    await expect(page.locator(f"tr[data-order='{delivered}']")).to_have_count(0)


async def test_a_gateway_that_hangs_is_said_to_be_away(open_page: Open) -> None:
    page = await _live(open_page)
    await page.route("**/readyz", lambda _route: None)
    await page.evaluate("() => { AbortSignal.timeout = () => AbortSignal.abort(); void askWhetherAllIsThere(); }")
    await expect(page.locator("#away")).to_contain_text("The gateway cannot be reached")


async def test_what_is_new_is_said_to_be_whatever_is_filtered(open_page: Open, hand: Hand) -> None:
    await hand.failed()
    page = await _live(open_page, "?status=failed")
    await hand.delivered()
    await expect(page.locator("#fresh")).to_have_text("1 new, whatever is filtered")
    await page.locator("#fresh").click()
    await expect(page.locator("#fresh")).to_be_hidden()
    await expect(page.locator("tr[data-order]")).to_have_count(1)


async def _live(open_page: Open, query: str = "") -> Page:
    page = await open_page(PATH + query)
    await expect(page.locator("#live")).to_have_text("live")
    return page


async def test_a_press_ends_on_what_it_began_on(open_page: Open, hand: Hand) -> None:
    """The page is drawn anew between the button's going down and its coming up."""
    page = await open_page(f"{PATH}/orders/{await hand.failed()}")
    button = page.get_by_role("button", name="Copy").first
    await page.evaluate("() => document.addEventListener('click', (event) => (window.pressed = event.target), true)")
    await button.hover()
    await page.mouse.down()
    async with page.expect_response(lambda answer: answer.request.resource_type == "fetch"):
        await page.evaluate("() => { window.drawn = false; reload().then(() => (window.drawn = true)); }")
    await page.evaluate("() => new Promise((tell) => requestAnimationFrame(() => requestAnimationFrame(tell)))")
    await page.mouse.up()
    assert await page.evaluate("() => window.pressed?.tagName") == "BUTTON"
    await page.wait_for_function("() => window.drawn")


@pytest.mark.parametrize("where", ["", "/orders/{order}"])
async def test_what_happens_before_the_stream_opens_is_not_missed(
    open_page: Open, hand: Hand, stand: Stand, where: str
) -> None:
    story = await hand.open()
    page = await open_page(f"{PATH}/account")
    await page.goto("about:blank")
    feed = stand.gateway.reads.feed
    await until(lambda: not feed._listeners, "nobody to listen")  # noqa: SLF001 - who would be told meanwhile

    async def late(route: Route) -> None:
        with stand.gateway.changes.watch(story.order_id) as watch:
            await hand.delivered()
            await goes_on(hand, story)
            assert await watch.change(asyncio.get_running_loop().time() + 10)
        await route.continue_()

    await page.route("**/stream?*", late, times=1)
    await page.goto(PATH + where.format(order=story.order_id))
    await expect(page.locator("main")).to_contain_text("Delivered")
    if not where:
        await expect(page.locator("#fresh")).to_have_text("1 new")
