"""Each planted bug that a scene shows is caught by the invariant that its patch names.

`make mutants` tries the others too: those that take a broker, a database, or a test of their own.
"""

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.checker import findings
from tests.mutants import trial
from tests.mutants.scenes import SCENES
from tests.mutants.trial import SurvivedError, catch, catch_each, planted, play, read_mutants

MUTANTS = read_mutants()
BY_SCENE = [mutant for mutant in MUTANTS.values() if mutant.is_scene]
ENOUGH = 25


@pytest.fixture(scope="module")
def caught() -> Mapping[str, str | SurvivedError]:
    return {mutant.name: told for mutant, told in catch_each(BY_SCENE)}


@pytest.mark.timeout(240)
def test_there_are_enough_of_them(caught: Mapping[str, str | SurvivedError]) -> None:
    assert len(caught) >= ENOUGH


@pytest.mark.parametrize("name", [mutant.name for mutant in BY_SCENE])
def test_a_mutant_is_caught(name: str, caught: Mapping[str, str | SurvivedError]) -> None:
    told = caught[name]
    if isinstance(told, SurvivedError):
        raise told


def test_without_a_bug_no_scene_shows_one() -> None:
    with planted(None) as copy:
        played = play(copy, *SCENES)
    assert {name: [str(finding) for finding in findings(evidence)] for name, evidence in played.items()} == {
        name: [] for name in SCENES
    }


def test_every_invariant_of_the_fulfiller_catches_one() -> None:
    seen = {mutant.caught_by.split()[0] for mutant in BY_SCENE}
    assert seen == {"I2", "I3", "I4", "I5", "I6", "I8", "I9", "I10"}, "I1 and I7 are the gateway's"


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("attempt <=", "attempt <", "is not in"),
        ("attempt <=", "attempt.nothing <=", "it crashed"),
        ("delay = timedelta", "delay = other", "does not apply"),
    ],
)
def test_a_survivor_is_told(old: str, new: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other.patch").write_text(MUTANTS["attempt_4"].patch.read_text().replace(old, new))
    monkeypatch.setattr(trial, "PATCHES", tmp_path)
    with pytest.raises(SurvivedError, match=why):
        catch(read_mutants()["other"])
