"""`python -m tests.mutants.mutation DIRECTORY [MUTANT…]`: mutmut changes the pure modules in a copy, a thing at a time.

The pure tests are to notice. Tells how many they notice, and each that they do not.
"""

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Final

from tests.mutants.trial import ROOT, SOURCES

LEAST: Final = 0.9
PURE: Final = (
    *(
        f"services/fulfiller/{name}.py"
        for name in ("fulfillment", "order", "events", "evolution", "retry", "outage", "pacing", "agenda", "positions")
    ),
    *("services/projector/projection.py", "services/projector/batch.py"),
    *(
        f"schemas/{name}.py"
        for name in ("admission", "bundle", "cloudevents", "commands", "compatibility", "fulfillment", "ids")
    ),
    *(f"schemas/{name}.py" for name in ("orders", "poison", "strict_json", "topics")),
)
TESTS: Final = (
    *(f"tests/schemas/test_{name}.py" for name in ("admission", "bundle", "cloudevents", "compatibility")),
    *(f"tests/schemas/test_{name}.py" for name in ("ids", "poison", "strict_json")),
    *(f"tests/fulfiller/test_{name}.py" for name in ("fulfillment", "order", "order_life", "retry", "delayed")),
    *(f"tests/fulfiller/test_{name}.py" for name in ("book", "events", "outage", "pacing")),
    *("tests/projector/test_batch.py", "tests/projector/test_projection.py"),
    "tests/rules/test_topics.py",
)
OPTIONS: Final = ("-p", "no:cacheprovider", "--hypothesis-seed=0", "-o", "addopts=", "-x")
_SURVIVED: Final = frozenset({0, 5, 33})
"""mutmut's codes: the tests passed, or no test comes by."""


def prepare(copy: Path) -> None:
    """The sources, and what mutmut is to do with them."""
    for source in (*SOURCES, "docs", "README.md"):
        path = ROOT / source
        if path.is_dir():
            shutil.copytree(path, copy / source, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
        else:
            shutil.copy(path, copy / source)
    settings = {
        "source_paths": ["schemas", "services"],
        "only_mutate": PURE,
        "also_copy": ["docs", "migrations", "docker-compose.yml", "requirements.txt", "README.md"],
        "pytest_add_cli_args": OPTIONS,
        "pytest_add_cli_args_test_selection": TESTS,
    }
    lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items())
    project = copy / "pyproject.toml"
    project.write_text(f"{project.read_text()}\n[tool.mutmut]\nuse_git_change_detection = false\n{lines}")


def judge(copy: Path) -> int:
    """1 where too many went unnoticed."""
    noticed: Counter[bool] = Counter()
    for report in sorted((copy / "mutants").rglob("*.meta")):
        codes = json.loads(report.read_text())["exit_code_by_key"]
        counted = Counter(code not in _SURVIVED for code in codes.values() if code is not None)
        unnoticed = [name for name, code in codes.items() if code in _SURVIVED]
        if counted:
            print(f"{report.relative_to(copy / 'mutants').with_suffix('')}: {counted[True]} of {counted.total()}")
            print("".join(f"    {name}\n" for name in unnoticed), end="")
        noticed += counted
    if not noticed:
        print("mutmut made no mutant")
        return 1
    score = noticed[True] / noticed.total()
    print(f"{noticed[True]} of {noticed.total()} mutants are noticed: {score:.1%}; {LEAST:.0%} is the least")
    return 0 if score >= LEAST else 1


def main() -> int:
    copy = Path(sys.argv[1])
    if not (copy / "pyproject.toml").exists():
        copy.mkdir(parents=True, exist_ok=True)
        prepare(copy)
    subprocess.run([sys.executable, "-m", "mutmut", "run", *sys.argv[2:]], cwd=copy, check=False)
    return judge(copy)


if __name__ == "__main__":
    sys.exit(main())
