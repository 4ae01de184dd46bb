"""Every page as every role; what strangers wrote on any of them; streams and servers that go and come back."""

import uuid
from typing import Any, Final

import pytest
from playwright.async_api import Page, expect

from schemas.fulfillment import OnBehalf
from schemas.poison import PoisonKind
from services.gateway import keys
from services.gateway.access import Role
from services.gateway.dashboard.rendering import LOGIN_PATH, PATH
from tests.gateway.conftest import Stand
from tests.gateway.dashboard import scene
from tests.gateway.dashboard.accessibility import violations
from tests.gateway.dashboard.conftest import Open
from tests.gateway.dead_letters.conftest import Desk
from tests.gateway.providers.conftest import Fulfiller
from tests.gateway.reads.conftest import Hand
from tests.projector.events import COMMAND, Story

pytestmark = pytest.mark.asyncio(loop_scope="session")

ACTS: Final = "[data-act], [data-preview], [data-api]"
ALWAYS: Final = {"", "/review", "/retries", "/providers", "/dead-letters", "/health", "/account"}
FOR_ADMINS: Final = {"/audit", "/access"}
ACTED_ON: Final = {"", f"/orders/{scene.FOUND_OUT}", "/review", "/providers", "/account"}
STRANGE: Final = (
    "<script>window.hit=1</script>",
    "\"'><img src=x onerror=window.hit=1>",
    "</pre></td><svg onload=window.hit=1>",
    "' onmouseover='window.hit=1' autofocus onfocus='window.hit=1",
    "javascript:window.hit=1",
    "{{ 7 * 7 }}${window.hit=1}",
)


@pytest.mark.parametrize(("role", "scheme"), [(Role.VIEWER, "light"), (Role.OPERATOR, "dark"), (Role.ADMIN, "light")])
async def test_every_page_as_every_role(open_page: Open, hand: Hand, stand: Stand, role: Role, scheme: str) -> None:
    """axe finds nothing, nothing scrolls sideways on a phone, and acts are for those who may act."""
    await scene.set_up(hand, stand)
    page = await open_page(PATH, role, scheme=scheme)
    linked = await page.locator("header a").evaluate_all("links => links.map(link => link.getAttribute('href'))")
    pages = ALWAYS | (FOR_ADMINS if role is Role.ADMIN else set())
    assert {link.removeprefix(PATH) for link in linked} == pages
    for path in sorted(pages | {f"/orders/{scene.FOUND_OUT}", "/dead-letters/0-0"}):
        await page.set_viewport_size({"width": 1280, "height": 900})
        answer = await page.goto(PATH + path)
        assert answer is not None
        assert answer.status == 200, path
        assert await violations(page) == [], path
        acts = await page.locator(ACTS).count()
        if role is Role.VIEWER:
            assert acts == (1 if path == "/account" else 0), path
        elif path in ACTED_ON:
            assert acts, path
        await page.set_viewport_size({"width": 390, "height": 900})
        assert await page.evaluate("document.documentElement.scrollWidth") <= 390, path
        assert await violations(page) == [], f"{path} on a phone"


