import itertools
from collections import Counter

import pytest

from services.sandbox.faults import FAULTS
from tests.chaos.plan import POINTS, Arming, Deed, Role, acts
from tests.chaos.storm import FAULT_SHARE, SHARES
from tests.processes import ROOT

SEED = 7
ROUNDS = 80


def test_a_seed_chooses_the_plan() -> None:
    first, again, other = (list(itertools.islice(acts(seed), ROUNDS)) for seed in (SEED, SEED, SEED + 1))
    assert first == again
    assert first != other


def test_every_deed_comes() -> None:
    assert {act.deed for act in itertools.islice(acts(SEED), 2 * ROUNDS)} == set(Deed)


@pytest.mark.parametrize("role", Role)
def test_processes_die_at_every_point_of_theirs(role: Role) -> None:
    arming = Arming(SEED, role)
    drawn = Counter(point.partition(":")[0] for point in (arming.draw(frozenset()) for _ in range(ROUNDS)))
    assert drawn.keys() - {""} == POINTS[role].keys()
    assert {Arming(SEED, role).draw({point}).partition(":")[0] for point in POINTS[role]} == POINTS[role].keys()


def test_every_named_point_of_the_services_has_its_place_in_a_storm() -> None:
    sources = [path.read_text() for path in (ROOT / "services").rglob("*.py") if path.name != "crashpoints.py"]
    named = {part.split('"')[1] for text in sources for part in text.split("crashpoint(")[1:] if part.startswith('"')}
    assert named == {point for points in POINTS.values() for point in points}


def test_three_sends_in_ten_meet_a_fault_that_the_sandbox_knows() -> None:
    assert SHARES.keys() <= FAULTS.keys()
    assert sum(SHARES.values()) == pytest.approx(FAULT_SHARE)
