"""The pages for admins and for what runs, and what is left of the dashboard where no script runs."""

import re
import uuid
from datetime import UTC, datetime

import pytest
from playwright.async_api import expect

from schemas.poison import PoisonKind
from schemas.providers import By, ProviderState
from schemas.topics import FULFILLMENT_ALERTS
from services.gateway.access import Role
from services.gateway.dashboard.rendering import LOGIN_PATH, PATH
from tests.gateway.access.conftest import PASSWORD
from tests.gateway.alerts.test_alerts import said, write
from tests.gateway.alerts.test_board import alert
from tests.gateway.conftest import Log, Stand
from tests.gateway.dashboard.accessibility import violations
from tests.gateway.dashboard.conftest import Open
from tests.gateway.dead_letters.conftest import Desk
from tests.gateway.providers.conftest import Fulfiller
from tests.gateway.providers.conftest import commands as provider_commands
from tests.gateway.reads.conftest import Hand
from tests.projector.events import created, value
from tests.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_key_is_shown_once_and_can_be_revoked(open_page: Open, stand: Stand) -> None:
    page = await open_page(f"{PATH}/access", Role.ADMIN)
    made = page.get_by_role("form", name="Make a key")
    name = f"the shop {uuid.uuid4().hex}"
    await made.get_by_label("For").fill(name)
    await made.get_by_label("Account").fill("shop-1")
    await made.get_by_label("Until").fill("2020-01-01")
    await made.get_by_role("button").click()
    await expect(made.get_by_role("alert")).to_contain_text("expiresAt")
    await made.get_by_label("Until").fill("2099-01-01")
    await made.get_by_role("button").click()
    dialog = page.get_by_role("dialog", name="The new key")
    await expect(dialog).to_be_visible()
    token = await page.locator("#secret-said").inner_text()
    assert re.fullmatch(r"[0-9a-f]{16}\.\S{43}", token)
    for width in (390, 1280):
        await page.set_viewport_size({"width": width, "height": 900})
        assert await violations(page) == []
        assert await page.evaluate("document.documentElement.scrollWidth") <= width
    await dialog.get_by_role("button", name="I have kept it").click()
    await expect(dialog).to_be_hidden()
    row = page.locator("tr[data-key]", has_text=name)
    await expect(row).to_contain_text("shop-1")
    assert token not in await page.content()
    headers = {"X-API-Key": token, "X-Forwarded-For": "1.2.3.4"}
    assert (await stand.client.request("GET", "/api/session", headers=headers)).status == 200
    await row.get_by_role("button", name="Revoke").click()
    await page.get_by_role("dialog", name="Revoke").get_by_role("button", name="Revoke").click()
    await expect(row).to_contain_text("Revoked")
    assert (await stand.client.request("GET", "/api/session", headers=headers)).status == 401


async def test_users_are_made_changed_and_shut_out(open_page: Open) -> None:
    page = await open_page(f"{PATH}/access", Role.ADMIN)
    made = page.get_by_role("form", name="Make a user")
    name = f"u{uuid.uuid4().hex[:12]}"
    for again in (False, True):
        await made.get_by_label("Name").fill(name)
        await made.get_by_label("First password").fill(PASSWORD)
        await made.get_by_role("button").click()
        if again:
            await expect(made.get_by_role("alert")).to_contain_text("already")
        else:
            await expect(page.locator(f"tr[data-user='{name}']")).to_contain_text("never")
    row = page.locator(f"tr[data-user='{name}']")
    await row.get_by_label("Role of").select_option("operator")
    await row.get_by_role("button", name="Save").click()
    await expect(page.locator("#said")).to_have_text("Done")
    await row.get_by_role("button", name="Disable").click()
    await expect(row).to_contain_text("Disabled")
    await expect(row.get_by_label("Role of")).to_have_value("operator")
    await row.get_by_role("button", name="Enable").click()
    await expect(row).to_contain_text("May log in")
    await page.goto(f"{PATH}/audit?target={name}")
    await expect(page.locator("tbody tr")).to_have_count(4)
    await expect(page.locator("tbody")).to_contain_text("user_created")
    assert await violations(page) == []


async def test_an_admin_keeps_their_own_role(open_page: Open) -> None:
    page = await open_page(f"{PATH}/access", Role.ADMIN)
    name = (await page.locator(".who a").inner_text()).removeprefix("user:")
    row = page.locator(f"tr[data-user='{name}']")
    await row.get_by_role("button", name="Disable").click()
    await expect(row.get_by_role("alert").last).to_contain_text("own role")


async def test_the_audit_log_is_searched_in_the_address(open_page: Open) -> None:
    page = await open_page(f"{PATH}/audit?action=login", Role.ADMIN)
    await expect(page.locator("tbody")).to_contain_text("login")
    await page.get_by_label("What", exact=True).fill("nothing_like_it")
    await page.get_by_role("button", name="Search").click()
    await expect(page.locator("tbody")).to_have_text("Nothing of that kind is noted.")
    assert "action=nothing_like_it" in page.url
    await page.goto(f"{PATH}/audit?from=2026-02-02&to=2026-01-01")
    await expect(page.get_by_role("alert")).to_contain_text("later than to")


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR])
async def test_pages_for_admins_are_told_apart_from_those_for_all(open_page: Open, role: Role) -> None:
    page = await open_page(PATH, role)
    await expect(page.get_by_role("link", name="Audit")).to_have_count(0)
    for path in ("audit", "access"):
        answer = await page.goto(f"{PATH}/{path}")
        assert answer is not None
        assert answer.status == 403
        await expect(page.get_by_role("heading", name="This caller may not do that")).to_be_visible()


