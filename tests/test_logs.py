import asyncio
import io
import json
import logging
import re
from datetime import UTC, datetime

import pytest
from structlog.typing import Processor

from services import logs
from services.logs import Lines, Seldom


def line(message: str, at_s: float) -> logging.LogRecord:
    record = logging.makeLogRecord({"name": "aiokafka", "msg": message})
    record.created = at_s
    return record


def test_a_library_says_the_same_once_in_ten_seconds() -> None:
    seldom = Seldom()
    passed = [at_s for at_s in range(31) if seldom.filter(line("Unable connect to node with id %s: %s", float(at_s)))]
    assert passed == [0, 10, 20, 30]


def test_lines_that_differ_are_all_said_and_few_are_remembered() -> None:
    seldom = Seldom()
    assert all(seldom.filter(line(f"line {number}", 1.0)) for number in range(5000))


class Recorder(io.StringIO):
    """Counts writes."""

    writes = 0

    def write(self, text: str) -> int:
        self.writes += 1
        return super().write(text)


def test_without_an_event_loop_each_line_is_written_at_once() -> None:
    file = Recorder()
    lines = Lines(file)
    lines.info("one")
    assert file.getvalue() == "one\n"
    lines.error("two")
    assert (file.getvalue(), file.writes) == ("one\ntwo\n", 2)


async def test_what_is_said_in_one_turn_of_the_loop_is_written_together() -> None:
    file = Recorder()
    lines = Lines(file)
    lines.info("one")
    lines.warning("two")
    assert file.writes == 0
    await asyncio.sleep(0)
    assert (file.getvalue(), file.writes) == ("one\ntwo\n", 1)
    lines.info("three")
    await asyncio.sleep(0)
    assert (file.getvalue(), file.writes) == ("one\ntwo\nthree\n", 2)


@pytest.mark.parametrize("rendered", [logs.line, logs.json_line])
def test_a_line_says_when_and_how_bad_it_is(rendered: Processor) -> None:
    before = datetime.now(UTC)
    said = str(rendered(None, "warning", {"event": "said", "order_id": "two words"}))
    if rendered is logs.json_line:
        spoken = json.loads(said)
    else:
        shape = r"(?P<timestamp>\S+) \[(?P<level>\w+)\] (?P<event>\w+) order_id='(?P<order_id>.*)'"
        spoken = re.fullmatch(shape, said)
    assert [spoken[name] for name in ("level", "event", "order_id")] == ["warning", "said", "two words"]
    assert before <= datetime.fromisoformat(spoken["timestamp"]) <= datetime.now(UTC)
