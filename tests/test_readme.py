"""README's commands, run as they stand against a system of their own; and its documents say what is so."""

import asyncio
import json
import os
import re
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

from services.local.machine import LocalSettings
from services.settings import Settings
from tests.processes import ROOT, Processes, environment
from tests.waiting import until

README: Final = (ROOT / "README.md").read_text()
BLOCKS: Final = dict(re.findall(r"<!-- test: ([a-z ]+) -->\n```sh\n(.*?)```", README, re.DOTALL))
STARTED_BY_THE_TEST: Final = ("make run", ".venv/bin/python -m services.local")
BLOCK_S: Final = 60.0
WORD: Final = "a horse that staples batteries"


class Shell:
    """One terminal: a block of README at a time, with the ports of the system under test."""

    def __init__(self, bash: asyncio.subprocess.Process, folder: Path, ports: dict[str, str]) -> None:
        self._bash = bash
        self._folder = folder
        self._ports = ports
        self._blocks = 0

    async def run(self, label: str, replaced: dict[str, str] | None = None) -> str:
        """What the block printed, all on its standard output."""
        block = BLOCKS[label]
        for text, by in (self._ports | (replaced or {})).items():
            assert text not in (replaced or {}) or text in block
            block = block.replace(text, by)
        self._blocks += 1
        out, err = (self._folder / f"{self._blocks}.{kind}" for kind in ("out", "err"))
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        # Files, so that what a worker in the background goes on saying stays out of the blocks that follow.
        self._bash.stdin.write(f"{{\n{block}\n}} >{out} 2>{err}; echo $?\n".encode())
        async with asyncio.timeout(BLOCK_S):
            code = int(await self._bash.stdout.readline())
        assert code == 0, f"{label}: {code}\n{out.read_text()}\n{err.read_text()}"
        return out.read_text()

    async def answer(self, label: str) -> dict[str, Any]:
        answered: dict[str, Any] = json.loads(await self.run(label))
        return answered

    async def page(self, name: str, password: str, path: str) -> str:
        """As a person sees it who has just logged in."""
        here = f"http://{self._ports['localhost:3000']}"
        jar = aiohttp.CookieJar(unsafe=True)
        async with aiohttp.ClientSession(
            here, headers={"Accept": "text/html", "Origin": here}, cookie_jar=jar
        ) as browser:
            said = {"username": name, "password": password}
            async with browser.post("/dashboard/login", params={"next": path}, data=said) as answer:
                assert answer.status == 200
                assert answer.url.path_qs == path
                return await answer.text()

    async def value(self, variable: str) -> str:
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        self._bash.stdin.write(f'echo "${variable}"\n'.encode())
        return (await self._bash.stdout.readline()).decode().strip()


