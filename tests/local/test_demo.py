"""`make demo` as a person sees it: a dashboard with orders of every kind, within a minute."""

import os
import re
from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from services.local.demo import KINDS, SEED, USER, purchases
from services.local.machine import NAMES
from services.sandbox.faults import FAULTS
from tests.gateway.dashboard.conftest import browser
from tests.local.test_local import ANY_PORTS, refused
from tests.processes import Processes
from tests.waiting import until

__all__ = ["browser"]

_PATIENCE_MS = 60_000
_EXPECTED = (
    "Delivered", "Waiting for the next attempt", "In doubt", "Held", "Failed", "BUSY", "NO_SUCH_SUBSCRIBER", "BARRED"
)  # fmt: skip
_DEMO = re.search(r"^demo:.*\n\t@(.*) \\\n", Path("Makefile").read_text(), re.MULTILINE)


@pytest.fixture
def settings() -> dict[str, str]:
    """Those that `make demo` gives, with ports of its own."""
    assert _DEMO, "make demo says its settings"
    given = dict(re.findall(r"(\w+)=\$\$\{\1:-([^}]+)\}", _DEMO[1]))
    assert given.keys() == {"DEMO_ORDERS_PER_S", "RETRY_DELAYS", "VERIFY_DELAYS"}
    return {**ANY_PORTS, **given, "PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1"}


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.timeout(300)
async def test_a_demonstration_fills_the_dashboard_within_a_minute_and_goes_on(
    tmp_path: Path, settings: dict[str, str], browser: Browser
) -> None:
    with Processes(tmp_path / "logs") as processes:
        local = processes.start(["services.local", "--data", str(tmp_path / ".data")], settings)
        await until(lambda: "\nready\n" in local.log or local.exit_code is not None, "services.local to be ready", 150)
        said = re.search(rf"shows demonstration orders to {USER}, password (\S+)", local.log)
        assert said, local.log
        address = re.search(r"^ *dashboard +(\S+)$", local.log, re.MULTILINE)
        assert address
        page = await (await browser.new_context()).new_page()
        page.set_default_timeout(_PATIENCE_MS)
        await page.goto(address[1])
        await page.get_by_label("Name").fill(USER)
        await page.get_by_label("Password").fill(said[1])
        await page.get_by_role("button", name="Log in").click()
        await until(partial(_seen, page, set(_EXPECTED)), "something of every kind", 180)
        await expect(page.locator("#fresh")).to_contain_text("new")
        await page.context.close()
        await local.stop()


async def _seen(page: Page, missing: set[str]) -> bool:
    """Some of it is there for seconds alone: what was seen once is not `missing` any more."""
    await page.reload()
    shown = await page.locator("#list tbody").inner_text()
    missing -= {text for text in missing if text in shown}
    return not missing


def draws(seed: int) -> Iterator[tuple[str, ...]]:
    return (tuple(map(str, one.values())) for one in purchases(seed))


def test_the_same_seed_demonstrates_the_same_orders() -> None:
    assert [*islice(draws(SEED), 200)] == [*islice(draws(SEED), 200)] != [*islice(draws(SEED + 1), 200)]


def test_all_that_goes_wrong_is_a_fault_of_the_sandbox() -> None:
    known = {fault.number for fault in FAULTS.values()}
    assert {kind.fault for kind in KINDS.values()} - {None} <= known
    met = Counter(
        re.sub(r"^\+23355500(\d\d)..$", r"\1", one["phoneNumber"])[:2] for one in islice(purchases(SEED), 1000)
    )
    assert met.keys() >= {f"{kind.fault:02}" for kind in KINDS.values() if kind.fault}
    assert 0.6 < met["+2"] / 1000 < 0.8


@pytest.mark.parametrize("setting", ["AT_ISHARE_API_URL", "DATABASE_URL"])
def test_nothing_is_demonstrated_with_what_is_somebodys_own(tmp_path: Path, setting: str) -> None:
    elsewhere = {"AT_ISHARE_API_URL": "http://127.0.0.1:1/v1", "DATABASE_URL": "postgresql://me@127.0.0.1:1/mine"}
    code, output = refused(tmp_path, ",".join(NAMES), DEMO_ORDERS_PER_S="1", **{setting: elsewhere[setting]})
    assert code == 1
    assert "DEMO_ORDERS_PER_S: orders are demonstrated where" in output
