"""Delayed topics and the agenda: what is due comes at its time, never before."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import hypothesis.strategies as st
from hypothesis import given

from schemas.cloudevents import json_value
from schemas.fulfillment import Act, DelayedAct, Next
from schemas.fulfillment import delayed as delayed_act
from schemas.poison import PoisonError
from services.fulfiller.agenda import OVERDUE, Agenda, Entry
from services.fulfiller.delayed import HIGH, LOW, DelayedTopics
from services.fulfiller.log import Source
from services.fulfiller.order import Order, State
from tests.fulfiller.stage import virtual
from tests.memory_log import MemoryLog, MemoryRecord

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
TOPIC = "fulfillment.retry.5m"
SOURCE = Source(TOPIC, 0)


class Pauses:
    """A reader as far as delayed topics know one."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def pause(self, _source: Source) -> None:
        self.said.append("pause")

    def resume(self, _source: Source) -> None:
        self.said.append("resume")


def delayed(offset: int, due_at: datetime) -> MemoryRecord:
    act = DelayedAct(order_id=str(UUID(int=offset)), act=Act.ATTEMPT, schedule_id=1, due_at=due_at)
    return MemoryRecord(offset, 0, None, json_value(act))


def order(number: int, schedule_id: int = 1, next_at: datetime | None = None) -> Order:
    return Order(
        order_id=str(UUID(int=number)),
        phone_number="+233244123456",
        size_mb=1000,
        network="AT-iShare",
        state=State.WAITING,
        sequence=schedule_id,
        schedule_id=schedule_id,
        next_at=next_at,
    )


@given(st.lists(st.integers(0, 600), min_size=1, max_size=50).map(sorted), st.integers(0, 600), st.integers(1, 60))
def test_the_heads_that_are_due_and_no_others(due_s: list[int], now_s: int, at_most: int) -> None:
    topics = DelayedTopics(Pauses())  # type: ignore[arg-type] # no more of a reader is used
    topics.extend(SOURCE, [delayed(number, NOW + timedelta(seconds=at)) for number, at in enumerate(due_s)])
    now = NOW + timedelta(seconds=now_s)
    taken = topics.due(now, at_most)
    assert [record.offset for _, record, _ in taken] == list(range(min(sum(at <= now_s for at in due_s), at_most)))
    rest = due_s[len(taken) :]
    assert topics.next_due() == (NOW + timedelta(seconds=rest[0]) if rest else None)
    assert topics.held(SOURCE) == len(rest)


def test_what_cannot_be_read_is_due_at_once_but_in_its_turn() -> None:
    topics = DelayedTopics(Pauses())  # type: ignore[arg-type] # as above
    topics.extend(SOURCE, [delayed(0, NOW), MemoryRecord(1, 0, None, b"?"), MemoryRecord(2, 0, None, None)])
    assert [record.offset for _, record, _ in topics.due(NOW - timedelta(seconds=1), 10)] == []
    taken = topics.due(NOW, 10)
    assert [isinstance(act, PoisonError) for _, _, act in taken] == [False, True, True]


def test_a_topic_is_read_no_further_than_is_held() -> None:
    reader = Pauses()
    topics = DelayedTopics(reader)  # type: ignore[arg-type] # as above
    topics.extend(SOURCE, [delayed(number, NOW) for number in range(HIGH)])
    assert reader.said == ["pause"]
    topics.due(NOW, HIGH - LOW)
    assert reader.said == ["pause"]
    topics.due(NOW, 1)
    assert reader.said == ["pause", "resume"]


