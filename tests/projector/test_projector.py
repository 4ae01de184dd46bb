"""The projector between a real Kafka and a real PostgreSQL."""

import uuid
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, TopicPartition
from prometheus_client import REGISTRY

from schemas.fulfillment import Act, Trigger
from schemas.poison import PoisonKind
from schemas.topics import FULFILLMENT_EVENTS, ORDERS_EVENTS
from services.kafka import connection
from services.projector.projector import Projector
from services.run import Refusal
from services.settings import Settings
from services.setup.patience import Patience
from services.setup.setup import set_up_kafka
from tests.conftest import copied, new_prefix, quick_settings
from tests.projector.conftest import Database, Log, looking, projecting, writing
from tests.projector.events import Story, created, value
from tests.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(kafka: str, postgres: str, migrated: str) -> AsyncIterator[Settings]:
    """Of topics and a database that the tests with one projector share: each looks at its own orders alone."""
    async with copied(postgres, migrated) as url:
        settings = quick_settings(kafka, url, new_prefix())
        await set_up_kafka(settings, Patience())
        yield settings


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def log(shared: Settings) -> AsyncIterator[Log]:
    async with writing(shared) as log:
        yield log


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def projector(shared: Settings) -> AsyncIterator[Projector]:
    async with projecting(shared) as (projector, _):
        yield projector


@pytest_asyncio.fixture(loop_scope="module")
async def database(shared: Settings) -> AsyncIterator[Database]:
    async with looking(shared.database_url.get_secret_value()) as database:
        yield database


def new_order() -> str:
    return str(uuid.uuid4())


async def test_an_orders_events_become_its_row(log: Log, database: Database, projector: Projector) -> None:
    told = Story(new_order()).requested(account="local").attempted().failed().attempted(Trigger.RETRY).succeeded()
    await log.events(told.events)
    row = await database.until_sequence(told.order_id, told.sequence)
    assert (row["status"], row["attempt_number"], row["max_attempts"]) == ("success", 2, 3)
    assert row["api_response"] == '{"status": "success"}'
    assert (row["price"], row["account"]) == (Decimal("4.50"), "local")
    order = (await database.fetch("SELECT * FROM orders WHERE id = $1", told.order_id))[0]
    assert (order["status"], order["fulfillment_status"]) == ("success", "success")
    assert order["updated_at"] == row["updated_at"] == told.events[-1].at


async def test_an_order_is_visible_before_the_fulfiller_answers(
    log: Log, database: Database, projector: Projector
) -> None:
    order = created(new_order(), package_id="p1")
    await log.created(order)
    row = await database.until_row(order.order_id, bool)
    assert (row["state"], row["status"], row["sequence"]) == ("received", "pending", 0)
    told = Story(order.order_id).requested(package_id="p2")
    await log.events(told.events)
    row = await database.until_sequence(order.order_id, 1)
    assert (row["state"], row["package_id"]) == ("created", "p2")
    assert (await database.fetch("SELECT package_id FROM orders WHERE id = $1", order.order_id))[0][
        "package_id"
    ] == "p2"


async def test_a_late_order_record_changes_nothing(log: Log, database: Database, projector: Projector) -> None:
    told, marker = Story(new_order()).requested().attempted().succeeded(), created(new_order())
    await log.events(told.events)
    row = await database.until_sequence(told.order_id, 3)
    await log.created(created(told.order_id, size_mb=9), partition=0)
    await log.created(marker, partition=0)
    await database.until_row(marker.order_id, bool)
    assert await database.row(told.order_id) == row


async def test_a_dead_letter_rejects_an_order_that_nobody_answered(
    log: Log, database: Database, projector: Projector
) -> None:
    order = created(new_order())
    metadata = await log.created(order)
    await database.until_row(order.order_id, bool)
    await log.dead_letter(order, PoisonKind.STALE, "it is too old", offset=metadata.offset)
    row = await database.until_row(order.order_id, lambda row: row["state"] == "rejected")
    assert (row["status"], row["error_code"]) == ("failed", "stale")
    letter = (await database.fetch("SELECT * FROM dead_letters WHERE order_id = $1", order.order_id))[0]
    assert (str(letter["order_id"]), letter["reason"], letter["message"]) == (order.order_id, "stale", "it is too old")
    assert (letter["original_topic"], letter["value"]) == (ORDERS_EVENTS, value(order))


async def test_a_faulty_order_that_was_sent_again_mended_is_not_rejected_for_its_letter(
    log: Log, database: Database, projector: Projector
) -> None:
    order = created(new_order())
    key, home = order.order_id.encode(), log.home(order.order_id)
    faulty = await log.raw(ORDERS_EVENTS, b'{"order_id":"%s"}' % key, key=key, partition=home)
    await log.dead_letter(order, PoisonKind.SCHEMA, "it has no phone number", offset=faulty.offset)
    await database.until_dead_letter(order.order_id)
    await log.created(order)
    row = await database.until_row(order.order_id, bool)
    assert (row["state"], row["status"]) == ("received", "pending")