async def test_dead_letters_are_shown_tried_dry_and_sent_back(
    open_page: Open, hand: Hand, stand: Stand, log: Log
) -> None:
    desk = Desk(hand.connection, stand.settings)
    await desk.place()
    order = created(str(uuid.uuid4()), created_at=datetime.now(UTC))
    good = await desk.letter(value(order), key=order.order_id.encode())
    bad = await desk.letter(
        b"<script>alert(1)</script>\xff", PoisonKind.NOT_JSON, message="<img src=x onerror=alert(1)>"
    )
    page = await open_page(f"{PATH}/dead-letters")
    await expect(page.locator("tr[data-row]")).to_have_count(2)
    await expect(page.locator(f"tr[data-row='{bad}']")).to_contain_text("<img src=x onerror=alert(1)>")
    assert await violations(page) == []
    for letter in (good, bad):
        await page.get_by_label(f"Select dead letter {letter}").check()
    await page.get_by_role("button", name="Send them back").click()
    dialog = page.get_by_role("dialog", name="Send back")
    await expect(dialog.locator("li").filter(has_text="can be sent back")).to_have_text("1 can be sent back")
    await expect(dialog).to_contain_text(f"{bad}: ")
    await dialog.get_by_label("Reason").fill("mended, ticket 4711")
    await dialog.get_by_role("button", name="Send back").click()
    await expect(page.locator(f"tr[data-row='{good}']")).to_contain_text("By user:")
    assert len(await log.orders(order.order_id)) == 1
    await page.locator(f"tr[data-row='{bad}'] .open").click()
    await expect(page.get_by_role("heading", name=f"Dead letter {bad}")).to_be_visible()
    await page.get_by_role("button", name="Send it back").click()
    await expect(dialog).to_contain_text("can never be acted on")
    await expect(dialog.get_by_role("button", name="Send back")).to_be_hidden()
    assert await violations(page) == []


async def test_without_script_one_sees_and_retries(open_page: Open, hand: Hand, log: Log) -> None:
    failed = await hand.failed()
    delivered = await hand.delivered()
    page = await open_page(PATH, script=False)
    row = page.locator(f"tr[data-order='{failed}']")
    await expect(row.locator("time").last).to_contain_text("2026-")
    await row.get_by_role("button", name="Retry").click()
    await expect(page.get_by_role("heading", name="What happened")).to_be_visible()
    (command,) = await log.commands(failed)
    assert command["type"] == "RetryFulfillment"
    assert command["actor"].startswith("user:p")
    await page.goto(f"{PATH}?status=success")
    await expect(page.locator("tr[data-order]")).to_have_count(1)
    await page.locator(f"tr[data-order='{delivered}'] .open").click()
    await page.get_by_role("button", name="Retry now").click(force=True)
    await expect(page.get_by_role("heading", name="The order is not in a state for that")).to_be_visible()
    await page.get_by_role("link", name="Back").click()
    await expect(page.get_by_role("heading", name="What happened")).to_be_visible()
    await page.get_by_role("button", name="Log out").click()
    await expect(page.get_by_label("Password")).to_be_visible()


async def test_a_login_that_fails_says_so_on_its_page(open_page: Open) -> None:
    page = await open_page(PATH, script=False)
    await page.get_by_role("button", name="Log out").click()
    await page.get_by_label("Name").fill("nobody-like-that")
    await page.get_by_label("Password").fill("not the password")
    await page.get_by_role("button", name="Log in").click()
    await expect(page.get_by_role("alert")).to_contain_text("wrong")
    assert LOGIN_PATH in page.url


async def test_an_alert_stands_above_every_page_and_is_told_on_the_health_page(open_page: Open, stand: Stand) -> None:
    raised = alert("AlertRaised", "success_rate_1m", severity="critical", unit="share", figure=0.25, bound=0.8)
    await write(stand.settings, FULFILLMENT_ALERTS, [said(raised)])
    await until(lambda: bool(stand.gateway.alerts.following.firing()), "the alert")
    page = await open_page(f"{PATH}/health", Role.VIEWER)
    await expect(page.locator("#alerts")).to_contain_text("Success rate 1m")
    await expect(page.locator("tbody").first).to_contain_text("25 %, bound 80 %")
    assert await violations(page) == []
    await page.goto(f"{PATH}/review")
    await expect(page.locator("#alerts")).to_contain_text("Success rate 1m")
    await write(
        stand.settings,
        FULFILLMENT_ALERTS,
        [said(alert("AlertCleared", "success_rate_1m", at_s=1, severity="critical"))],
    )
    await until(lambda: not stand.gateway.alerts.following.firing(), "its end")
    # As every half a minute.
    await page.evaluate("htmx.ajax('GET', document.querySelector('#alerts').getAttribute('hx-get'), '#alerts')")
    await expect(page.locator("#alerts")).to_be_empty()


