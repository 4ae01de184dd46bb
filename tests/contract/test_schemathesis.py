"""schemathesis, with every check on, in every state of authentication: nothing is 5xx, everything is as documented."""

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from services.gateway.access import Role
from tests.contract.conftest import STRANGER, Figures, System
from tests.gateway.access.conftest import COOKIE

LONG: Final = "CONTRACT_EXAMPLES" in os.environ
EXAMPLES: Final = os.environ.get("CONTRACT_EXAMPLES", "2")
"""How many cases are made for each call in each state, beside those that cover its document."""
SEED: Final = () if LONG else ("--seed", "1")
"""In CI the same cases for everybody; in a long run new ones, whose seed a failure names."""

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(3600 if LONG else 900)]

CONFIG: Final = Path(__file__).with_name("schemathesis.toml")
# A stream of events never ends; tests/gateway/reads holds it to its own rules. A logout would end the session.
_ELSEWHERE: Final = "/(stream|logout)$"
_ALL: Final = "examples,coverage,fuzzing,stateful"
_SHORT: Final = {"a key of an admin": "fuzzing,stateful"}
"""What CI has time for; of a state that is not named fuzzing."""
_LONG_ALONE: Final = "a session of somebody who was shut out"


async def ran(url: str, document: Path, headers: Mapping[str, str], phases: str, report: Path) -> dict[str, Any]:
    """Its report. AssertionError with what it says where a check failed."""
    process = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("schemathesis"),
        *("--config-file", str(CONFIG), "run", str(document), "--url", url, "--no-color", "--checks", "all"),
        *("--phases", phases, "--max-examples", EXAMPLES, *SEED),
        # More would share Python 3.11's parser, which then fails: "AST constructor recursion depth mismatch".
        *("--workers", "1"),
        *("--exclude-path-regex", _ELSEWHERE, "--warnings", "off", "--continue-on-failure", "--request-timeout", "60"),
        *("--report", "json", "--report-json-path", str(report)),
        *(part for name, value in headers.items() for part in ("--header", f"{name}: {value}")),
        # A caller on this machine needs no key for some calls, which the document, made for everybody, does not say.
        *(() if headers else ("--exclude-checks", "ignored_auth")),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=report.parent,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()[-8000:]
    return dict(json.loads(await asyncio.to_thread(report.read_text)))


def states(system: System) -> dict[str, Mapping[str, str]]:
    """The headers that put a caller into each."""
    keys = {f"a key of {'an' if role[0] in 'ao' else 'a'} {role}": system.keys[role] for role in Role}
    keys["a key that nobody has"] = "nobody0000000000." + "x" * 43
    return {
        "on this machine": {},
        "no key": STRANGER,
        **{state: STRANGER | {"Authorization": f"Bearer {key}"} for state, key in keys.items()},
        **system.over,
        "a session of an admin": system.logged_in.headers,
    }


async def test_schemathesis_finds_nothing(system: System, figures: Figures, tmp_path: Path) -> None:
    tried: Counter[str] = Counter()
    document = tmp_path / "openapi.json"
    async with system.session.get(f"{system.url}/openapi.json") as response:
        said = await response.text()
    # It names the cookie as it is everywhere but in development.
    await asyncio.to_thread(document.write_text, said.replace(f"__Host-{COOKIE}", COOKIE))

    async def one(number: int, state: str, headers: Mapping[str, str]) -> None:
        phases = _ALL if LONG else _SHORT.get(state, "fuzzing")
        report = await ran(system.url, document, headers, phases, tmp_path / f"{number}.json")
        tried[state] = report["test_cases"]["generated"]
        assert report["operations"]["errored"] == 0

    # All at once: most of the time goes by in waiting for orders that are not there.
    async with asyncio.TaskGroup() as group:
        for number, (state, headers) in enumerate(states(system).items()):
            if state == _LONG_ALONE and not LONG:
                continue
            group.create_task(one(number, state, headers))
    figures.lines.append(f"{tried.total()} cases of schemathesis, no check failed: {dict(tried)}")
