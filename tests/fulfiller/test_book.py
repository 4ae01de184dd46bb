"""What a shard keeps of its orders, and for how long."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import hypothesis.strategies as st
import pytest
from hypothesis import given

from schemas.bundle import NETWORKS
from services.fulfiller.book import Book
from services.fulfiller.order import ENDS, FORGETTABLE, Order, State, dump_order, load_order
from tests.fulfiller.lives import SITUATIONS, Life

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def ended(number: int, at: datetime, state: State = State.DELIVERED) -> Order:
    return Order(
        order_id=str(UUID(int=number)),
        phone_number="+233244123456",
        size_mb=1000,
        network="AT-iShare",
        state=state,
        sequence=3,
        attempts=1,
        ended_at=at,
    )


TIMES = st.integers(0, 4 * 10**12).map(lambda ms: datetime.fromtimestamp(ms / 1000, UTC))
PACKED = st.builds(
    Order,
    order_id=st.uuids().map(str),
    state=st.sampled_from(sorted(FORGETTABLE)),
    sequence=st.integers(1, 2**31),
    size_mb=st.integers(1, 100_000_000),
    phone_number=st.from_regex(r"\+233[1-9][0-9]{8}", fullmatch=True),
    network=st.sampled_from(NETWORKS),
    attempts=st.integers(0, 255),
    ended_at=TIMES,
)


@given(PACKED)
def test_what_is_packed_is_unpacked(order: Order) -> None:
    book = Book()
    book.put(order)
    assert book.get(order.order_id) == order
    assert load_order(dump_order(order)) == order


@pytest.mark.parametrize("state", [state for state in SITUATIONS if state != "no order"])
def test_each_state_is_kept_where_it_belongs(state: str) -> None:
    for way in SITUATIONS[state]:
        order = way().known
        book = Book()
        book.put(order)
        counts = book.counts()
        assert counts["open"] == (order.state not in ENDS)
        assert counts["held"] == (order.state is State.HELD)
        assert counts["remembered"] == (order.state in ENDS)
        assert list(book.open_orders()) == ([] if order.state in ENDS else [order])


def test_an_order_is_in_one_place_whatever_becomes_of_it() -> None:
    book = Book()
    life = Life().created()
    for step in (Life.failing, Life.failing, Life.refused):
        step(life)
        book.put(life.known)
        assert book.counts()["open"] + book.counts()["remembered"] == 1
    assert book.get(life.known.order_id) == life.known
    assert book.get(str(UUID(int=7))) is None


@given(st.lists(st.tuples(st.integers(0, 100), st.sampled_from(sorted(ENDS))), max_size=30), st.integers(0, 100))
def test_what_ended_before_is_forgotten_but_failures(ends: list[tuple[int, State]], before_s: int) -> None:
    book = Book()
    for number, (at_s, state) in enumerate(ends):
        book.put(ended(number, NOW + timedelta(seconds=at_s), state))
    book.sort_endings()
    forgotten = book.forget(NOW + timedelta(seconds=before_s), 1000)
    expected = {number for number, (at_s, state) in enumerate(ends) if at_s < before_s and state is not State.FAILED}
    assert {UUID(order_id).int for order_id in forgotten} == expected
    assert book.counts()["remembered"] == len(ends) - len(expected)
    assert all(book.get(order_id) is None for order_id in forgotten)


def test_forgetting_is_done_a_bounded_part_at_a_time() -> None:
    book = Book()
    for number in range(10):
        book.put(ended(number, NOW + timedelta(seconds=number)))
    assert [UUID(one).int for one in book.forget(NOW + timedelta(hours=1), 4)] == [0, 1, 2, 3]
    assert len(book.forget(NOW + timedelta(hours=1), 100)) == 6


@given(st.lists(st.integers(0, 100), max_size=20), st.data())
def test_a_late_command_keeps_no_other_order_in_mind(ends_s: list[int], data: st.DataObject) -> None:
    book = Book()
    for number, at_s in enumerate(sorted(ends_s)):
        book.put(ended(number, NOW + timedelta(seconds=at_s)))
    moved = data.draw(st.lists(st.sampled_from(range(len(ends_s))), unique=True)) if ends_s else []
    for later, number in enumerate(moved):
        book.put(ended(number, NOW + timedelta(seconds=200 + later)))
    forgotten = book.forget(NOW + timedelta(seconds=150), 1000)
    assert {UUID(order_id).int for order_id in forgotten} == set(range(len(ends_s))) - set(moved)
    assert len(book.forget(NOW + timedelta(seconds=1000), 1000)) == len(moved)


def test_a_late_command_keeps_an_order_in_mind() -> None:
    book = Book()
    book.put(ended(1, NOW))
    book.put(ended(1, NOW + timedelta(hours=2)))
    assert book.forget(NOW + timedelta(hours=1), 10) == []
    assert book.forget(NOW + timedelta(hours=3), 10) == [str(UUID(int=1))]
    assert book.forget(NOW + timedelta(hours=3), 10) == []
