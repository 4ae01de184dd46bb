"""By the keyboard alone: each control is reached, shows that it is, has a name; each key does what it says."""

from typing import Any, Final

import pytest
from playwright.async_api import Page, expect

from services.gateway.access import Role
from services.gateway.dashboard.rendering import LOGIN_PATH, PATH
from tests.gateway.conftest import Log, Stand
from tests.gateway.dashboard import scene
from tests.gateway.dashboard.conftest import Open
from tests.gateway.reads.conftest import Hand
from tests.projector.events import NOON, Story
from tests.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="session")

PAGES: Final = (
    "",
    f"/orders/{scene.FOUND_OUT}",
    "/review",
    "/retries",
    "/providers",
    "/dead-letters",
    "/dead-letters/0-0",
    "/health",
    "/audit",
    "/access",
    "/account",
)
_STOPS_OF_A_DATE: Final = 4
"""Day, month, year, and what opens a calendar."""
_WATCH: Final = """
() => {
  const controls = [...document.querySelectorAll("a[href], button, input, select, summary, textarea")]
    .filter((one) => one.type !== "hidden" && !one.disabled && one.checkVisibility() && !one.closest("dialog"));
  window.unreached = new Set(controls);
  window.faults = [];
  const say = (one, why) => window.faults.push(`${why}: ${one.outerHTML.slice(0, 160)}`);
  for (const one of controls) {
    const name = one.getAttribute("aria-label") || [...(one.labels ?? [])].map((label) => label.textContent).join(" ")
      || one.textContent || one.title;
    if (!name.trim()) say(one, "has no name");
  }
  document.addEventListener("focusin", ({ target }) => {
    window.unreached.delete(target);
    const style = getComputedStyle(target);
    if (target.id !== "main" && (style.outlineStyle === "none" || parseFloat(style.outlineWidth) < 2))
      say(target, "does not show that it is reached");
    const place = target.getBoundingClientRect();
    if (place.bottom < 0 || place.top > innerHeight || place.right < 0 || place.left > innerWidth)
      say(target, "is out of sight");
  });
  return [controls.length, controls.filter((one) => one.type === "date").length];
}
"""


@pytest.mark.parametrize("width", [1280, 390])
async def test_every_control_is_reached_by_tab(open_page: Open, hand: Hand, stand: Stand, width: int) -> None:
    await scene.set_up(hand, stand)
    await hand.connection.execute("TRUNCATE access.audit")  # of orders that other tests had
    page = await open_page(PATH, Role.ADMIN, width=width)
    for path in PAGES if width == 1280 else PAGES[:2]:
        await page.goto(PATH + path)
        assert await _unreached(page) == ([], []), path
    await page.context.clear_cookies()
    await page.goto(LOGIN_PATH)
    assert await _unreached(page) == ([], [])


async def _unreached(page: Page) -> Any:
    """Controls that Tab does not come to, and what is wrong with those that it does."""
    count, dates = await page.evaluate(_WATCH)
    assert count
    for _ in range(count + _STOPS_OF_A_DATE * dates + 3):
        await page.keyboard.press("Tab")
    left, faults = await page.evaluate(
        "() => [[...window.unreached].filter((one) => one.isConnected).map((one) => one.outerHTML), window.faults]"
    )
    return left, faults


async def test_each_key_does_what_the_list_of_keys_says(open_page: Open, hand: Hand, log: Log) -> None:
    oldest, middle, newest = [await hand.failed(made=NOON.replace(minute=minute)) for minute in range(3)]
    page = await open_page(PATH)
    keys = page.get_by_role("dialog", name="Keys")
    await page.keyboard.press("?")
    await expect(keys).to_be_visible()
    told = await keys.locator("kbd").all_inner_texts()
    assert set(told) == {"/", "j", "k", "Enter", "x", "r", "?"}
    await page.keyboard.press("j")  # is not for the list as long as a question is open
    await page.keyboard.press("Enter")
    await expect(keys).to_be_hidden()

    def row(order_id: str) -> Any:
        return page.locator(f"tr[data-order='{order_id}']")

    for key, where in (("j", newest), ("j", middle), ("j", oldest), ("j", oldest), ("k", middle), ("k", newest)):
        await page.keyboard.press(key)
        await expect(row(where)).to_be_focused()
    await page.keyboard.press("k")
    await expect(row(newest)).to_be_focused()
    await page.keyboard.press("j")
    await page.keyboard.press("x")
    await expect(row(middle).get_by_role("checkbox")).to_be_checked()
    await expect(page.locator("#chosen-count")).to_have_text("1")
    await page.keyboard.press("x")
    await expect(row(middle).get_by_role("checkbox")).not_to_be_checked()
    await page.keyboard.press("r")
    (command,) = await until(lambda: log.commands(middle), "the command")
    assert command["type"] == "RetryFulfillment"
    await expect(page.locator("#said")).not_to_have_text("Retry now: sent")
    # What is typed is text.
    await page.keyboard.press("/")
    await expect(page.get_by_role("searchbox")).to_be_focused()
    await page.keyboard.type("jkxr?/")
    await expect(page.get_by_role("searchbox")).to_have_value("jkxr?/")
    await expect(keys).to_be_hidden()
    await expect(page.locator("tr[data-order]")).to_have_count(0)
    await page.get_by_role("searchbox").fill("")
    await expect(page.locator("tr[data-order]")).to_have_count(3)
    await page.locator("#main").focus()
    await page.keyboard.press("j")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="What happened")).to_be_visible()
    assert page.url.endswith(newest)
    assert await log.commands(newest) == []
    assert await log.commands(oldest) == []


async def test_a_question_is_answered_by_the_keyboard(open_page: Open, hand: Hand, log: Log) -> None:
    """It takes the focus, keeps it, and gives it back; Escape does nothing else."""
    story = Story("00000000-0000-4000-8000-0000000000b7").requested().attempted().uncertain().reviewed()
    await hand.tell(story)
    page = await open_page(f"{PATH}/orders/{story.order_id}")
    button = page.get_by_role("button", name="It was not delivered")
    dialog = page.get_by_role("dialog", name="It was not delivered")
    await button.focus()
    await page.keyboard.press("Enter")
    await expect(dialog.get_by_label("Reason")).to_be_focused()
    for _ in range(8):
        await page.keyboard.press("Tab")
        assert await page.evaluate("!document.querySelector('main').contains(document.activeElement)")
    await page.keyboard.press("Escape")
    await expect(dialog).to_be_hidden()
    await expect(button).to_be_focused()
    await page.keyboard.press("Space")
    await expect(dialog.get_by_label("Reason")).to_be_focused()
    # Enter means what was asked; a reason that is too short is not enough.
    await page.keyboard.type("ab")
    await page.keyboard.press("Enter")
    await expect(dialog).to_be_visible()
    await page.keyboard.type("c: the provider's word")
    await page.keyboard.press("Enter")
    (command,) = await until(lambda: log.commands(story.order_id), "the command")
    assert (command["delivered"], command["reason"]) == (False, "abc: the provider's word")
