"""Says of each test that failed and was tried once more what it failed with, whole: a second try hides nothing."""

import pytest


class SecondTries:
    """A pytest plugin. How many are allowed, and after which faults, is said in the Makefile."""

    def __init__(self) -> None:
        self._failed_first: list[pytest.TestReport] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if str(report.outcome) == "rerun":  # pytest-rerunfailures' own
            self._failed_first.append(report)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._failed_first:
            terminalreporter.section("failed at first, tried once more", sep="-")
        for report in self._failed_first:
            terminalreporter.write_line(f"{report.nodeid} ({report.when})", yellow=True)
            terminalreporter.write_line(report.longreprtext)
