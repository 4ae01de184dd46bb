"""rules.md cannot name a test that is not there, and a rule cannot go unshown unnoticed."""

import re

import pytest

from tests.processes import ROOT
from tests.rules_report import RULES, read_rules, unshown

pytest_plugins = ("pytester",)


def test_rules_name_tests_that_exist() -> None:
    missing = []
    for number, tests in read_rules(RULES.read_text()).items():
        for test in tests:
            path, *names = test.partition("[")[0].split("::")
            source = ROOT / path
            # A state machine's one test is Hypothesis's own; what is the project's is the class.
            defined = rf"def {names[-1]}\(" if names[-1] != "runTest" else rf"^{names[0]}\b"
            if not source.exists() or not re.search(defined, source.read_text(), re.MULTILINE):
                missing.append(f"{number}: {test}")
    assert missing == []


def test_a_number_stands_once() -> None:
    with pytest.raises(ValueError, match="T1 stands twice"):
        read_rules("| T1 | a | `tests/a.py::b` |\n| T1 | c | `tests/a.py::d` |\n")


@pytest.mark.parametrize(
    ("outcomes", "faults", "untried"),
    [
        ({"passed": {"tests/a.py::b[1]"}}, [], []),
        ({"passed": {"tests/a.py::b[1]"}, "failed": {"tests/a.py::b[2]"}}, ["T1: tests/a.py::b failed"], []),
        ({"failed": {"tests/a.py::b"}}, ["T1: tests/a.py::b failed"], []),
        ({"absent": {"tests/a.py::b"}}, [], ["T1: tests/a.py::b"]),
        ({}, ["T1: tests/a.py::b did not run"], []),
    ],
)
def test_a_rule_is_shown_by_tests_that_ran_and_passed(
    outcomes: dict[str, set[str]], faults: list[str], untried: list[str]
) -> None:
    rules = read_rules("| T1 | a | `tests/a.py::b` |\n")
    found = unshown(rules, *(outcomes.get(kind, set()) for kind in ("passed", "failed", "absent")))
    assert found == (faults, untried)


def test_a_rule_without_a_test_is_a_fault() -> None:
    assert unshown(read_rules("| T1 | a | |\n| T2 | b |  |\n"), set(), set(), set())[0] == ["T2: no test shows it"]


CONFTEST = """
from pathlib import Path
from tests import rules_report
rules_report.RULES = Path(__file__).with_name("rules.md")
def pytest_configure(config):
    config.pluginmanager.register(rules_report.RulesReport(config))
"""
TESTS = """
import pytest
def test_shown(): pass
def test_absent(): pytest.skip("not run: no Docker")
"""


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makeini("[pytest]\ntestpaths = tests\n")
    folder = pytester.mkdir("tests")
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_it.py").write_text(TESTS)
    return pytester


def run(project: pytest.Pytester, rules: str, *arguments: str) -> tuple[int, str]:
    (project.path / "tests" / "rules.md").write_text(rules)
    result = project.runpytest_subprocess("-p", "no:cacheprovider", *arguments)
    return int(result.ret), result.stdout.str()


def test_a_whole_run_fails_on_a_rule_that_was_not_shown(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    shown, lost = "| T1 | a | `tests/test_it.py::test_shown` |\n", "| T2 | b | `tests/test_it.py::test_lost` |\n"
    absent = "| T3 | c | `tests/test_it.py::test_absent` |\n"

    code, said = run(project, shown)
    assert (code, "1 of 1 rules are shown" in said) == (0, True)

    code, said = run(project, shown + absent)
    assert code == 0
    assert "not run: no Docker: 1 tests" in said
    assert "not tried here: T3: tests/test_it.py::test_absent" in said

    code, said = run(project, shown + lost)
    assert code == pytest.ExitCode.TESTS_FAILED
    assert "T2: tests/test_it.py::test_lost did not run" in said

    code, said = run(project, shown + lost, "-k", "shown")
    assert (code, "T2" in said) == (0, False)
    code, said = run(project, shown + lost, "tests/test_it.py")
    assert (code, "T2" in said) == (0, False)