async def test_a_conflicting_duplicate_rejects_nothing(log: Log, database: Database, projector: Projector) -> None:
    order = created(new_order())
    first = await log.created(order)
    await log.dead_letter(
        created(order.order_id, size_mb=9), PoisonKind.CONFLICT, "another size", offset=first.offset + 1
    )
    await log.events(Story(order.order_id).requested().attempted().events)
    row = await database.until_sequence(order.order_id, 2)
    assert row["state"] == "attempting"


async def test_a_gap_quarantines_its_order_and_no_other(log: Log, database: Database, projector: Projector) -> None:
    torn, whole = Story(new_order()).requested().attempted().succeeded(), Story(new_order())
    before = REGISTRY.get_sample_value("projector_quarantined_total") or 0
    await log.events([torn.events[0], torn.events[2]])
    await log.events(whole.requested().attempted().succeeded().events)
    row = await database.until_row(torn.order_id, lambda row: row["quarantined"])
    assert (row["state"], row["sequence"]) == ("created", 1)
    entry = (await database.quarantined(torn.order_id))[0]
    assert (entry["sequence_expected"], entry["sequence_seen"], entry["why"]) == (2, 3, "a gap: event 2 is missing")
    assert (await database.until_sequence(whole.order_id, 3))["status"] == "success"
    assert REGISTRY.get_sample_value("projector_quarantined_total") == before + 1


async def test_a_repetition_in_a_later_batch_is_seen_too(log: Log, database: Database, projector: Projector) -> None:
    told = Story(new_order()).requested().attempted().succeeded()
    await log.events(told.events)
    await database.until_sequence(told.order_id, 3)
    await log.events(told.events[:1])
    row = await database.until_row(told.order_id, lambda row: row["quarantined"])
    assert (row["state"], row["sequence"]) == ("delivered", 3)
    assert (await database.quarantined(told.order_id))[0]["why"] == "a repetition: event 3 was applied already"


@pytest.mark.parametrize(
    "nonsense",
    [
        None,
        b"",
        b"not JSON",
        b'{"type":"Nothing"}',
        b"\xff\xfe",
        b'{"type":"FulfillmentRequested","version":2}',
        value(Story("no-uuid").requested().events[0]),
        value(Story(str(uuid.uuid4())).requested().events[0].model_copy(update={"size_mb": 2**40})),
    ],
)
async def test_an_event_that_no_row_can_hold_is_set_aside(
    log: Log, database: Database, projector: Projector, nonsense: bytes | None
) -> None:
    told = Story(new_order()).requested()
    key, home = told.order_id.encode(), log.home(told.order_id)
    await log.raw(FULFILLMENT_EVENTS, nonsense, key=key, partition=home)
    await log.events(told.events)
    await database.until_sequence(told.order_id, 1)
    assert len(await database.quarantined(told.order_id)) == 1


async def test_orders_that_nobody_can_mean_are_left_to_the_fulfiller(
    log: Log, database: Database, projector: Projector
) -> None:
    marker, vast, early = created(new_order()), created(new_order(), size_mb=10**30), created(new_order())
    long_ago = value(early).replace(b"2026-01-31T12:00:00Z", b"0001-01-01T00:00:00+14:00")
    for odd in (b"not JSON", value(vast), long_ago):
        await log.raw(ORDERS_EVENTS, odd)
    await log.created(marker, partition=0)
    await database.until_row(marker.order_id, bool)
    assert await database.row(vast.order_id) is None
    assert await database.row(early.order_id) is None


