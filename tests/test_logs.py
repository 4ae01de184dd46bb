import asyncio
import io
import logging
from datetime import UTC, datetime

from services.logs import Lines, Seldom, stamp


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


def test_a_line_says_when() -> None:
    before = datetime.now(UTC)
    event = stamp(None, "info", {"event": "said"})
    said_at = datetime.fromisoformat(event["timestamp"])
    assert event["timestamp"].endswith("Z")
    assert before <= said_at <= datetime.now(UTC)
