"""A mutant: a copy of the sources with a bug planted in it. It must be caught by what is named in its patch, and by no
mere crash.

A patch begins with a heading, a line each: `Bug:` what it does wrong; `Caught by:` an invariant of `tests.checker` and
part of what it says, or a rule of tests/rules.md; `Shown by:` a scene of `tests.mutants.scenes`, or a test.
"""

import os
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from tests.checker import findings
from tests.evidence import Evidence
from tests.rules_report import RULES, of_function, read_rules

ROOT: Final = Path(__file__).parents[2]
PATCHES: Final = Path(__file__).with_name("patches")
SOURCES: Final = (
    "schemas",
    "services",
    "tests",
    "migrations",
    "pyproject.toml",
    "requirements.txt",
    "docker-compose.yml",
)
TIMEOUT_S: Final = 300.0

_HEADING: Final = re.compile(r"^(Bug|Caught by|Shown by): (.+)$", re.MULTILINE)
_BREACH: Final = re.compile(r" - (assert |AssertionError|Failed: DID NOT RAISE|TimeoutError)")
"""How pytest tells of a test that failed: what was asserted is not so, or what was waited for never came."""


@dataclass(frozen=True, slots=True)
class Mutant:
    patch: Path
    bug: str
    caught_by: str
    shown_by: str

    @property
    def name(self) -> str:
        return self.patch.stem

    @property
    def is_scene(self) -> bool:
        return "::" not in self.shown_by


class SurvivedError(AssertionError):
    """The mutant was not caught, or not by what is to catch it."""


def read_mutants() -> dict[str, Mutant]:
    """Every mutant, by name."""
    return {patch.stem: _read(patch) for patch in sorted(PATCHES.glob("*.patch"))}


def _read(patch: Path) -> Mutant:
    heading = dict(_HEADING.findall(patch.read_text().partition("\n--- ")[0]))
    try:
        return Mutant(patch, heading["Bug"], heading["Caught by"], heading["Shown by"])
    except KeyError as missing:
        raise ValueError(f"{patch.name} has no heading {missing}") from None


@contextmanager
def planted(mutant: Mutant | None) -> Iterator[Path]:
    """A copy of the sources, with the mutant's bug in it. SurvivedError where its patch does not apply."""
    with TemporaryDirectory(prefix="mutant-") as name:
        copy = Path(name)
        for source in SOURCES:
            path = ROOT / source
            if path.is_dir():
                shutil.copytree(path, copy / source, ignore=shutil.ignore_patterns("patches"))
            else:
                shutil.copy(path, copy / source)
        if mutant is not None:
            applied = _run(copy, "git", "apply", "--unidiff-zero", str(mutant.patch))
            if applied.returncode:
                raise SurvivedError(f"{mutant.name}: the patch does not apply: {applied.stderr}")
        yield copy


def _run(copy: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "GIT_"))}
    return subprocess.run(
        command,
        cwd=copy,
        env=environment | {"PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "300"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def play(copy: Path, *scenes: str) -> dict[str, Evidence]:
    """The evidence of each scene, as the copy plays it. SurvivedError where it breaks down over it."""
    to = copy / "evidence"
    played = _run(copy, sys.executable, "-m", "tests.mutants.scenes", str(to), *scenes)
    if played.returncode:
        raise SurvivedError(f"it crashed: {played.stderr[-1500:]}")
    evidence: dict[str, Evidence] = pickle.loads(to.read_bytes())  # noqa: S301 - our own, of a moment ago
    return evidence


def catch(mutant: Mutant) -> str:
    """What catches it, in words. SurvivedError where it is not caught by what its patch names."""
    with planted(mutant) as copy:
        return _by_invariant(mutant, copy) if mutant.is_scene else _by_test(mutant, copy)


def _by_invariant(mutant: Mutant, copy: Path) -> str:
    """Judged here, by the sources as they are: a bug of the core is not to blind its judge."""
    (evidence,) = play(copy, mutant.shown_by).values()
    told = [str(finding) for finding in findings(evidence)]
    caught = [finding for finding in told if re.match(mutant.caught_by, finding)]
    if not caught:
        raise SurvivedError(f"{mutant.name}: {mutant.caught_by!r} is not in {told}")
    return caught[0]


def _by_test(mutant: Mutant, copy: Path) -> str:
    if of_function(mutant.shown_by) not in map(of_function, read_rules(RULES.read_text())[mutant.caught_by]):
        raise SurvivedError(f"{mutant.name}: rule {mutant.caught_by} does not name {mutant.shown_by}")
    ran = _run(copy, sys.executable, "-m", "pytest", "-q", "-rf", "-p", "no:cacheprovider", mutant.shown_by)
    breaches = [line for line in ran.stdout.splitlines() if line.startswith("FAILED") and _BREACH.search(line)]
    if ran.returncode != 1 or not breaches:
        raise SurvivedError(f"{mutant.name}: {mutant.shown_by} did not fail by an assertion: {ran.stdout[-1500:]}")
    return breaches[0].removeprefix("FAILED ")


def catch_each(mutants: Sequence[Mutant]) -> Iterator[tuple[Mutant, str | SurvivedError]]:
    """Each mutant and what caught it, two at a time, in their order."""

    def caught(mutant: Mutant) -> str | SurvivedError:
        try:
            return catch(mutant)
        except SurvivedError as error:
            return error
        except subprocess.TimeoutExpired:
            return SurvivedError(f"{mutant.name}: it did not end within {TIMEOUT_S:.0f} s")

    with ThreadPoolExecutor(2) as executor:
        yield from zip(mutants, executor.map(caught, mutants), strict=True)
