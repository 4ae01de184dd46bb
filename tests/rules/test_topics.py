"""The topic table, and where an order is at home."""

from uuid import UUID

import pytest
from aiokafka.partitioner import murmur2
from hypothesis import given
from hypothesis import strategies as st

from schemas.topics import Topic, delay_name, is_retry_topic, retry_topic, table
from services.partition import home_partition

TOPICS = {topic.name: topic for topic in table(4, (15, 300, 900, 3600, 300))}
SINGLE = {"fulfillment.providers", "fulfillment.statistics", "fulfillment.alerts", "monitor-watch-changelog"}
KEYED = [name for name in TOPICS if name not in SINGLE]
DAY_MS = 86_400_000

# Of Apache Kafka's own UtilsTest.testMurmur2.
JAVAS = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize("name", TOPICS)
def test_every_topic_of_ours_is_stamped_by_the_broker(name: str) -> None:
    assert TOPICS[name].config["message.timestamp.type"] == "LogAppendTime"


def test_keyed_topics_have_equal_partition_counts() -> None:
    assert {TOPICS[name].partitions for name in KEYED} == {4}
    assert TOPICS["fulfillment.providers"].partitions == 1


@pytest.mark.parametrize(
    ("name", "retention_ms"),
    [
        ("orders.events", -1),
        ("fulfillment.events", -1),
        ("fulfillment.commands", 30 * DAY_MS),
        ("fulfillment.retry.5m", 90 * DAY_MS),
        ("fulfillment.dead-letter", 90 * DAY_MS),
    ],
)
def test_topics_are_kept_for_so_long(name: str, retention_ms: int) -> None:
    assert TOPICS[name].config["retention.ms"] == str(retention_ms)


@pytest.mark.parametrize("name", ["fulfillment.state", "fulfillment.providers"])
def test_state_is_compacted_in_small_segments(name: str) -> None:
    config = TOPICS[name].config
    assert config["cleanup.policy"] == "compact"
    assert (config["segment.bytes"], config["segment.ms"]) == (str(16 * 2**20), str(600_000))
    assert config["min.cleanable.dirty.ratio"] == "0.1"


def test_dead_letters_may_be_large() -> None:
    assert int(TOPICS["fulfillment.dead-letter"].config["max.message.bytes"]) >= 2 * 2**20


def test_each_distinct_delay_has_one_topic_named_after_it() -> None:
    assert {name for name in TOPICS if is_retry_topic(name)} == {
        f"fulfillment.retry.{delay}" for delay in ("15s", "5m", "15m", "1h")
    }
    assert (delay_name(90), delay_name(0.25), retry_topic(7200)) == ("90s", "250ms", "fulfillment.retry.2h")


def test_home_is_where_javas_default_partitioner_puts_it() -> None:
    for key, hashed in JAVAS.items():
        assert murmur2(key) & 0xFFFFFFFF == hashed & 0xFFFFFFFF


@given(st.uuids(), st.integers(1, 1000))
def test_an_orders_home_is_where_that_partitioner_puts_its_id(order_id: UUID, partitions: int) -> None:
    key = str(order_id)
    assert home_partition(key, partitions) == (murmur2(key.encode()) & 0x7FFFFFFF) % partitions


def test_the_whole_table() -> None:
    stamped = {"message.timestamp.type": "LogAppendTime"}
    for_ever = stamped | {"retention.ms": "-1", "retention.bytes": "-1"}
    days_90 = stamped | {"retention.ms": str(90 * DAY_MS)}
    compacted = stamped | {
        "cleanup.policy": "compact",
        "segment.bytes": "16777216",
        "segment.ms": "600000",
        "min.cleanable.dirty.ratio": "0.1",
    }
    assert table(4, (3600, 300)) == (
        Topic("orders.events", 4, for_ever),
        Topic("fulfillment.commands", 4, stamped | {"retention.ms": str(30 * DAY_MS)}),
        Topic("fulfillment.events", 4, for_ever),
        Topic("fulfillment.retry.1h", 4, days_90),
        Topic("fulfillment.retry.5m", 4, days_90),
        Topic("fulfillment.state", 4, compacted),
        Topic("fulfillment.dead-letter", 4, days_90 | {"max.message.bytes": "2097152"}),
        Topic("fulfillment.providers", 1, compacted),
        Topic("fulfillment.statistics", 1, stamped | {"retention.ms": str(3 * DAY_MS)}),
        Topic("fulfillment.alerts", 1, stamped | {"retention.ms": str(14 * DAY_MS)}),
        Topic("monitor-watch-changelog", 1, compacted),
    )


@pytest.mark.parametrize(("delay_s", "name"), [(3600, "1h"), (60, "1m"), (1, "1s"), (0.999, "999ms"), (3660, "61m")])
def test_a_delay_is_spelt_in_the_largest_unit_that_fits(delay_s: float, name: str) -> None:
    assert delay_name(delay_s) == name
