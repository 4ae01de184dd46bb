"""`python -m services.gateway` as a process: its line, its end, its refusals, its death; and its keys."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from schemas import ids
from tests.gateway.conftest import Client, Log, Stand, View, new_key
from tests.processes import Processes, Service, environment

pytestmark = pytest.mark.asyncio(loop_scope="session")

GATEWAY = ["services.gateway"]


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    with Processes(tmp_path) as processes:
        yield processes


@asynccontextmanager
async def speaking_to(service: Service) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession(await service.ready()) as session:
        yield Client(session, 0)


async def test_sigterm_finishes_what_is_under_way(stand: Stand, view: View, processes: Processes) -> None:
    order_id = await view.add(status="processing", state="attempting", attempt_number=1)
    service = processes.start(GATEWAY, environment(stand.settings))
    async with speaking_to(service) as client:
        asked = asyncio.create_task(client.act("trigger", order_id, Prefer="wait=30"))
        assert (await client.purchase()).status == 202
        stopping = asyncio.create_task(service.stop())
        assert (await asked).status == 202
        await stopping
    assert service.log.count("gateway ready: http://127.0.0.1:") == 1


async def test_killed_before_it_writes(stand: Stand, log: Log, client: Client, processes: Processes) -> None:
    key = new_key()
    await _killed_at("gateway.before_produce", stand, processes, key)
    assert await log.orders(ids.order_id("local", key)) == []
    assert (await client.purchase(key=key)).is_problem(409)


async def test_killed_between_the_acknowledgement_and_its_answer(
    stand: Stand, log: Log, view: View, client: Client, processes: Processes
) -> None:
    key = new_key()
    await _killed_at("gateway.after_ack", stand, processes, key)
    assert len(await log.orders(ids.order_id("local", key))) == 1
    assert (await client.purchase(key=key)).is_problem(409)
    # Half a minute goes by.
    await view.connection.execute(
        "UPDATE access.idempotency_keys SET claimed_at = claimed_at - interval '31 s' WHERE key = $1", key
    )
    answer = await client.purchase(key=key)
    assert (answer.status, answer.json["order"]["id"]) == (202, ids.order_id("local", key))
    first, second = await log.orders(ids.order_id("local", key))
    assert (first.value, first.headers, first.partition) == (second.value, second.headers, second.partition)


async def _killed_at(point: str, stand: Stand, processes: Processes, key: str) -> None:
    service = processes.start(GATEWAY, environment(stand.settings) | {"CRASHPOINTS": f"{point}:kill"})
    async with speaking_to(service) as client:
        with pytest.raises(aiohttp.ClientError):
            await client.purchase(key=key)
        await service.died_at(point)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        pytest.param({"PORT": "x"}, "setting PORT", id="port"),
        pytest.param({"PARTITIONS": "5"}, "setting PARTITIONS", id="partitions"),
        pytest.param({"DATABASE_URL": "nonsense"}, "setting DATABASE_URL", id="database URL"),
        pytest.param({"ENVIRONMENT": "production"}, "refused in production", id="sandbox secrets"),
    ],
)
async def test_wrong_settings_end_it_with_one_line(
    stand: Stand, processes: Processes, changes: dict[str, str], named: str
) -> None:
    await _refused(processes, environment(stand.settings) | changes, named)


async def test_a_wrong_database_password_ends_it_with_one_line(stand: Stand, processes: Processes) -> None:
    url = stand.settings.database_url.get_secret_value().replace("fulfillment@", "wrong@", 1)
    output = await _refused(processes, environment(stand.settings) | {"DATABASE_URL": url}, "setting DATABASE_URL")
    assert "wrong" not in output


async def test_a_taken_port_ends_it_with_one_line(stand: Stand, client: Client, processes: Processes) -> None:
    await _refused(processes, environment(stand.settings) | {"PORT": str(client.port)}, str(client.port))


async def _refused(processes: Processes, env: dict[str, str], named: str) -> str:
    service = processes.start(GATEWAY, env)
    assert await service.ended(20) == 1, service.log
    # On a slow machine it serves, and logs, before PostgreSQL or the port has had its say.
    said = [line for line in service.log.splitlines() if not re.match(r"\d{4}-|gateway ready", line)]
    assert len(said) == 1, service.log
    assert named in said[0]
    return service.log


async def test_keys_from_the_command_line(stand: Stand, client: Client, processes: Processes) -> None:
    async def run(*arguments: str, code: int = 0) -> str:
        service = processes.start(["services.gateway", "keys", *arguments], environment(stand.settings))
        assert await service.ended(20) == code, service.log
        return service.log

    token = (await run("create", "--role", "purchaser", "--account", "acme", "--note", "a shop")).strip()
    elsewhere = {"Host": "fulfillment.example.com", "X-API-Key": token}
    assert (await client.purchase(None, None, **elsewhere)).status == 202
    key_id, secret = token.split(".")
    listed = await run("list")
    assert key_id in listed
    assert secret not in listed
    assert key_id in await run("revoke", key_id)
    assert "no key" in await run("revoke", key_id, code=1)
    assert "account" in await run("create", "--role", "viewer", "--account", "local", code=1)
    assert "role" in await run("create", "--role", "king", code=2)


async def test_keys_without_a_database_say_so_in_one_line(stand: Stand, processes: Processes) -> None:
    env = environment(stand.settings) | {"DATABASE_URL": "postgresql://a:secret@127.0.0.1:9/c"}
    service = processes.start(["services.gateway", "keys", "list"], env)
    assert await service.ended(20) == 1
    assert service.log.startswith("setting DATABASE_URL: ")
    assert service.log.count("\n") == 1
    assert "secret" not in service.log
