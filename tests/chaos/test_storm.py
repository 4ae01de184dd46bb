"""Two minutes of the storm, of a seed of its own each time. `make chaos` is for longer ones."""

import asyncio
import random
from pathlib import Path

import pytest

from tests.chaos.storm import run

BLOWS_S = 90.0
ORDERS_PER_S = 80.0


@pytest.mark.survival
@pytest.mark.flaky(reruns=0)  # whatever it finds has been found
@pytest.mark.timeout(400)
def test_nothing_is_lost_and_nothing_is_doubled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seed = random.SystemRandom().randrange(2**31)
    outcome = asyncio.run(run(tmp_path / "storm", seed, BLOWS_S, ORDERS_PER_S))
    with capsys.disabled():
        print(f"\n{outcome.report}")  # noqa: T201 - every run says what it did, and its seed
    assert outcome.sound, f"{outcome}\nkept in {tmp_path / 'storm'}"
    assert outcome.report.missed == []
