"""The view made anew beside the live one."""

import asyncio
import uuid
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from rich.console import Console

from schemas.fulfillment import Trigger
from schemas.poison import PoisonKind
from schemas.topics import FULFILLMENT_DEAD_LETTER
from services import kafka
from services.projector.rebuild import Rebuilt, rebuild
from services.run import Refusal
from services.settings import Settings
from tests.processes import Processes, environment
from tests.projector.conftest import Database, Log, projecting
from tests.projector.events import Story, created

SCHEMAS = "SELECT nspname FROM pg_namespace WHERE nspname IN ('rebuild', 'retired')"
INDEXES = "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1, 2"
CONSTRAINTS = """
    SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
    WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2
"""


TRIGGERS = "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1"
OPTIONS = """
    SELECT relname, reloptions FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND reloptions IS NOT NULL ORDER BY 1
"""
STATISTICS = """
    SELECT stxnamespace::regnamespace::text, pg_get_statisticsobjdef_columns(oid) FROM pg_statistic_ext ORDER BY 1, 2
"""
SHAPE = (INDEXES, CONSTRAINTS, TRIGGERS, OPTIONS, STATISTICS)
EVENTS = 'SELECT * FROM events ORDER BY partition, "offset"'
TALLIES = """
    SELECT width_s, start, network, state, error_code, latency_bin, sum(orders), sum(attempts) FROM tallies
    GROUP BY 1, 2, 3, 4, 5, 6 HAVING sum(orders) <> 0 OR sum(attempts) <> 0 ORDER BY 1, 2, 3, 4, 5, 6
"""
COUNTED = """
    SELECT width_s, date_bin(make_interval(secs => width_s), created_at, 'epoch'), network, state,
        coalesce(error_code, ''), latency_bin(created_at, fulfilled_at), count(*), sum(attempt_number)
    FROM fulfillment_logs, (VALUES (60), (3600), (86400)) AS widths (width_s)
    GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1, 2, 3, 4, 5, 6
"""


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    with Processes(tmp_path) as processes:
        yield processes


def new_order() -> str:
    return str(uuid.uuid4())


async def run(settings: Settings) -> Rebuilt:
    return await rebuild(settings, Console(file=StringIO()))


async def a_history(log: Log, database: Database) -> list[Story]:
    """Orders in every state, one that nobody answered, one that is poison and one whose sequence is torn."""
    told = [
        Story(new_order()).requested().attempted().succeeded(),
        Story(new_order()).requested().attempted().failed(),
        Story(new_order()).requested().attempted().uncertain().reviewed(),
        Story(new_order()).requested(provider=None),
    ]
    for one in told:
        await log.created(created(one.order_id))
        await log.events(one.events)
    torn = Story(new_order()).requested().attempted().succeeded()
    await log.events([torn.events[0], torn.events[2]])
    poison, alone = created(new_order()), created(new_order())
    refused = await log.created(poison)
    await log.dead_letter(poison, PoisonKind.STALE, "too old", offset=refused.offset)
    await log.created(alone)
    for one in told:
        await database.until_sequence(one.order_id, one.sequence)
    await database.until_row(torn.order_id, lambda row: row["quarantined"])
    await database.until_row(poison.order_id, lambda row: row["state"] == "rejected")
    await database.until_row(alone.order_id, bool)
    return told


async def test_it_is_the_same_row_for_row_and_the_live_projector_goes_on(
    topics: Settings, log: Log, database: Database
) -> None:
    async with projecting(topics):
        told = await a_history(log, database)
        before = await database.fetch("SELECT * FROM fulfillment_logs ORDER BY id")
        shape = [await database.fetch(query) for query in SHAPE]
        events, tallies = await database.fetch(EVENTS), await database.fetch(TALLIES)
        assert len(events) == sum(one.sequence for one in told) + 1
        assert tallies == await database.fetch(COUNTED)
        await database.execute("CREATE ROLE reader; GRANT SELECT ON orders TO reader")
        rebuilt = await run(topics)
        assert rebuilt == Rebuilt(orders=7, compared=True, differences=[])
        assert await database.fetch("SELECT * FROM fulfillment_logs ORDER BY id") == before
        assert [await database.fetch(query) for query in SHAPE] == shape
        assert await database.fetch(EVENTS) == events
        assert await database.fetch(TALLIES) == tallies
        assert await database.fetch(SCHEMAS) == []
        assert (await database.fetch("SELECT has_table_privilege('reader', 'orders', 'SELECT')"))[0][0]
        await database.execute("DROP OWNED BY reader; DROP ROLE reader")
        await log.events(told[1].attempted(Trigger.RETRY).succeeded().events[3:])
        assert (await database.until_sequence(told[1].order_id, 5))["status"] == "success"
        assert await database.fetch(TALLIES) == await database.fetch(COUNTED)


