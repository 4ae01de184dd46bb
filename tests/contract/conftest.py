from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import aiohttp
import asyncpg
import pytest
import pytest_asyncio

from services.gateway import keys, passwords, users
from services.gateway.access import Role
from services.gateway.administration import EXAMPLE_KEY
from services.gateway.audit import COMMAND_LINE
from services.gateway.bulk.questions import EXAMPLE_JOB
from services.gateway.login import Login
from tests.backend import Backend
from tests.gateway.access.conftest import People, Session
from tests.stand import stand
from tests.waiting import until

STRANGER: Final = {"X-Forwarded-For": "192.0.2.1"}
"""What makes a caller on this machine one from elsewhere, who needs a key."""


@dataclass(frozen=True, slots=True)
class System:
    """Every service as a process of its own, and a key of each role."""

    url: str
    health_urls: Sequence[str]
    """Of the fulfiller and the projector."""
    keys: Mapping[Role, str]
    over: Mapping[str, Mapping[str, str]]
    """The headers of credentials that were good once, by how they ended."""
    logged_in: Session
    """An admin's."""
    session: aiohttp.ClientSession


class Figures:
    """What was tried, for the end of the run."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, what: str, statuses: Counter[int]) -> None:
        failed = sum(count for status, count in statuses.items() if status >= 500)
        self.lines.append(f"{statuses.total()} {what}: {failed} answers of 5xx, {dict(sorted(statuses.items()))}")


_figures: Final = pytest.StashKey[Figures]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_figures] = Figures()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in config.stash[_figures].lines:
        terminalreporter.write_line(f"contract: {line}")


@pytest.fixture
def figures(pytestconfig: pytest.Config) -> Figures:
    return pytestconfig.stash[_figures]


async def _over(connection: asyncpg.Connection) -> Mapping[str, Mapping[str, str]]:
    expired, revoked = [await keys.create(connection, Role.ADMIN, None) for _ in range(2)]
    await connection.execute(
        "UPDATE access.api_keys SET expires_at = now() - interval '1 s' WHERE id = $1", expired.split(".")[0]
    )
    assert await keys.revoke(connection, revoked.split(".")[0])
    people = People(connection)
    old, disabled = [await people.logged_in(Role.ADMIN) for _ in range(2)]
    await people.age(old, created_s=13 * 3600, seen_s=0)
    await people.disable(disabled)
    return {
        "an expired key": STRANGER | {"Authorization": f"Bearer {expired}"},
        "a revoked key": STRANGER | {"Authorization": f"Bearer {revoked}"},
        "a session that is over": old.headers,
        "a session of somebody who was shut out": disabled.headers,
    }


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def system(backend: Backend, migrated: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    # Who asks too much is another test's business (tests/gateway/access).
    async with stand(
        backend, migrated, tmp_path_factory.mktemp("contract"), rate_limit_per_s=1e6, rate_limit_burst=1_000_000
    ) as system:
        services = system.gateway(), system.fulfiller(), system.projector()
        url, *health_urls = [await service.ready() for service in services]
        connection = await asyncpg.connect(system.settings.database_url.get_secret_value())
        spare = await keys.create(connection, Role.VIEWER, None)
        made = {role: await keys.create(connection, role, f"contract-{role}") for role in Role}
        # What the examples of the access calls name.
        login = Login.model_config["json_schema_extra"]["examples"][0]
        password_hash = passwords.hashed(login["password"])
        await users.create(connection, COMMAND_LINE, login["username"], Role.OPERATOR, password_hash)
        await connection.execute("UPDATE access.api_keys SET id = $1 WHERE id = $2", EXAMPLE_KEY, spare.split(".")[0])
        over, logged_in = await _over(connection), await People(connection).logged_in(Role.ADMIN)
        # And the dead letter that those of the dead letters name: the first of partition 0.
        await system.write(b"{}", partition=0)
        await until(lambda: connection.fetchval("SELECT count(*) FROM dead_letters"), "a dead letter")
        # And the bulk retry, which is over.
        await connection.execute(
            "INSERT INTO access.retry_jobs (id, state, actor, reason, orders, started_at, ended_at) "
            "VALUES ($1, 'done', 'local', 'an example', 0, now(), now())",
            EXAMPLE_JOB,
        )
        await connection.close()
        yield System(url, health_urls, made, over, logged_in, system.session)
        for service in services:
            await service.stop()
