"""Every control of every page, as every role: known by name, tried by a test; every link leads somewhere."""

import re
from pathlib import Path
from typing import Final

import pytest
from playwright.async_api import Page, expect

from services.gateway.access import Role
from services.gateway.dashboard.rendering import PATH
from tests.gateway.conftest import Log, Stand
from tests.gateway.dashboard import scene
from tests.gateway.dashboard.conftest import Open
from tests.gateway.reads.conftest import Hand
from tests.projector.events import Story
from tests.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="session")

HERE: Final = Path(__file__).parent
LOOKED_AT: Final = ("", f"/orders/{scene.FOUND_OUT}", "/review", "/retries", "/providers", "/dead-letters")
APART: Final = ("/dead-letters/0-0", "/health", "/account")
FOR_ADMINS: Final = ("/audit", "/access")

_CONTROLS: Final = """
() => [...document.querySelectorAll("body button, body input:not([type=hidden]), body select, body summary")]
  .filter((one) => !one.closest("dialog") && one.checkVisibility())
  .map((one) => (one.getAttribute("aria-label") ?? one.labels?.[0]?.firstChild.textContent
    ?? one.firstChild?.textContent ?? one.name).trim())
"""
_THIS_ONE: Final = re.compile(r"^(Select|Role|New password) .*$")

LIST: Final = "test_orders_are_listed_filtered_and_found"
ACCESS: Final = "test_users_are_made_changed_and_shut_out"
FILTERS: Final = "test_filters_of_other_pages_are_tried"
ACTS: Final = "test_acts_on_orders_are_commands"
LOOK: Final = {
    "Log out": "test_a_session_that_ends_leads_to_the_login_and_back",
    "Phone, order or reference": LIST,
    "Network": FILTERS,
    "State": FILTERS,
    "Failure": FILTERS,
    "From (UTC)": FILTERS,
    "To": FILTERS,
    "Search": FILTERS,
    "Columns": "test_columns_are_the_same_on_a_second_visit",
    "Select": "test_the_keyboard_does_it_all",
    "Copy": "test_ids_and_json_are_copied",
    "fulfillment.events": "test_ids_and_json_are_copied",
    "orders.events": "test_ids_and_json_are_copied",
    "Error": FILTERS,
    "Found in": FILTERS,
    "Order": FILTERS,
    "Sent back": FILTERS,
    "From": FILTERS,
    "Before": FILTERS,
    "Time": "test_charts_are_drawn",
    "The one you have": "test_people_change_their_own_password",
    "The new one": "test_people_change_their_own_password",
    "Change it": "test_people_change_their_own_password",
}
"""What everybody may use, and the test that does."""
ACT: Final = {
    "Retry": "test_a_retry_is_one_click_and_one_command",
    "Retry now": "test_without_script_one_sees_and_retries",
    "Trigger": ACTS,
    "It was delivered": "test_two_operators_on_one_order",
    "It was not delivered": "test_two_operators_on_one_order",
    "Override": ACTS,
    "Cancel": ACTS,
    "Suspend": "test_a_provider_is_suspended_with_a_reason",
    "Send it back": "test_dead_letters_are_shown_tried_dry_and_sent_back",
}
"""What operators may, as well."""
RULE: Final = {
    "Role": ACCESS,
    "Account": "test_a_key_is_shown_once_and_can_be_revoked",
    "For": "test_a_key_is_shown_once_and_can_be_revoked",
    "Until": "test_a_key_is_shown_once_and_can_be_revoked",
    "Make a key": "test_a_key_is_shown_once_and_can_be_revoked",
    "Revoke": "test_a_key_is_shown_once_and_can_be_revoked",
    "Name": ACCESS,
    "First password": ACCESS,
    "Make a user": ACCESS,
    "Save": ACCESS,
    "Disable": ACCESS,
    "Enable": ACCESS,
    "New password": FILTERS,
    "Set": FILTERS,
    "Who": FILTERS,
    "What": FILTERS,
    "To what": FILTERS,
}
"""What admins may, as well."""
MAY: Final = {Role.VIEWER: LOOK, Role.OPERATOR: LOOK | ACT, Role.ADMIN: LOOK | ACT | RULE}


@pytest.mark.parametrize("role", MAY)
async def test_every_control_is_known_and_every_link_leads_somewhere(
    open_page: Open, hand: Hand, stand: Stand, role: Role
) -> None:
    await scene.set_up(hand, stand)
    await hand.connection.execute("TRUNCATE access.audit")  # of orders that other tests had
    page = await open_page(PATH, role)
    found: dict[str, str] = {}
    links: set[str] = set()
    for path in (*LOOKED_AT, *APART, *(FOR_ADMINS if role is Role.ADMIN else ())):
        await page.goto(PATH + path)
        for name in await page.evaluate(_CONTROLS):
            found.setdefault(_known(name), path)
        links |= set(await page.locator("a[href]").evaluate_all("links => links.map(link => link.href)"))
    assert {name: path for name, path in found.items() if name not in MAY[role]} == {}
    if role is not Role.VIEWER:
        assert set(ACT) <= set(found)
    if role is Role.ADMIN:
        for link in sorted({link.partition("#")[0] for link in links}):
            assert (await page.request.get(link)).status == 200, link


