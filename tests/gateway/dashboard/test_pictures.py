"""Pages look as they do in docs/screenshots; `make screenshots` says that they are to look otherwise."""

import json
from io import BytesIO
from itertools import product
from typing import Any, Final

import pytest
from PIL import Image, ImageChops, ImageDraw
from playwright.async_api import Browser, Page

from services.gateway.access import Role
from services.gateway.dashboard.rendering import PATH
from tests.gateway.conftest import Stand
from tests.gateway.dashboard import scene
from tests.gateway.dashboard.conftest import Open
from tests.gateway.dashboard.screenshots import MADE_WITH, PAGES, SHEET, WIDTHS, made_with, taken
from tests.gateway.reads.conftest import Hand

REGION_PX: Final = 10
FAINT: Final = 30
"""Of 255: less is a letter that was drawn a little otherwise."""
MAX_SHARE: Final = 0.005
"""Of all regions: those that may differ by more."""
MAX_SHARE_ELSEWHERE: Final = 0.06
"""Of letters that another Chromium draws, or of other fonts: what is missing, moved or of another colour is more."""
OF_THE_DAY: Final = "time[data-at], .place, pre, .chart, .who, #live"
"""What is another each time: moments, names of topics, charts of the last day."""

pytestmark = pytest.mark.asyncio(loop_scope="session")


def share_of_difference(one: Image.Image, other: Image.Image, hidden: list[dict[str, float]]) -> float:
    """0 to 1; regions that are hidden are alike."""
    pictures = [picture.convert("RGB") for picture in (one, other)]
    assert pictures[0].size == pictures[1].size
    for picture in pictures:
        for box in hidden:
            corners = (box["x"] - 8, box["y"] - 3, box["x"] + box["width"] + 24, box["y"] + box["height"] + 3)
            ImageDraw.Draw(picture).rectangle(corners, fill="#888888")
    size = (pictures[0].width // REGION_PX, pictures[0].height // REGION_PX)
    small = ImageChops.difference(*pictures).convert("L").resize(size, Image.Resampling.BOX)
    return sum(small.histogram()[FAINT:]) / (size[0] * size[1])


async def hidden_in(page: Page) -> Any:
    return await page.locator(OF_THE_DAY).evaluate_all(
        "places => places.map(place => place.getBoundingClientRect().toJSON()).filter(box => box.width && box.height)"
    )


@pytest.mark.timeout(600)
async def test_pages_look_as_in_their_pictures(open_page: Open, hand: Hand, stand: Stand, browser: Browser) -> None:
    """All of them, whatever draws here; who finds them otherwise by intent makes them anew."""
    noted, here = json.loads(MADE_WITH.read_text()), await made_with(browser)
    most = MAX_SHARE if noted == here else MAX_SHARE_ELSEWHERE
    await scene.set_up(hand, stand)
    page = await open_page(f"{PATH}/account", Role.OPERATOR)
    differ: dict[str, float] = {}
    async with scene.alerted(stand):
        for (size, width), scheme, name in product(WIDTHS.items(), ("light", "dark"), PAGES):
            await page.set_viewport_size({"width": width, "height": 900})
            await page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
            now = await taken(page, PAGES[name])
            kept = Image.open(SHEET / f"{name}-{size}-{scheme}.png")
            share = share_of_difference(now, kept, await hidden_in(page))
            if share > most:
                differ[f"{name}-{size}-{scheme}"] = round(share, 3)
        assert differ == {}, (
            f"these shares of the pictures in docs/screenshots differ, of {most} that may. If pages are to look so: "
            f"`make screenshots`, look at them, commit them. They were made with {noted}; here is {here}"
        )
        # And one that does look otherwise is found.
        await page.evaluate("document.querySelector('h2').style.marginTop = '60px'")
        shot = Image.open(BytesIO(await page.screenshot(animations="disabled")))
        moved = share_of_difference(shot, kept, await hidden_in(page))
        assert moved > most
