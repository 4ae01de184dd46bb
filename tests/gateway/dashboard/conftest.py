"""A gateway with a view that a test writes, and a real browser that is logged in to it."""

import shutil
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, async_playwright, expect

from services.gateway import users
from services.gateway.access import Role
from services.gateway.audit import COMMAND_LINE
from services.gateway.dashboard.rendering import LOGIN_PATH
from tests.gateway.access.conftest import HASH, PASSWORD
from tests.gateway.conftest import Stand
from tests.gateway.reads.conftest import Hand, connection, hand, stand

__all__ = ["connection", "hand", "stand"]

_CHROMIUM: Final = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_PATIENCE_MS: Final = 15_000

Open = Callable[..., Awaitable[Page]]


async def log_in(page: Page, connection: Any, role: Role, path: str, at: str = "") -> None:
    """As somebody new; `at` another gateway than the page's own."""
    name = f"p{uuid.uuid4().hex[:12]}"
    assert await users.create(connection, COMMAND_LINE, name, role, HASH)
    await page.goto(f"{at}{LOGIN_PATH}?next={path}")
    await page.get_by_label("Name").fill(name)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Log in").click()
    await page.wait_for_url(lambda url: LOGIN_PATH not in url)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    if _CHROMIUM is None:
        pytest.fail("the dashboard is tried in a browser: put chromium on the PATH, as by `apt-get install chromium`")
    expect.set_options(timeout=_PATIENCE_MS)
    async with async_playwright() as playwright:
        # Tests may run as root, where its sandbox cannot.
        browser = await playwright.chromium.launch(executable_path=_CHROMIUM, args=["--no-sandbox"])
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="session")
async def open_page(browser: Browser, stand: Stand, hand: Hand) -> AsyncIterator[Open]:
    """Somebody of a role, logged in, on a page; what their browser complained of fails the test."""
    complaints: list[str] = []

    async def new_page(width: int, scheme: str, *, script: bool) -> Page:
        context = await browser.new_context(
            java_script_enabled=script,
            base_url=f"http://127.0.0.1:{stand.client.port}",
            viewport={"width": width, "height": 900},
            locale="en-GB",
            timezone_id="Africa/Accra",
            color_scheme="dark" if scheme == "dark" else "light",
        )
        page = await context.new_page()
        page.set_default_timeout(_PATIENCE_MS)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.append(said.text) if "Content Security" in said.text else None)
        return page

    async def opened(
        path: str, role: Role = Role.OPERATOR, *, width: int = 1280, scheme: str = "light", script: bool = True
    ) -> Page:
        page = await new_page(width, scheme, script=script)
        await log_in(page, hand.connection, role, path)
        return page

    yield opened
    for context in browser.contexts:
        await context.close()
    assert complaints == []