async def test_many_orders_are_retried_after_a_look_at_what_that_means(open_page: Open, hand: Hand, log: Log) -> None:
    failed = [await hand.failed() for _ in range(2)]
    await hand.delivered()
    page = await open_page(f"{PATH}?network=AT-iShare")
    await page.get_by_role("button", name="Retry all that fit").click()
    dialog = page.get_by_role("dialog", name="Retry them")
    await expect(dialog.locator("li").first).to_contain_text("2 of 3 can be retried: 3,000 MB, price 9")
    await expect(dialog).to_contain_text("1 delivered: ")
    assert await violations(page) == []
    await dialog.get_by_label("Reason").fill("the provider is back, ticket 4711")
    await dialog.get_by_role("button", name="Retry them").click()
    await expect(page.get_by_role("heading", name="Retry of 2 orders")).to_be_visible()
    await expect(page.locator("tr[data-row]")).to_have_count(2)
    for order_id in failed:
        await until(lambda order_id=order_id: log.commands(order_id), "the command")
    assert await violations(page) == []
    await page.get_by_role("button", name="Cancel").click()
    asked = page.get_by_role("dialog", name="Cancel")
    await asked.get_by_label("Reason").fill("a mistake")
    await asked.get_by_role("button", name="Cancel").click()
    await expect(page.get_by_role("heading", name="Cancelled")).to_be_visible()
    await page.get_by_role("link", name="Retries of many").click()
    await expect(page.locator("tr[data-row]")).to_contain_text("the provider is back, ticket 4711")
    assert await violations(page) == []
    page = await open_page(f"{PATH}/audit?action=bulk_retry_cancelled", Role.ADMIN)
    await page.locator("td a.mono, td.mono a").first.click()
    await expect(page.get_by_role("heading", name="Retry of 2 orders")).to_be_visible()


async def test_what_cannot_be_retried_is_not_offered(open_page: Open, hand: Hand) -> None:
    delivered = await hand.delivered()
    page = await open_page(PATH)
    await page.get_by_label(f"Select order {delivered}").check()
    await page.get_by_role("button", name="Retry them").click()
    dialog = page.get_by_role("dialog", name="Retry them")
    await expect(dialog.locator("li").first).to_contain_text("0 of 1 can be retried")
    await expect(dialog.get_by_role("button", name="Retry them")).to_be_hidden()
    await dialog.get_by_role("button", name="Back").click()
    await expect(dialog).to_be_hidden()


async def test_a_provider_is_suspended_with_a_reason(open_page: Open, hand: Hand, stand: Stand, log: Log) -> None:
    await hand.connection.execute("TRUNCATE providers, provider_balances")
    fulfiller = Fulfiller(hand.connection, stand.settings)
    await fulfiller.place()
    await fulfiller.says(mb=250_000, why="<b>BALANCE</b>", by=By.PROVIDER)
    page = await open_page(f"{PATH}/providers", Role.VIEWER)
    await expect(page.get_by_role("heading", name="at-ishare")).to_contain_text("Up")
    await expect(page.get_by_text("250,000 MB")).to_be_visible()
    await expect(page.get_by_text("<b>BALANCE</b>")).to_be_visible()
    await expect(page.get_by_role("button", name="Suspend")).to_have_count(0)
    page = await open_page(f"{PATH}/providers")
    await expect(page.locator("[data-balance]")).to_be_visible()
    assert await violations(page) == []
    await page.get_by_role("button", name="Suspend").click()
    dialog = page.get_by_role("dialog", name="Suspend")
    await dialog.get_by_label("Reason").fill("their cable is cut")
    await dialog.get_by_role("button", name="Suspend").click()
    await until(lambda: provider_commands(log), "the command")
    (command,) = await provider_commands(log)
    assert (command["type"], command["reason"]) == ("SuspendProvider", "their cable is cut")
    await expect(dialog).to_be_hidden()
    await fulfiller.says(9, state=ProviderState.SUSPENDED, by=By.OPERATOR, actor="user:ama", why="their cable is cut")
    await page.reload()
    await expect(page.get_by_role("heading", name="at-ishare")).to_contain_text("Suspended")
    await expect(page.get_by_role("button", name="Resume")).to_be_visible()
    await expect(page.get_by_role("button", name="Suspend")).to_have_count(0)


async def test_people_change_their_own_password(open_page: Open) -> None:
    page = await open_page(f"{PATH}/account", Role.VIEWER)
    assert await violations(page) == []
    form = page.get_by_role("form", name="Your password")
    await form.get_by_label("The new one").fill("a horse that staples batteries")
    for current, refused in (("not the password", "password"), (PASSWORD, "")):
        await form.get_by_label("The one you have").fill(current)
        await form.get_by_role("button").click()
        if refused:
            await expect(form.get_by_role("alert")).to_contain_text(refused)
    await expect(page.locator("#said")).to_have_text("Done")
    await page.reload()
    await expect(form).to_be_visible()
