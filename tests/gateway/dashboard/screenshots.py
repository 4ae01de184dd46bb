"""`make screenshots`: every page of the scene, wide and narrow, by day and by night, into docs/screenshots."""

import asyncio
import json
from io import BytesIO
from pathlib import Path
from typing import Final

import pytest
from PIL import Image
from playwright.async_api import Browser, Page

from services.gateway.access import Role
from services.gateway.dashboard.rendering import PATH
from tests.gateway.conftest import Stand
from tests.gateway.dashboard import scene
from tests.gateway.dashboard.conftest import Open
from tests.gateway.reads.conftest import Hand

SHEET: Final = Path(__file__).parents[3] / "docs" / "screenshots"
MADE_WITH: Final = SHEET / "made-with.json"
MAX_BYTES: Final = 1_000_000
WIDTHS: Final = {"wide": 1280, "phone": 390}
PAGES: Final = {
    "orders": "",
    "order": f"/orders/{scene.FOUND_OUT}",
    "review": "/review",
    "providers": "/providers",
    "dead-letters": "/dead-letters",
    "health": "/health",
}
_COLOURS: Final = 128

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def made_with(browser: Browser) -> dict[str, str]:
    """What decides how text looks, but for the pages themselves."""
    fonts = {}
    for family in ("system-ui", "sans-serif", "ui-monospace", "monospace"):
        asked = await asyncio.create_subprocess_exec("fc-match", family, stdout=asyncio.subprocess.PIPE)
        fonts[family] = (await asked.communicate())[0].decode().strip()
    return {"chromium": browser.version, **fonts}


def drawn(shot: bytes) -> Image.Image:
    """In few colours, as it is kept."""
    image = Image.open(BytesIO(shot)).convert("RGB")
    return image.quantize(_COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)


async def taken(page: Page, path: str) -> Image.Image:
    """The page as it is at the scene's time, once it is live."""
    await page.clock.set_fixed_time(scene.NOW)
    await page.goto(PATH + path)
    await page.wait_for_load_state("networkidle" if path in {"/health", "/providers"} else "load")
    await page.wait_for_function("[...document.querySelectorAll('time')].every((one) => one.title)")
    if await page.locator("#live").count() and path in {"", "/review"}:
        await page.locator("#live[data-state=on]").wait_for()
    shot = await page.screenshot(animations="disabled", mask=[page.locator(".who a")], mask_color="#888888")
    return drawn(shot)


async def test_screenshots(open_page: Open, hand: Hand, stand: Stand, browser: Browser) -> None:
    await scene.set_up(hand, stand)
    SHEET.mkdir(exist_ok=True)
    async with scene.alerted(stand):
        for size, width in WIDTHS.items():
            for scheme in ("light", "dark"):
                page = await open_page(PATH, Role.OPERATOR, width=width, scheme=scheme)
                for name, path in PAGES.items():
                    image = await taken(page, path)
                    image.save(SHEET / f"{name}-{size}-{scheme}.png", optimize=True)
                await page.close()
    MADE_WITH.write_text(json.dumps(await made_with(browser), indent=2) + "\n")
    assert sum(path.stat().st_size for path in SHEET.glob("*.png")) <= MAX_BYTES