async def test_what_strangers_write_stays_text(open_page: Open, hand: Hand, stand: Stand) -> None:
    desk, fulfiller = Desk(hand.connection, stand.settings), Fulfiller(hand.connection, stand.settings)
    await hand.connection.execute("TRUNCATE providers, provider_balances")
    orders: list[str] = []
    for text in STRANGE:
        said: dict[str, Any] = {"error_code": text, "error_message": text, "api_response": {text: text}}
        story = Story(str(uuid.uuid4())).requested().attempted().failed(**said)
        story.attempted().uncertain().reviewed().rejected(text)
        by = OnBehalf(command_id=COMMAND, actor=text, reason=text)
        await hand.tell(
            story, provider=text, reference=text, transaction_id=text, account=text, package_id=text, command=by
        )
        orders.append(story.order_id)
        await desk.place()
        raw = text.encode()
        await desk.letter(raw, PoisonKind.SCHEMA, key=raw, topic=text, message=text, headers=((text, raw),))
        await keys.create(hand.connection, Role.VIEWER, None, text)
    await fulfiller.place()
    await fulfiller.says(why=STRANGE[1], actor=STRANGE[0])
    failed = await hand.failed()
    page = await open_page(PATH, Role.ADMIN)
    await _say_strange_things(page, failed)
    pages = ["", "/review", "/retries", "/providers", "/dead-letters", "/health", "/audit", "/access"]
    told = (("name", "subject", "advice", "link", "unit"), STRANGE[:5])
    async with scene.alerted(stand, **dict(zip(*told, strict=True))):
        for path in [*pages, "/dead-letters/0-1", *(f"/orders/{order_id}" for order_id in orders)]:
            await page.goto(PATH + path)
            assert await page.evaluate("window.hit ?? 0") == 0, path
            assert await page.locator("a[href^='javascript:'], [onload], [onerror], [onfocus]").count() == 0, path
            if path in {"/audit", "/retries", "/health"}:
                await expect(page.locator("main")).to_contain_text(STRANGE[1])
    for text, order_id in zip(STRANGE, orders, strict=True):
        await page.goto(f"{PATH}/orders/{order_id}")
        await expect(page.locator(".timeline")).to_contain_text(f"{text} ({text})")
        for summary in await page.locator("summary").all():
            await summary.click()
        assert await page.evaluate("window.hit ?? 0") == 0, text
    await page.goto(f"{PATH}?q={STRANGE[1]}&failure={STRANGE[0]}")
    await expect(page.get_by_role("alert")).to_be_visible()
    assert await page.evaluate("window.hit ?? 0") == 0


async def _say_strange_things(page: Page, failed: str) -> None:
    """As a user's name at the login, and as the reason of a retry of many."""
    await page.get_by_label(f"Select order {failed}").check()
    await page.get_by_role("button", name="Retry them").click()
    dialog = page.get_by_role("dialog", name="Retry them")
    await dialog.get_by_label("Reason").fill(STRANGE[1])
    await dialog.get_by_role("button", name="Retry them").click()
    await expect(page.get_by_role("heading", name="Retry of 1 orders")).to_be_visible()
    await expect(page.locator("main")).to_contain_text(STRANGE[1])
    assert await page.evaluate("window.hit ?? 0") == 0
    for text in STRANGE:
        said = {"username": text[:64], "password": "not the password"}
        refused = await page.request.post(LOGIN_PATH, form=said, headers={"User-Agent": text})
        assert refused.status in {400, 401}, text
        assert text[:64] not in await refused.text()


async def test_a_stream_that_drops_comes_back_and_has_missed_nothing(open_page: Open, hand: Hand, stand: Stand) -> None:
    """Two people look at the same order, one at the list and one at its story."""
    story = await hand.open()
    lists, tells = await open_page(PATH), await open_page(f"{PATH}/orders/{story.order_id}", Role.VIEWER)
    for page in (lists, tells):
        await expect(page.locator("#live")).to_have_text("live")
    stand.gateway.reads.feed.send_away()
    known = len(story.events)
    story.uncertain()
    story.events = story.events[known:]
    await hand.tell(story)
    await expect(lists.locator(f"tr[data-order='{story.order_id}']")).to_contain_text("In doubt")
    await expect(tells.get_by_role("heading", level=1)).to_contain_text("In doubt")
    for page in (lists, tells):
        await expect(page.locator("#live")).to_have_text("live")


async def test_a_gateway_that_is_away_leaves_the_page_as_it_is(open_page: Open, hand: Hand) -> None:
    failed = await hand.failed()
    page = await open_page(PATH)
    await expect(page.locator("#live")).to_have_text("live")
    await page.context.set_offline(True)
    await page.locator(f"tr[data-order='{failed}']").get_by_role("button", name="Retry").click()
    await expect(page.locator("#said")).to_have_text("The gateway cannot be reached now")
    await expect(page.locator(f"tr[data-order='{failed}']")).to_be_visible()
    await page.context.set_offline(False)
    await page.locator(f"tr[data-order='{failed}']").get_by_role("button", name="Retry").click()
    await expect(page.locator("#said")).to_have_text("The order is on its way")
