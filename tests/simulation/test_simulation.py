"""Fresh histories in every run, and the same one from the same seed."""

import os
import re
import subprocess
import sys
from typing import Final

import pytest

from tests.simulation.planted import PLANTED

FRESH: Final = 2000
FOUND_WITHIN: Final = 200
BASE: Final = 1


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.simulation", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONHASHSEED": "0"}
    )


@pytest.mark.timeout(900)
@pytest.mark.flaky(reruns=0)  # whatever it finds has been found
def test_fresh_seeds_and_those_that_failed_once(capsys: pytest.CaptureFixture[str]) -> None:
    done = run("--seeds", str(FRESH), "--regressions")
    with capsys.disabled():
        print(f"\n{done.stdout}")  # noqa: T201 - the base, and how much was tried
    assert done.returncode == 0, done.stdout + done.stderr
    tried = re.search(r"^(\d+) histories, ", done.stdout, re.MULTILINE)
    assert tried is not None
    assert int(tried[1]) >= FRESH


def test_a_seed_replays_exactly() -> None:
    traces = {re.search(r"trace \w+, \d+ steps", run("--seed", "77").stdout)[0] for _ in range(2)}
    assert len(traces) == 1


@pytest.mark.timeout(400)
def test_planted_bugs_are_found() -> None:
    done = run("--seeds", str(FOUND_WITHIN), "--base", str(BASE), "--planted", *PLANTED)
    assert done.returncode == 1, done.stdout + done.stderr
    told = re.findall(r"^\w+: seed \d+\n +(I\d+) ", done.stdout, re.MULTILINE)
    assert len(told) == len(PLANTED), f"an invariant tells of each, not a crash: {done.stdout}"
