"""What readers may wish for: times as people say them, rest for the eyes, no script, nobody's number."""

import re
from typing import Final

import pytest
from playwright.async_api import Page, expect

from services.gateway.access import Role
from services.gateway.dashboard.rendering import PATH
from tests.gateway.conftest import Stand
from tests.gateway.dashboard import scene
from tests.gateway.dashboard.conftest import Open
from tests.gateway.reads.conftest import Hand
from tests.projector.events import Story

pytestmark = pytest.mark.asyncio(loop_scope="session")

_SAID: Final = re.compile(r"^(in |)(\d+ s|\d+ min( \d+ s)?|\d+ h \d+ min|\d+ days)( ago|)$|^now$")
_EXACT: Final = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z, here \d\d/\d\d/\d{4}, \d\d:\d\d:\d\d$")
_MOVING: Final = """
() => [...document.querySelectorAll("*")].filter((one) => {
  const style = getComputedStyle(one);
  return style.animationName !== "none" || style.transitionDuration.split(", ").some((said) => said !== "0s");
}).length + document.getAnimations().length
"""


async def test_times_are_relative_and_exact_where_one_points(open_page: Open, hand: Hand, stand: Stand) -> None:
    await scene.set_up(hand, stand)
    page = await open_page(PATH, Role.ADMIN)
    async with scene.alerted(stand):
        for path in (
            "",
            f"/orders/{scene.FOUND_OUT}",
            "/review",
            "/providers",
            "/dead-letters",
            "/health",
            "/audit",
            "/access",
        ):
            await page.goto(PATH + path)
            await expect(page.locator("main time").first).to_have_text(_SAID)
            for time in await page.locator("time").all():
                assert _SAID.fullmatch(await time.inner_text()), path
                assert _EXACT.fullmatch(await time.get_attribute("title") or ""), path


async def test_nothing_moves_for_those_who_wish_so(open_page: Open, hand: Hand) -> None:
    story = await hand.open()
    page = await open_page(PATH)
    row = page.locator(f"tr[data-order='{story.order_id}']")
    await expect(page.locator("#live")).to_have_text("live")
    assert await page.evaluate(_MOVING), "the list fades while it is fetched"
    await page.emulate_media(reduced_motion="reduce")
    known = len(story.events)
    story.succeeded()
    story.events = story.events[known:]
    await hand.tell(story)
    await expect(row).to_have_class("changed")
    assert await page.evaluate(_MOVING) == 0


async def test_a_page_that_needs_script_says_so_and_offers_nothing_dead(
    open_page: Open, hand: Hand, stand: Stand
) -> None:
    await scene.set_up(hand, stand)
    page = await open_page(PATH, Role.ADMIN, script=False)
    for path, said in (
        ("", "Many orders are retried together with script"),
        ("/retries", "Many orders are retried together with script"),
        ("/review", "An order is resolved on its own page"),
        ("/providers", "suspended and resumed with script"),
        ("/dead-letters", "sent back with script"),
        ("/dead-letters/0-0", "sent back with script"),
        ("/health", "The charts need script"),
        ("/access", "Keys and users are made and changed with script"),
        ("/account", "A password is changed with script"),
    ):
        await page.goto(PATH + path)
        await expect(page.locator("p.alert", has_text=said)).to_be_visible()
        assert await _offered(page) == [], path
    await page.goto(f"{PATH}/orders/{scene.FOUND_OUT}")
    await expect(page.locator("form.acts").get_by_label("Reason")).to_be_visible()


async def _offered(page: Page) -> list[str]:
    """Buttons that belong to no form that leads somewhere."""
    said: list[str] = []
    for button in await page.locator("main button:visible").all():
        inside = button.locator("xpath=ancestor::form[not(@data-api)]")
        if not await inside.count() and await button.get_attribute("form") is None:
            said.append(await button.inner_text())
    return said


async def test_a_viewer_sees_nobodys_number(open_page: Open, hand: Hand) -> None:
    other = {"to": "0244 765 432", "sender": 233244765432, "text": ["call +233-244-765-432"]}
    story = Story("00000000-0000-4000-8000-0000000000ab").requested().attempted()
    story.uncertain().checked().reviewed()
    said = {"api_response": other, "error_message": "0244765432 is barred, not 024 123 4567"}
    await hand.tell(story, phone_number="+233241234567", **said)
    for path in (f"/orders/{story.order_id}", "/review"):
        page = await open_page(PATH + path, Role.VIEWER)
        await expect(page.locator("main")).to_contain_text("is barred")
        digits = re.sub(r"[^\dA-Za-z]", "", await page.locator("main").inner_html())
        assert "244765432" not in digits, path
        assert "241234567" not in digits, path
    page = await open_page(f"{PATH}/orders/{story.order_id}?phones=whole")
    await expect(page.locator(".timeline")).to_contain_text("0244765432 is barred")
