"""docs/errors.md lists every kind of error that there is, with its status and what to do about it."""

import re

from services.gateway import problem
from services.gateway.problem import HTTP_ERROR, Kind
from tests.processes import ROOT

KINDS = [kind for kind in vars(problem).values() if isinstance(kind, Kind)]
ROW = re.compile(r"^\| `(urn:fulfillment:[a-z0-9-]+)` \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)


def test_every_kind_has_its_line() -> None:
    rows = ROW.findall((ROOT / "docs" / "errors.md").read_text())
    said = [(kind.urn, "any 4xx" if kind is HTTP_ERROR else str(kind.status)) for kind in KINDS]
    assert sorted((urn, status) for urn, status, _ in rows) == sorted(said)
    assert all(advice.endswith(".") and len(advice) > 10 for _, _, advice in rows)


def test_no_kind_is_another() -> None:
    assert len({kind.urn for kind in KINDS}) == len(KINDS)


def test_nobody_makes_a_kind_elsewhere() -> None:
    makers = [
        path.name
        for path in (ROOT / "services").rglob("*.py")
        if path.name != "problem.py" and re.search(r"\bKind\(\"", path.read_text())
    ]
    assert makers == []
