"""A dashboard without orders, where the sandbox is the provider: its faults are named, and one buys into them."""

import asyncio

import pytest
from playwright.async_api import expect
from pydantic import SecretStr

from schemas import ids
from schemas.cloudevents import decode_order
from services.gateway.access import Role
from services.gateway.dashboard.rendering import PATH
from services.gateway.dashboard.samples import SAMPLES, SAMPLES_PATH, Samples
from services.gateway.purchase import Purchases
from services.sandbox.faults import FAULTS, magic_number
from services.settings import Environment
from tests.gateway.access.conftest import People, people
from tests.gateway.conftest import Client, Log, Stand
from tests.gateway.dashboard.accessibility import violations
from tests.gateway.dashboard.conftest import Open
from tests.gateway.dashboard.test_forms import fields, sent
from tests.gateway.reads.conftest import Hand

__all__ = ["people"]

pytestmark = pytest.mark.asyncio(loop_scope="session")

TITLE = "The sandbox stands in for the provider"
BUY = "Buy one for each"


async def test_their_numbers_are_the_sandboxs() -> None:
    for sample in SAMPLES:
        if sample.fault:
            assert sample.phone in {magic_number(sample.fault, times) for times in range(10)}, sample
        else:
            assert not sample.phone.startswith("+23355500"), sample
    assert {sample.fault for sample in SAMPLES} <= {"", *FAULTS}


async def test_one_for_each_is_bought_however_often_the_form_is_sent(
    client: Client, hand: Hand, people: People, log: Log
) -> None:
    operator, viewer = await people.logged_in(Role.OPERATOR), await people.logged_in(Role.VIEWER)
    before = await log.ends()
    bare = operator.but(X_CSRF_Token=None)
    twice = (sent(client, SAMPLES_PATH, fields(operator, once="a"), bare) for _ in range(2))
    for answer in (*await asyncio.gather(*twice), await sent(client, SAMPLES_PATH, fields(operator, once="a"), bare)):
        assert (answer.status, answer.headers["Location"]) == (303, PATH)
    assert await log.ends() == before + len(SAMPLES)
    for number, sample in enumerate(SAMPLES):
        (record,) = await log.orders(ids.order_id(f"user.{operator.name}", f"sample-a-{number}"))
        order = decode_order(record.value, record.headers)
        assert (order.phone_number, order.network) == (sample.phone, sample.network)
    for once, status in (("", 400), ("x" * 33, 400)):
        assert (await sent(client, SAMPLES_PATH, fields(operator, once=once), bare)).status == status
    refused = await sent(client, SAMPLES_PATH, fields(viewer, once="b"), viewer.but(X_CSRF_Token=None))
    assert refused.status == 403
    assert await log.ends() == before + len(SAMPLES)


@pytest.mark.parametrize("script", [True, False])
async def test_a_page_without_orders_offers_them(open_page: Open, hand: Hand, log: Log, *, script: bool) -> None:
    page = await open_page(PATH, script=script)
    region = page.get_by_role("region", name=TITLE)
    for sample in SAMPLES:
        await expect(region).to_contain_text(sample.phone)
        await expect(region).to_contain_text(sample.happens)
    before = await log.ends()
    await region.get_by_role("button", name=BUY).click()
    await page.wait_for_load_state()
    assert await log.ends() == before + len(SAMPLES)
    await hand.delivered()
    await page.goto(PATH)
    await expect(page.locator("tr[data-order]")).to_have_count(1)
    await expect(region).to_have_count(0)


async def test_it_is_offered_to_whom_it_concerns(open_page: Open, hand: Hand) -> None:
    page = await open_page(PATH, Role.VIEWER)
    await expect(page.get_by_role("region", name=TITLE)).to_be_visible()
    await expect(page.get_by_role("button", name=BUY)).to_have_count(0)
    await page.goto(f"{PATH}?status=failed")
    await expect(page.get_by_text("No order fits")).to_be_visible()
    await expect(page.get_by_role("region", name=TITLE)).to_have_count(0)


async def test_it_can_be_read_by_everybody(open_page: Open, hand: Hand) -> None:
    page = await open_page(PATH)
    for width, scheme in ((1280, "light"), (390, "dark"), (390, "light"), (1280, "dark")):
        await page.set_viewport_size({"width": width, "height": 900})
        await page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        assert await violations(page) == [], (width, scheme)
        assert await page.evaluate("document.documentElement.scrollWidth") <= width


async def test_where_money_is_at_stake_there_are_none(stand: Stand) -> None:
    purchases = Purchases(stand.settings, stand.gateway.writer, stand.gateway.claims)
    assert Samples(stand.settings, purchases).offered() == SAMPLES
    for other in (
        {"environment": Environment.PRODUCTION},
        {"at_ishare_api_key": SecretStr("a key of the provider's")},
    ):
        assert Samples(stand.settings.model_copy(update=other), purchases).offered() == ()


async def test_where_there_are_none_nothing_is_bought(
    client: Client, stand: Stand, people: People, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = await people.logged_in(Role.OPERATOR)
    monkeypatch.setattr(Samples, "offered", lambda _: ())
    before = await log.ends()
    answer = await sent(client, SAMPLES_PATH, fields(operator, once="c"), operator.but(X_CSRF_Token=None))
    assert answer.status == 404
    assert await log.ends() == before
