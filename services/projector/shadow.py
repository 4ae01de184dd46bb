"""A second view beside the live one, and the moment at which it takes the live one's place."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from services.projector.view import Partition
from services.run import Refusal

SCHEMA: Final = "rebuild"
LIVE: Final = "public"
_RETIRED: Final = "retired"
# Parents before children: rows are made in this order.
_TABLES: Final = (
    "orders", "fulfillment_logs", "events", "tallies", "positions", "quarantine", "dead_letters", "providers",
    "provider_balances",
)  # fmt: skip
_KEYS: Final = {
    "orders": "id",
    "fulfillment_logs": "order_id",
    "events": "partition || ' ' || \"offset\"",
    "quarantine": 'topic || partition || "offset"',
    "dead_letters": "partition || ' ' || \"offset\"",
    "providers": "name",
    "provider_balances": "provider || ' ' || start",
}
_LOCK: Final = 5_020_117  # any number, as long as every rebuild takes the same
_DIFFERENCES_SHOWN: Final = 5


class Difference(NamedTuple):
    """What the two views disagree about in one table."""

    table: str
    live_rows: int
    shadow_rows: int
    keys: list[str]
    """Some of the rows that differ."""


class Shadow:
    """The tables of the second view, on one connection, whose search path leads to them."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._indexes: list[str] = []

    async def make(self) -> None:
        """Empty tables, without what slows filling them; an earlier attempt's are thrown away.

        Refusal while another rebuild is at work.
        """
        if not await self._connection.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK):
            raise Refusal("another rebuild of the view is running")
        async with self._connection.transaction():
            await self._connection.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
            await self._connection.execute(f"CREATE SCHEMA {SCHEMA}")
            # Then PostgreSQL names everything with its schema: what it says is run under another search path.
            await self._connection.execute("SET LOCAL search_path = pg_catalog")
            for table in _TABLES:
                await self._connection.execute(f"CREATE TABLE {SCHEMA}.{table} (LIKE {LIVE}.{table} INCLUDING ALL)")
                await self._complete_likeness(table)
            self._indexes = await self._drop_indexes()
        await self._connection.execute(f"SET search_path = {SCHEMA}")

    async def _complete_likeness(self, table: str) -> None:
        """What LIKE leaves out: storage parameters and triggers."""
        live = f"{LIVE}.{table}"
        options = await self._connection.fetchval(
            "SELECT array_to_string(reloptions, ', ') FROM pg_class WHERE oid = $1::regclass", live
        )
        if options:
            await self._connection.execute(f"ALTER TABLE {SCHEMA}.{table} SET ({options})")
        triggers = await self._connection.fetch(
            "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgrelid = $1::regclass AND NOT tgisinternal", live
        )
        for (definition,) in triggers:
            await self._connection.execute(definition.replace(f" ON {live} ", f" ON {SCHEMA}.{table} "))

    async def _drop_indexes(self) -> list[str]:
        """All but those of keys; what makes them anew."""
        found = await self._connection.fetch(
            "SELECT indexrelid::regclass::text AS name, pg_get_indexdef(indexrelid) AS definition FROM pg_index "
            "JOIN pg_class ON pg_class.oid = indexrelid WHERE relnamespace = $1::regnamespace AND NOT indisunique",
            SCHEMA,
        )
        for name, _ in found:
            await self._connection.execute(f"DROP INDEX {name}")
        return [definition for _, definition in found]

    async def begin(self, starts: Mapping[Partition, int], dead_letters: str) -> None:
        """At the beginning of what is left of the log.

        What its topic no longer has is taken over from the live view: dead letters that retention has removed since,
        and balances, of which compaction keeps the last.
        """
        await self._connection.execute(f"INSERT INTO provider_balances SELECT * FROM {LIVE}.provider_balances")  # noqa: S608 - a constant
        for (topic, partition), start in starts.items():
            await self._connection.execute(
                "INSERT INTO positions (topic, partition, next_offset) VALUES ($1, $2, $3)", topic, partition, start
            )
            if topic == dead_letters:
                await self._connection.execute(
                    f'INSERT INTO dead_letters SELECT * FROM {LIVE}.dead_letters WHERE partition = $1 AND "offset" < $2',  # noqa: S608, E501 - a constant
                    partition,
                    start,
                )

    async def complete(self) -> None:
        """What was left out to fill the tables sooner."""
        for definition in self._indexes:
            await self._connection.execute(definition)
        await self._connection.execute(
            f"ALTER TABLE {SCHEMA}.fulfillment_logs ADD FOREIGN KEY (order_id) REFERENCES {SCHEMA}.orders (id)"
        )
        for table in _TABLES:
            await self._connection.execute(f"ANALYZE {SCHEMA}.{table}")

    async def lock_live(self) -> dict[Partition, int]:
        """Within a transaction: let nobody read or write the live view; where it stands.

        asyncpg.LockNotAvailableError where somebody reads from it for too long.
        """
        await self._connection.execute("SET LOCAL lock_timeout = '2s'")
        # First what a projector takes first, so that neither waits for the other.
        await self._connection.execute(
            f"LOCK TABLE {LIVE}.positions, {', '.join(f'{LIVE}.{name}' for name in _KEYS)} IN ACCESS EXCLUSIVE MODE"
        )
        return await live_positions(self._connection)

    async def swap(self) -> None:
        """Within the transaction of `lock_live`: put the second view in the live one's place.

        Refusal where something else was built upon the live tables.
        """
        await self._connection.execute(f"DROP SCHEMA IF EXISTS {_RETIRED} CASCADE")
        await self._connection.execute(f"CREATE SCHEMA {_RETIRED}")
        for table in _TABLES:
            await self._grant_as_live(table)
            await self._connection.execute(f"ALTER TABLE {LIVE}.{table} SET SCHEMA {_RETIRED}")
            await self._connection.execute(f"ALTER TABLE {SCHEMA}.{table} SET SCHEMA {LIVE}")
        dependent = await self._connection.fetch(_DEPENDENTS, [f"{_RETIRED}.{table}" for table in _TABLES])
        if dependent:
            raise Refusal(f"{dependent[0][0]} is built upon the view's tables: drop it, rebuild, and make it again")
        await self._connection.execute(f"DROP TABLE {', '.join(f'{_RETIRED}.{table}' for table in reversed(_TABLES))}")
        await self._connection.execute(f"DROP SCHEMA {_RETIRED}")
        # Unlike its indexes, a table's extended statistics stay behind.
        for (name,) in await self._connection.fetch(
            "SELECT quote_ident(stxname) FROM pg_statistic_ext WHERE stxnamespace = $1::regnamespace", SCHEMA
        ):
            await self._connection.execute(f"ALTER STATISTICS {SCHEMA}.{name} SET SCHEMA {LIVE}")
        await self._connection.execute(f"DROP SCHEMA {SCHEMA}")

    async def _grant_as_live(self, table: str) -> None:
        grants = await self._connection.fetch(
            "SELECT privilege_type, CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END "
            "FROM pg_class, aclexplode(relacl) WHERE pg_class.oid = $1::regclass AND grantee <> relowner",
            f"{LIVE}.{table}",
        )
        for privilege, grantee in grants:
            await self._connection.execute(f"GRANT {privilege} ON {SCHEMA}.{table} TO {grantee}")