@given(st.lists(st.tuples(st.integers(0, 100), st.booleans()), max_size=40), st.integers(0, 150))
def test_the_agenda_brings_each_entry_once_at_its_time(entries: list[tuple[int, bool]], now_s: int) -> None:
    agenda = Agenda()
    for number, (at_s, is_carried) in enumerate(entries):
        (agenda.carried if is_carried else agenda.at)(NOW + timedelta(seconds=at_s), order(number))
    times = {number: at_s + OVERDUE.total_seconds() * carried for number, (at_s, carried) in enumerate(entries)}
    first = agenda.due(NOW + timedelta(seconds=now_s))
    assert {UUID(entry.order_id).int for entry in first} == {number for number, at in times.items() if at <= now_s}
    assert [entry.at_s for entry in first] == sorted(entry.at_s for entry in first)
    later = agenda.due(NOW + timedelta(days=1))
    assert len(first) + len(later) == len(entries)
    assert agenda.next_s() is None


def test_an_agenda_that_is_filled_at_once_is_in_order_too() -> None:
    agenda = Agenda()
    agenda.at(NOW + timedelta(seconds=5), order(0))
    agenda.fill([order(1, next_at=NOW + timedelta(seconds=9)), order(2, next_at=NOW), order(3)])
    assert agenda.next_s() == NOW.timestamp()
    assert [UUID(entry.order_id).int for entry in agenda.due(NOW + timedelta(minutes=1))] == [2, 0, 1]


def test_an_entry_says_which_plan_it_is_of_and_whether_a_topic_should_have_brought_it() -> None:
    agenda, now_s = Agenda(), NOW.timestamp()
    agenda.at(NOW, order(0, schedule_id=7))
    agenda.carried(NOW, order(1, schedule_id=8))
    agenda.fill([order(2, schedule_id=9, next_at=NOW + timedelta(seconds=1))])
    ids = [order(number).order_id for number in range(3)]
    assert agenda.due(NOW + timedelta(minutes=1)) == [
        Entry(now_s, ids[0], 7, carried=False),
        Entry(now_s + 1, ids[2], 9, carried=False),
        Entry(now_s + 30, ids[1], 8, carried=True),
    ]


def test_a_delayed_act_is_of_its_plan() -> None:
    plan = Next(act=Act.ATTEMPT, at=NOW, schedule_id=4)
    assert delayed_act("one", plan) == DelayedAct(order_id="one", act=Act.ATTEMPT, schedule_id=4, due_at=NOW)


@virtual
async def test_a_log_in_memory_counts_markers_and_hides_what_is_open() -> None:
    """The tests' own log keeps Kafka's promises where shards rest on them."""
    from services.fulfiller.log import FencedError, LogError, Outgoing
    from tests.memory_log import Fate

    log = MemoryLog(1, [TOPIC], lambda: 0.0)
    writer, reader = await log.open_writer(0), await log.open_reader()
    reader.assign({SOURCE: 0})
    await writer.commit([Outgoing(TOPIC, 0, b"k", b"1"), Outgoing(TOPIC, 0, b"k", b"2")])
    assert [record.offset for record in (await reader.poll(0))[SOURCE]] == [0, 1]
    assert await reader.position(SOURCE) == 3, "a marker is an offset"
    log.fates += [Fate.ABORTED, Fate.UNKNOWN, Fate.HANGING]
    for _ in range(3):
        try:
            await writer.commit([Outgoing(TOPIC, 0, b"k", b"3")])
        except LogError:
            continue
    assert [record.value for record in log.records(TOPIC)] == [b"1", b"2", b"3"], "written, though it was not said"
    log.append(TOPIC, 0, None, b"4")
    assert log.records(TOPIC)[-1].value == b"3", "an open transaction hides what is behind it"
    assert reader.hidden(SOURCE) == 2
    successor = await log.open_writer(0)
    assert log.records(TOPIC)[-1].value == b"4"
    try:
        await writer.commit([Outgoing(TOPIC, 0, b"k", b"5")])
    except FencedError:
        await successor.commit([Outgoing(TOPIC, 0, b"k", b"6")])
    assert [record.value for record in log.records(TOPIC)] == [b"1", b"2", b"3", b"4", b"6"]
