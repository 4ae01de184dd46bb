"""What holds of the project's own text: layers, locks, words that do not belong."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from services.local.jars import locked
from tests.processes import ROOT

_TEXT = {".py", ".md", ".toml", ".yml", ".yaml", ".sql", ".txt", ".sh", ".json", ".xml", ""}
# Put together here, so that this file holds none of them.
_STRANGE = re.compile(
    "|".join(["/wo" + r"rk/\w", "/ro" + "ot/", r"\.\./sha" + "red", "TO" + "DO", "FIX" + "ME", "XX" + "X:"])
)


def _files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not run: not a git work tree")
    return [ROOT / name for name in listed.stdout.splitlines()]


def test_no_service_imports_another_and_the_cores_are_pure() -> None:
    linted = subprocess.run(
        [Path(sys.executable).with_name("lint-imports")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert linted.returncode == 0, linted.stdout


def test_nothing_is_left_for_later_and_no_path_is_this_machines() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in _files()
        if path.suffix in _TEXT and path.is_file()
        for match in _STRANGE.finditer(path.read_text(errors="replace"))
    ]
    assert found == []


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt", "tests/vulnerabilities/requirements.txt"])
def test_requirements_are_locked_by_hash_and_name_packages_only(name: str) -> None:
    lines = [
        line for line in (ROOT / name).read_text().splitlines() if line.strip() and not line.lstrip().startswith("#")
    ]
    packages = [line for line in lines if not line.startswith(" ")]
    assert [line for line in packages if not re.match(r"[a-z0-9-]+(\[[a-z0-9,-]+\])?==\S+", line)] == []
    assert [line for line in lines if line.startswith(" ") and not line.strip().startswith("--hash=sha256:")] == []
    assert len([line for line in lines if "--hash=sha256:" in line]) >= len(packages)
    assert not re.search(r"https?://", "\n".join(lines))


def test_the_brokers_jars_are_locked_by_hash() -> None:
    jars = locked()
    assert all(re.fullmatch(r"[0-9a-f]{64}", jar.sha256) for jar in jars)
    assert {(jar.artifact, jar.version) for jar in jars} >= {("kafka_2.13", "4.4.0"), ("kafka-clients", "4.4.0")}