async def test_what_is_said_to_try_a_control_is_there() -> None:
    tests = "\n".join(path.read_text() for path in HERE.glob("test_*.py"))
    assert [test for test in (LOOK | ACT | RULE).values() if f"def {test}(" not in tests] == []


def _known(name: str) -> str:
    """Without what it is about: an id, a name of a topic, a user's."""
    topic = re.search(r"(orders|fulfillment)\.events", name)
    return topic[0] if topic else _THIS_ONE.sub(r"\1", name)


async def test_acts_on_orders_are_commands(open_page: Open, hand: Hand, log: Log) -> None:
    """Each once, from the order's own page, with its reason; what cannot be undone is asked about first."""
    n = 0
    for label, type_, story in (
        ("Trigger", "TriggerFulfillment", Story("00000000-0000-4000-8000-0000000000c1").requested(provider=None)),
        ("Cancel", "CancelFulfillment", Story("00000000-0000-4000-8000-0000000000c2").requested(provider=None)),
        (
            "Override",
            "OverrideFulfillment",
            Story("00000000-0000-4000-8000-0000000000c3")
            .requested()
            .attempted()
            .failed()
            .attempted()
            .failed()
            .attempted()
            .failed(None, error_code="BARRED"),
        ),
    ):
        await hand.tell(story)
        page = await open_page(f"{PATH}/orders/{story.order_id}")
        await page.get_by_role("button", name=label, exact=True).click()
        if label != "Trigger":
            dialog = page.get_by_role("dialog", name=label)
            await dialog.get_by_label("Reason").fill("ticket 4711")
            await dialog.get_by_role("button", name=label).click()
        (command,) = await until(lambda story=story: log.commands(story.order_id), label)
        assert command["type"] == type_
        n += 1
    assert n == 3


async def test_ids_and_json_are_copied(open_page: Open, hand: Hand) -> None:
    order_id = await hand.delivered()
    page = await open_page(f"{PATH}/orders/{order_id}")
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await page.get_by_role("button", name="Copy").first.click()
    await expect(page.locator("#said")).to_have_text("Copied")
    assert await page.evaluate("navigator.clipboard.readText()") == order_id
    entry = page.locator(".timeline li").last
    await entry.locator("summary").click()
    await entry.get_by_role("button", name="Copy").click()
    await until(lambda: copied(page, '"type": "FulfillmentSucceeded"'), "the event")


async def copied(page: Page, text: str) -> bool:
    return text in await page.evaluate("navigator.clipboard.readText()")


async def test_filters_of_other_pages_are_tried(open_page: Open, hand: Hand, stand: Stand) -> None:
    await scene.set_up(hand, stand)
    page = await open_page(PATH, Role.ADMIN)
    rows = page.locator("tr[data-row]")
    today = scene.SINCE.date().isoformat()
    for name, said, count in (
        ("network", "Telecel", 4),
        ("state", "failed", 1),
        ("failure", "BARRED", 1),
        ("from", "2099-01-01", 0),
        ("to", "2000-01-01", 0),
    ):
        await page.goto(PATH)
        field = page.locator(f"form[role=search] [name={name}]")
        await (field.select_option(said) if name in {"network", "state", "failure"} else field.fill(said))
        await page.get_by_role("button", name="Search").click()
        await expect(rows).to_have_count(count)
    for name, said, count in (
        ("error", "schema", 1),
        ("topic", "fulfillment.commands", 1),
        ("orderId", scene.FOUND_OUT, 0),
        ("replayed", "true", 0),
        ("from", "2099-01-01", 0),
        ("to", "2000-01-01", 0),
    ):
        await page.goto(f"{PATH}/dead-letters")
        field = page.locator(f"form[role=search] [name={name}]")
        await (field.select_option(said) if name in {"topic", "replayed"} else field.fill(said))
        await page.get_by_role("button", name="Search").click()
        await expect(rows).to_have_count(count)
    own = (await page.locator(".who a").inner_text()).strip()
    for name, said in (("actor", own), ("action", "login"), ("target", own.removeprefix("user:")), ("from", today)):
        await page.goto(f"{PATH}/audit")
        await page.locator(f"form[role=search] [name={name}]").fill(said)
        await page.get_by_role("button", name="Search").click()
        await expect(page.locator("tbody")).to_contain_text(own if name == "actor" else "user")
    await page.goto(f"{PATH}/access")
    row = page.locator(f"tr[data-user='{own.removeprefix('user:')}']")
    await row.get_by_label("New password").fill("a horse that staples batteries")
    await row.get_by_role("button", name="Set").click()
    await expect(page.get_by_label("Password").or_(page.locator("#said:not(:empty)")).first).to_be_visible()