_DEPENDENTS: Final = """
    SELECT DISTINCT view.oid::regclass::text
    FROM pg_depend
    JOIN pg_rewrite ON pg_rewrite.oid = pg_depend.objid
    JOIN pg_class AS view ON view.oid = pg_rewrite.ev_class
    WHERE pg_depend.classid = 'pg_rewrite'::regclass AND pg_depend.refobjid = ANY($1::text[]::regclass[])
"""


async def live_positions(connection: Any) -> dict[Partition, int]:
    found = await connection.fetch(f"SELECT topic, partition, next_offset FROM {LIVE}.positions")  # noqa: S608 - constant
    return {(topic, partition): offset for topic, partition, offset in found}


async def hashes(connection: Any, schema: str) -> dict[str, tuple[int, int]]:
    """Of each table: its rows, and the sum of their hashes."""
    return {
        table: tuple(
            await connection.fetchrow(
                "SELECT count(*), coalesce(sum(hash_record_extended(row, 0)::numeric), 0)::text "  # noqa: S608 - ours
                f"FROM {schema}.{table} AS row"
            )
        )
        for table in _KEYS
    }


async def differences(
    live: Any, shadow: Any, seen: dict[str, tuple[int, int]], made: dict[str, tuple[int, int]]
) -> list[Difference]:
    """Name rows of the tables whose hashes differ; each connection sees its own view."""
    found = []
    for table, key in _KEYS.items():
        if seen[table] == made[table]:
            continue
        query = f"SELECT ({key})::text, hash_record_extended(row, 0) FROM {{}}.{table} AS row"  # noqa: S608 - ours
        there = dict(await live.fetch(query.format(LIVE)))
        here = dict(await shadow.fetch(query.format(SCHEMA)))
        keys = [name for name in there.keys() | here.keys() if there.get(name) != here.get(name)]
        found.append(Difference(table, len(there), len(here), sorted(keys)[:_DIFFERENCES_SHOWN]))
    return found
