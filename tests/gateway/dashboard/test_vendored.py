"""What is of others is what they published, and its licence is beside it."""

import hashlib
import json
from pathlib import Path

import pytest

from services.gateway.dashboard import rendering
from tests.gateway.dashboard.accessibility import FOLDER

STATIC = Path(rendering.__file__).with_name("static")
OUR_OWN = {"charts.js", "dashboard.css", "dashboard.js", "noscript.css"}


@pytest.mark.parametrize(("folder", "own"), [(STATIC, OUR_OWN), (FOLDER, set())], ids=["pages", "axe"])
def test_what_is_vendored_is_what_was_taken(folder: Path, own: set[str]) -> None:
    vendored = json.loads((folder / "vendored.json").read_text())
    known = {name: sha256 for one in vendored for name, sha256 in one["sha256"].items()}
    for name, sha256 in known.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == sha256, name
    assert {path.name for path in folder.iterdir()} == {*known, *own, "vendored.json"}
    for one in vendored:
        assert one["version"]
        assert one["licence"]
        assert one["source"].startswith(f"npm: {one['name']}, ")
        assert any("LICENSE" in name for name in one["sha256"])