async def test_who_may_do_what_and_who_did_it_stay_as_they_are(topics: Settings, log: Log, database: Database) -> None:
    """A rebuild throws the view away; what is in `access` cannot be made anew."""
    await database.execute(
        """
        INSERT INTO access.users (name, password_hash, role) VALUES ('ama', 'x', 'admin');
        INSERT INTO access.sessions (token_hash, user_name) VALUES (sha256('1'), 'ama');
        INSERT INTO access.login_failures (subject, failures) VALUES ('user:ama', 3);
        INSERT INTO access.api_keys (id, secret_hash, role, account) VALUES ('k', sha256('2'), 'viewer', 'a');
        INSERT INTO access.audit (actor, address, action, target, detail) VALUES ('user:ama', '', 'login', 'ama', '{}');
        """
    )
    tables = await database.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'access' ORDER BY 1")
    async with projecting(topics):
        await a_history(log, database)

        async def all_of_it() -> list[list[tuple[object, ...]]]:
            # The ids of the tables as well: they are the same ones.
            query = "SELECT tableoid, row::text FROM access.{} AS row ORDER BY 2"
            return [await database.fetch(query.format(name)) for (name,) in tables]

        before = await all_of_it()
        assert sum(map(bool, before)) == 5
        await run(topics)
        assert await all_of_it() == before


async def test_what_differs_is_named_and_mended(topics: Settings, log: Log, database: Database) -> None:
    async with projecting(topics):
        told = await a_history(log, database)
        wrong, lost = told[1].order_id, told[0].order_id
        await database.execute(f"UPDATE fulfillment_logs SET error_message = 'x' WHERE order_id = '{wrong}'")  # noqa: S608 - the test's own
        await database.execute(f"DELETE FROM fulfillment_logs WHERE order_id = '{lost}'")  # noqa: S608 - as above
        rebuilt = await run(topics)
        assert rebuilt.compared
        (difference,) = rebuilt.differences
        assert (difference.table, difference.live_rows, difference.shadow_rows) == ("fulfillment_logs", 6, 7)
        assert difference.keys == sorted([wrong, lost])
        assert (await database.row(wrong))["error_message"] == "The network is busy"
        assert (await database.row(lost))["status"] == "success"
        # The live projector remembers nothing of the view that is gone.
        await log.events(told[1].attempted(Trigger.RETRY).failed().events[3:])
        assert (await database.until_sequence(wrong, 5))["error_message"] == "The network is busy"
    assert (await run(topics)).differences == []


async def test_under_load_nothing_is_lost(topics: Settings, log: Log, database: Database) -> None:
    told = [Story(new_order()).requested() for _ in range(300)]
    async with projecting(topics):
        await log.events(event for one in told for event in one.events)

        async def go_on() -> None:
            for one in told:
                await log.events(one.attempted().events[1:])
                await log.events(one.succeeded().events[2:])

        load = asyncio.create_task(go_on())
        while not load.done():
            assert (await run(topics)).differences == []
        await load
        for one in told:
            await database.until_sequence(one.order_id, 3)
    assert await database.fetch("SELECT FROM quarantine") == []


async def test_killed_in_the_middle_it_harms_nothing(
    topics: Settings, log: Log, database: Database, processes: Processes
) -> None:
    async with projecting(topics):
        told = await a_history(log, database)
        env = environment(topics)
        victim = processes.start(["services.projector", "rebuild"], env | {"CRASHPOINTS": "projector.rebuild:kill:2"})
        await victim.died_at("projector.rebuild")
        await log.events(told[1].attempted(Trigger.RETRY).succeeded().events[3:])
        await database.until_sequence(told[1].order_id, 5)
        second = processes.start(["services.projector", "rebuild"], env)
        assert await second.ended(60) == 0
        assert "rebuilt: 7 orders" in second.log
        assert "the live view was the same, row for row" in second.log
    assert await database.fetch(SCHEMAS) == []


async def test_without_a_live_projector_it_is_not_compared_and_holds_everything(
    topics: Settings, log: Log, database: Database
) -> None:
    told = Story(new_order()).requested().attempted().succeeded()
    await log.events(told.events)
    assert await run(topics) == Rebuilt(orders=1, compared=False, differences=[])
    assert (await database.row(told.order_id))["status"] == "success"
    async with projecting(topics):
        await log.events(told.rejected().events[3:])
        await database.until_sequence(told.order_id, 4)


async def test_dead_letters_that_retention_removed_are_kept(topics: Settings, log: Log, database: Database) -> None:
    async with projecting(topics):
        await a_history(log, database)
        letter = (await database.fetch('SELECT partition, "offset" FROM dead_letters'))[0]
        admin = AIOKafkaAdminClient(**kafka.connection(topics))
        await admin.start()
        at = TopicPartition(topics.topic_prefix + FULFILLMENT_DEAD_LETTER, letter["partition"])
        await admin.delete_records({at: RecordsToDelete(letter["offset"] + 1)})
        await admin.close()
        assert (await run(topics)).differences == []
        assert len(await database.fetch("SELECT FROM dead_letters")) == 1
        assert len(await database.fetch("SELECT FROM fulfillment_logs WHERE state = 'rejected'")) == 1


async def test_what_is_built_upon_the_view_is_not_dropped(topics: Settings, database: Database) -> None:
    await database.execute("CREATE VIEW mine AS SELECT id FROM orders")
    with pytest.raises(Refusal, match="mine is built upon"):
        await run(topics)
    assert await database.fetch("SELECT FROM mine") == []


async def test_two_at_once_are_refused(topics: Settings, database: Database) -> None:
    await database.execute("SELECT pg_advisory_lock(5020117)")
    with pytest.raises(Refusal, match="another rebuild"):
        await run(topics)