@pytest.mark.parametrize("ends", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"])
async def test_the_ends_of_the_calendar_are_times_like_others(
    log: Log, database: Database, projector: Projector, ends: str
) -> None:
    order = created(new_order())
    await log.raw(ORDERS_EVENTS, value(order).replace(b"2026-01-31T12:00:00Z", ends.encode()))
    row = await database.until_row(order.order_id, bool)
    assert abs(row["created_at"] - datetime.fromisoformat(ends)) == timedelta(microseconds=1)


async def test_text_that_postgresql_cannot_hold_is_made_readable(
    log: Log, database: Database, projector: Projector
) -> None:
    nul = {"account": "a\0b", "package_id": "\\u0000"}
    order = created(new_order(), **nul)
    await log.created(order)
    row = await database.until_row(order.order_id, bool)
    assert (row["account"], row["package_id"]) == ("a\ufffdb", "\\u0000")
    told = (
        Story(order.order_id).requested(**nul).attempted().failed(Act.ATTEMPT, api_response={"x\0": ["\0", "\\u0000"]})
    )
    await log.events(told.events)
    row = await database.until_sequence(order.order_id, 3)
    assert (row["account"], row["package_id"]) == ("a\ufffdb", "\\u0000")
    assert row["api_response"] == '{"x\ufffd": ["\ufffd", "\\\\u0000"]}'


# --- each with a view of its own --------------------------------------------------------------------------------------


@pytest_asyncio.fixture(loop_scope="module")
async def own(topics: Settings) -> AsyncIterator[tuple[Log, Database]]:
    async with writing(topics) as log, looking(topics.database_url.get_secret_value()) as database:
        yield log, database


async def test_a_dead_letter_read_first_rejects_all_the_same(topics: Settings, own: tuple[Log, Database]) -> None:
    log, database = own
    order = created(new_order())
    async with projecting(topics):
        await log.dead_letter(order, PoisonKind.FUTURE, "it is dated ahead", offset=0)
        await database.until_dead_letter(order.order_id)
        assert (await log.created(order)).offset == 0
        row = await database.until_row(order.order_id, bool)
    assert (row["state"], row["error_code"]) == ("rejected", "future")


async def test_the_monitoring_queries_run_as_they_stand(topics: Settings, own: tuple[Log, Database]) -> None:
    log, database = own
    good = Story(new_order()).requested().attempted().succeeded()
    bad = Story(new_order()).requested().attempted().failed()
    async with projecting(topics):
        await log.events(good.events + bad.events)
        await database.until_sequence(good.order_id, 3)
        await database.until_sequence(bad.order_id, 3)
    every = await database.fetch("""
        SELECT * FROM fulfillment_logs
        WHERE network = 'AT-iShare'
        ORDER BY created_at DESC;
    """)
    assert len(every) == 2
    rate = await database.fetch("""
        SELECT
          COUNT(*) as total,
          SUM(CASE WHEN status = 'success' THEN 1 END) as success,
          ROUND(100.0 * SUM(CASE WHEN status = 'success' THEN 1 END) / COUNT(*), 2) as rate
        FROM fulfillment_logs
        WHERE network = 'AT-iShare';
    """)
    assert tuple(rate[0]) == (2, 1, Decimal("50.00"))
    failed = await database.fetch("""
        SELECT * FROM fulfillment_logs
        WHERE status = 'failed'
        AND attempt_number < max_attempts
        ORDER BY retry_after ASC;
    """)
    assert [str(row["order_id"]) for row in failed] == [bad.order_id]


async def test_however_many_rows_there_are_those_that_change_are_found_by_their_index(
    topics: Settings, own: tuple[Log, Database]
) -> None:
    """Plans are kept from when the tables were empty, and reading an empty table from end to end costs nothing."""
    log, database = own
    await database.execute("SET enable_seqscan = off")
    told = Story(new_order()).requested().attempted()
    async with projecting(topics):
        await log.events(told.events)
        await database.until_sequence(told.order_id, 2)
        await log.events(told.succeeded().events[2:])
        await database.until_sequence(told.order_id, 3)
    reads = """
        SELECT sum(seq_tup_read) FROM pg_stat_user_tables WHERE relname IN ('orders', 'fulfillment_logs')
        HAVING min(idx_scan) > 0
    """
    counted = await until(lambda: database.fetch(reads), "the statistics")
    assert counted[0]["sum"] == 0


async def test_two_projectors_share_the_work_and_hand_it_over(topics: Settings, own: tuple[Log, Database]) -> None:
    log, database = own
    told = [Story(new_order()).requested() for _ in range(40)]
    async with projecting(topics):
        await log.events(event for one in told for event in one.events)
        async with projecting(topics):
            fresh = [event for one in told for event in one.attempted().failed().events[1:]]
            await log.events(fresh)
            for one in told:
                await database.until_sequence(one.order_id, 3)
        rest = [event for one in told for event in one.attempted(Trigger.RETRY).succeeded().events[3:]]
        await log.events(rest)
        for one in told:
            row = await database.until_sequence(one.order_id, 5)
            assert row["status"] == "success"
    assert await database.fetch("SELECT FROM quarantine") == []


async def test_the_group_knows_how_far_it_is(topics: Settings, own: tuple[Log, Database]) -> None:
    log, database = own
    told = Story(new_order()).requested().attempted().succeeded()
    async with projecting(topics):
        await log.events(told.events)
        await database.until_sequence(told.order_id, 3)
    consumer = AIOKafkaConsumer(**connection(topics), group_id=topics.topic_prefix + "projector")
    await consumer.start()
    partition = TopicPartition(topics.topic_prefix + FULFILLMENT_EVENTS, log.home(told.order_id))
    assert await consumer.committed(partition) == 3
    await consumer.stop()


async def test_a_missing_topic_is_named(settings: Settings) -> None:
    with pytest.raises(Refusal, match=r"orders\.events does not exist: run `python -m services\.setup`"):
        async with projecting(settings):
            pass


async def test_another_schema_is_refused(topics: Settings, own: tuple[Log, Database]) -> None:
    _, database = own
    await database.execute("ALTER TABLE positions RENAME TO older")
    with pytest.raises(Refusal, match=r"run `python -m services\.setup`"):
        async with projecting(topics):
            pass


async def test_a_topic_made_anew_is_refused(topics: Settings, own: tuple[Log, Database]) -> None:
    _, database = own
    topic = topics.topic_prefix + FULFILLMENT_EVENTS
    await database.execute(f"INSERT INTO positions VALUES ('{topic}', 0, 17)")  # noqa: S608 - the test's own name
    with pytest.raises(Refusal, match="the topic was made anew"):
        async with projecting(topics):
            pass
