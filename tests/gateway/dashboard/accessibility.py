"""What axe finds on a page: https://github.com/dequelabs/axe-core, as npm has it."""

from pathlib import Path
from typing import Any, Final

from playwright.async_api import Page

FOLDER: Final = Path(__file__).with_name("axe")
_SCRIPT: Final = (FOLDER / "axe.min.js").read_text()
_RUN: Final = "axe.run(document, {rules: {'target-size': {enabled: true}}})"
"""Whatever it knows, and what WCAG 2.2 asks for beside."""


async def violations(page: Page) -> list[Any]:
    """Rule and places of each; of a page that rests, for what fades has other colours meanwhile."""
    await page.wait_for_function("() => document.getAnimations().every((one) => one.playState !== 'running')")
    # As the browser's own tools do: the page's policy lets no other script in.
    if not await page.evaluate("'axe' in window"):
        await page.evaluate(_SCRIPT)
    found = await page.evaluate(_RUN)
    return [(one["id"], [node["html"][:200] for node in one["nodes"]]) for one in found["violations"]]