@pytest.fixture
async def shell(tmp_path: Path) -> AsyncIterator[Shell]:
    """A shell in a folder that looks like the project's, beside everything but a fulfiller."""
    (tmp_path / ".venv").symlink_to(sys.prefix)
    settings = LocalSettings(port=0, kafka_port=0, postgres_port=0, sandbox_port=0, health_port=0, session_timeout_s=6)
    home = {name: os.environ[name] for name in ("HOME", "PATH") if name in os.environ} | {"HEALTH_PORT": "0"}
    given = {"PORT", "KAFKA_PORT", "POSTGRES_PORT", "SANDBOX_PORT", "SESSION_TIMEOUT_S"}
    env = home | {k: v for k, v in environment(settings).items() if k in given | {"PYTHONUNBUFFERED"}}
    with Processes(tmp_path / "logs") as processes:
        names = "kafka,postgres,sandbox,gateway,projector"
        local = processes.start(["services.local", "--only", names, "--data", str(tmp_path / ".data")], env)
        await until(lambda: "\nready\n" in local.log or local.exit_code is not None, "services.local to be ready", 60)
        assert local.exit_code is None, local.log
        said = dict(line.split("=", 1) for line in (tmp_path / ".data" / "env").read_text().splitlines())
        bash = await asyncio.create_subprocess_exec(
            "bash",
            cwd=tmp_path,
            env=env | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        try:
            yield Shell(
                bash,
                tmp_path / "logs",
                {"localhost:3000": f"localhost:{said['PORT']}", "localhost:3001": f"localhost:{said['SANDBOX_PORT']}"},
            )
        finally:
            os.killpg(bash.pid, signal.SIGKILL)
            await bash.wait()
            await local.stop()


def json_at(text: str, start: str) -> dict[str, Any]:
    """The object that begins so, among what a worker in the background says."""
    found: dict[str, Any] = json.JSONDecoder().raw_decode(text, text.index(start))[0]
    return found


def test_every_command_is_run_or_started_by_the_test() -> None:
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    unlabelled = [block for block in blocks if block not in BLOCKS.values()]
    assert [block for block in unlabelled if not block.startswith(STARTED_BY_THE_TEST)] == []


@pytest.mark.skipif(shutil.which("kcat") is None, reason="not run: no kcat")
@pytest.mark.skipif(shutil.which("curl") is None, reason="not run: no curl")
async def test_the_commands_show_what_readme_says(shell: Shell) -> None:
    unused = set(BLOCKS)

    async def run(label: str, replaced: dict[str, str] | None = None) -> str:
        unused.discard(label)
        return await shell.run(label, replaced)

    async def row_is(state: str) -> dict[str, Any]:
        rows: list[dict[str, Any]] = []

        async def is_so() -> bool:
            rows.append(json.loads(await run("status"))["fulfillment"])
            return bool(rows[-1]["state"] == state)

        await until(is_so, f"the order to be {state}", 30)
        return rows[-1]

    await run("worker")

    bought = json.loads(await run("purchase"))
    assert bought["success"] is True
    assert bought["order"]["status"] == "pending"
    first = bought["order"]["id"]
    await run("order id", {"539fe7c3-06ca-4ea7-9731-d3a9e7c22e41": first})
    row = await row_is("delivered")
    assert (row["status"], row["attempt_number"], row["api_response"]["status"]) == ("success", 1, "success")
    triggered = json.loads(await run("trigger"))
    assert triggered["fulfillment"] == {"orderId": first, "status": "success", "reference": first}

    await run("failing order")
    row = await row_is("waiting")
    assert (row["status"], row["error_code"]) == ("failed", "BUSY")
    assert row["retry_after"] is not None
    await run("settings")
    queried = await run("queries")
    assert re.search(r"total \| success \| +rate *\n[-+]+\n +2 \| +1 \| 50\.00", queried)
    assert queried.rstrip().endswith("(1 row)"), "one order needs a retry"
    # On the dashboard too, for the first person who is let in: what the sandbox did to the order, and what comes next.
    await run("first person", {"--role admin": f"--role admin <<< '{WORD}'"})
    page = await shell.page("ama", WORD, "/dashboard/admin/fulfillment?status=failed")
    assert re.search(r"Waiting for the next attempt.*BUSY.*next attempt <time.*Retry</button>", page, re.DOTALL)
    assert json.loads(await run("retry"))["fulfillment"]["status"] == "success"

    events = [json.loads(line.split(" ", 3)[3]) for line in (await run("events")).splitlines()]
    told = [(event["sequence"], event["type"]) for event in events if event["order_id"] == first]
    assert told == [(1, "FulfillmentRequested"), (2, "FulfillmentAttempted"), (3, "FulfillmentSucceeded")]
    assert set(json.loads(await run("ledger"))["deliveries"].values()) == {1}

    assert re.fullmatch(r"[0-9a-f]+\.[\w-]+\n", await run("api key"))
    await run("produce")

    async def all_delivered() -> bool:
        return len(json.loads(await run("ledger"))["deliveries"]) == 5

    await until(all_delivered, "the three orders of three modes to be delivered", 30)

    assert json.loads(await run("kill"))["held"] == 1
    assert (await row_is("attempting"))["status"] == "processing"
    printed = await run("another worker")
    answer, ledger = (json_at(printed, start) for start in ('{"success"', '{"deliveries"'))
    assert answer["fulfillment"]["status"] == "success"
    assert answer["fulfillment"]["attempt_number"] == 1
    told_of = ledger["references"][await shell.value("ORDER_ID")]
    assert (told_of["sends"], told_of["deliveries"]) == (1, 1)
    events = [json.loads(line.split(" ", 3)[3]) for line in (await run("events")).splitlines()]
    last = [event for event in events if event["order_id"] == answer["fulfillment"]["order_id"]][-1]
    assert (last["type"], last["source"]) == ("FulfillmentSucceeded", "verification")
    assert unused == set()


# --- documents --------------------------------------------------------------------------------------------------------


def test_every_setting_is_documented_with_its_default() -> None:
    text = (ROOT / "docs" / "settings.md").read_text()
    said = {
        name: default.strip(" `") for name, default in re.findall(r"^\| `([A-Z0-9_]+)` \| (.*?) \|", text, re.MULTILINE)
    }
    assert said.keys() == {name.upper() for name in LocalSettings.model_fields}
    for name, default in said.items():
        if default in {"none", "empty", "the sandbox's"}:
            continue
        field = LocalSettings.model_validate({name.lower(): default})
        plain = Settings.model_construct() if name.lower() in Settings.model_fields else LocalSettings.model_construct()
        assert getattr(field, name.lower()) == getattr(plain, name.lower()), name


def test_links_lead_somewhere() -> None:
    for document in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for target, _, anchor in (
            link.partition("#") for link in re.findall(r"\]\((?!https?:)([^)]+)\)", document.read_text())
        ):
            path = document.parent / target if target else document
            assert path.exists(), f"{document.name}: {target}"
            if anchor:
                headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
                slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
                assert anchor in slugs, f"{document.name}: {target}#{anchor}"
