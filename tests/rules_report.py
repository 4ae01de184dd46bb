"""Holds a whole run of the tests to tests/rules.md: every rule there names tests, and each of them ran and passed."""

import re
from collections import defaultdict
from pathlib import Path
from typing import Final

import pytest

RULES: Final = Path(__file__).with_name("rules.md")
NOT_RUN: Final = "not run:"
"""How the reason of a skip begins that says what this machine lacks."""

_ROW = re.compile(r"^\| ([A-Z]+[0-9]+) \| (.+) \| (.*) \|$", re.MULTILINE)
_ID = re.compile(r"`(tests/[^`]+::[^`]+)`")


def read_rules(text: str) -> dict[str, tuple[str, ...]]:
    """Each rule's number, and the tests that show it. ValueError for a number that stands twice."""
    rules: dict[str, tuple[str, ...]] = {}
    for number, _, tests in _ROW.findall(text):
        if number in rules:
            raise ValueError(f"rules.md: {number} stands twice")
        rules[number] = tuple(_ID.findall(tests))
    return rules


def of_function(test: str) -> str:
    """Without the parameters."""
    return test.partition("[")[0]


def unshown(
    rules: dict[str, tuple[str, ...]], passed: set[str], failed: set[str], absent: set[str]
) -> tuple[list[str], list[str]]:
    """What keeps the rules from being shown, a line each; and those that this machine could not try, likewise.

    A function shows a rule when some of its cases passed and none failed; `absent` are those that were not run for want
    of something.
    """
    passed = passed | {of_function(test) for test in passed}
    failed = failed | {of_function(test) for test in failed}
    absent = absent | {of_function(test) for test in absent}
    faults, untried = [], []
    for number, tests in rules.items():
        if not tests:
            faults.append(f"{number}: no test shows it")
        for test in tests:
            if test in failed:
                faults.append(f"{number}: {test} failed")
            elif test in passed:
                continue
            elif test in absent:
                untried.append(f"{number}: {test}")
            else:
                faults.append(f"{number}: {test} did not run")
    return faults, untried


class RulesReport:
    """A pytest plugin. Where only some of the tests are asked for, it has nothing to say about rules."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._passed: set[str] = set()
        self._failed: set[str] = set()
        self._absent: defaultdict[str, set[str]] = defaultdict(set)
        self._faults: list[str] = []
        self._untried: list[str] = []
        self._rules: dict[str, tuple[str, ...]] = {}

    @property
    def _whole(self) -> bool:
        option = self._config.option
        names = ("keyword", "markexpr", "deselect", "ignore", "ignore_glob", "lf")
        chosen = [getattr(option, name, None) for name in names]
        by_path = self._config.args_source is pytest.Config.ArgsSource.ARGS
        return not by_path and not any(chosen) and not option.collectonly

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._failed.add(report.nodeid)
        elif report.skipped and isinstance(report.longrepr, tuple):
            reason = report.longrepr[2].removeprefix("Skipped: ")
            if reason.startswith(NOT_RUN):
                self._absent[reason].add(report.nodeid)
        elif report.passed and report.when == "call":
            self._passed.add(report.nodeid)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if not self._whole:
            return
        self._rules = read_rules(RULES.read_text())
        absent = {test for tests in self._absent.values() for test in tests}
        self._faults, self._untried = unshown(self._rules, self._passed, self._failed, absent)
        if self._faults and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for reason, tests in sorted(self._absent.items()):
            terminalreporter.write_line(f"{reason}: {len(tests)} tests", yellow=True)
        if self._rules:
            shown = len(self._rules) - len({line.partition(":")[0] for line in self._faults + self._untried})
            terminalreporter.section("rules (tests/rules.md)", sep="-")
            terminalreporter.write_line(f"{shown} of {len(self._rules)} rules are shown by tests that ran and passed")
            for line in self._untried:
                terminalreporter.write_line(f"not tried here: {line}", yellow=True)
            for line in self._faults:
                terminalreporter.write_line(line, red=True)
