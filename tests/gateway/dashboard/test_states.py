"""What pages are beside their usual: empty, faulty, forbidden, broken, asking. axe and a phone's width judge each."""

from typing import Final

import pytest
from playwright.async_api import Page, expect

from services.gateway.access import Role
from services.gateway.dashboard.rendering import LOGIN_PATH, PATH
from tests.gateway.conftest import Stand
from tests.gateway.dashboard import scene
from tests.gateway.dashboard.accessibility import violations
from tests.gateway.dashboard.conftest import Open
from tests.gateway.reads.conftest import Hand

pytestmark = pytest.mark.asyncio(loop_scope="session")

LOOKS: Final = ((1280, "light"), (390, "dark"))
OTHER_LOOKS: Final = ((390, "light"), (1280, "dark"))


async def judged(page: Page, what: str, looks: tuple[tuple[int, str], ...] = LOOKS) -> None:
    for width, scheme in looks:
        await page.set_viewport_size({"width": width, "height": 900})
        await page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        assert await violations(page) == [], (what, width, scheme)
        assert await page.evaluate("document.documentElement.scrollWidth") <= width, what


async def test_what_is_empty_says_so(open_page: Open, hand: Hand) -> None:
    await hand.connection.execute("TRUNCATE providers, provider_balances")
    await hand.connection.execute("TRUNCATE access.retry_jobs CASCADE")
    page = await open_page(PATH, Role.ADMIN)
    for path, said in (
        ("", "There is no order yet"),
        ("?status=failed", "No order fits"),
        ("?q=0000", "No order fits"),
        ("?limit=many", "limit"),
        ("/review", "Nothing is in review"),
        ("/retries", "Nobody has retried many"),
        ("/providers", "unknown balance"),
        ("/dead-letters", "dead letter"),
        ("/dead-letters?to=2000-01-01", "dead letter"),
        ("/health", "Why orders fail"),
        ("/audit?action=nothing", "Nothing of that kind is noted"),
        ("/audit?from=2026-02-02&to=2026-01-01", "later than to"),
    ):
        await page.goto(PATH + path)
        await expect(page.locator("main")).to_contain_text(said, ignore_case=True)
        await judged(page, path)
    await page.goto(PATH)
    await expect(page.locator("#live")).to_have_text("live")
    first = await hand.delivered()
    await expect(page.locator(f"tr[data-order='{first}']")).to_be_visible()


async def test_errors_and_the_login_are_for_everybody(open_page: Open, hand: Hand) -> None:
    page = await open_page(PATH, Role.VIEWER)
    for path, status, said in (
        (f"{PATH}/audit", 403, "This caller may not do that"),
        (f"{PATH}/orders/00000000-0000-4000-8000-00000000dead", 404, "No such order"),
        (f"{PATH}/orders/no-id", 400, ""),
        (f"{PATH}/dead-letters/0-999999", 404, ""),
        (f"{PATH}/retries/00000000-0000-4000-8000-00000000dead", 404, ""),
        ("/dashboard/nothing", 404, "There is nothing here"),
    ):
        answer = await page.goto(path)
        assert answer is not None
        assert answer.status == status, path
        await expect(page.get_by_role("heading", level=1)).to_contain_text(said)
        assert await page.locator("main a").count(), path
        await judged(page, path)
    await page.context.clear_cookies()
    await page.goto(LOGIN_PATH)
    await judged(page, "login", (*LOOKS, *OTHER_LOOKS))
    await page.get_by_label("Name").fill("nobody-like-that")
    await page.get_by_label("Password").fill("not the password")
    await page.get_by_role("button", name="Log in").click()
    await expect(page.get_by_role("alert")).to_contain_text("wrong")
    await judged(page, "login refused")


async def test_a_gateway_that_fails_says_so_and_nothing_of_its_inside(open_page: Open, hand: Hand) -> None:
    """Here because the view holds what no projector writes."""
    order_id = await hand.delivered()
    await hand.connection.execute("UPDATE events SET value = $1", b"\xff: no JSON")
    page = await open_page(PATH, Role.VIEWER)
    answer = await page.goto(f"{PATH}/orders/{order_id}")
    assert answer is not None
    assert answer.status == 500
    await expect(page.get_by_role("heading", name="The gateway failed")).to_be_visible()
    said = await page.content()
    for inside in ("Traceback", "Error", "no JSON", "services/", ".py", "SELECT"):
        assert inside not in said, inside
    await judged(page, "500", (*LOOKS, *OTHER_LOOKS))
    await page.locator("main").get_by_role("link", name="Orders").click()
    await expect(page.locator("tr[data-order]")).to_have_count(1)


async def test_what_opens_is_as_good_as_the_page_below_it(open_page: Open, hand: Hand, stand: Stand) -> None:
    await scene.set_up(hand, stand)
    page = await open_page(PATH, Role.ADMIN)
    async with scene.alerted(stand):
        await page.goto(PATH)
        await page.get_by_text("Columns", exact=True).click()
        await page.locator(".choose").first.check()
        await judged(page, "columns, selection, alert")
        await page.get_by_role("button", name="Retry them").click()
        await expect(page.get_by_role("dialog", name="Retry them")).to_be_visible()
        await judged(page, "preview")
        await page.keyboard.press("Escape")
        await page.locator("#main").focus()
        await page.keyboard.press("?")
        await expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
        await judged(page, "keys")
    await page.goto(f"{PATH}/orders/{scene.FOUND_OUT}")
    for summary in await page.locator(".timeline summary").all():
        await summary.click()
    await page.get_by_role("button", name="Copy").first.click()
    await expect(page.locator("#said")).not_to_be_empty()
    await judged(page, "JSON, said", OTHER_LOOKS)
    await page.goto(f"{PATH}/review")
    await page.get_by_role("button", name="It was delivered").first.click()
    await expect(page.get_by_role("dialog", name="It was delivered")).to_be_visible()
    await judged(page, "question")
    await page.goto(f"{PATH}/access")
    await page.get_by_role("form", name="Make a key").get_by_label("Until").fill("2020-01-01")
    await page.get_by_role("form", name="Make a key").get_by_role("button").click()
    await expect(page.get_by_role("form", name="Make a key").get_by_role("alert")).not_to_be_empty()
    await judged(page, "a form's fault")
