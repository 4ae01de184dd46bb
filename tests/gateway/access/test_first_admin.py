"""Nobody becomes the first admin over HTTP: on the command line alone."""

import asyncio
import os
import sys

import orjson
import pytest
from pydantic import SecretStr

from services.gateway.access import Role
from services.gateway.openapi import openapi
from services.gateway.published import routes
from tests.conftest import copied
from tests.contract.conformance import calls
from tests.gateway.access.conftest import PASSWORD, login
from tests.gateway.conftest import Stand, View, standing
from tests.gateway.test_access import ELSEWHERE
from tests.processes import ROOT
from tests.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_the_first_admin_is_made_on_the_command_line_alone(stand: Stand, postgres: str, migrated: str) -> None:
    async with copied(postgres, migrated) as database_url:
        settings = stand.settings.model_copy(update={"database_url": SecretStr(database_url)})
        async with standing(settings) as empty, View.connected(settings) as view:
            await until(lambda: empty.gateway.database.up, "PostgreSQL")
            for call in calls(openapi(routes())):
                if call.method == "GET":
                    continue
                for body in call.bodies or [{}]:
                    said = {**body, "role": "admin"} if "role" in body else body
                    for headers in ({}, ELSEWHERE, {"X-API-Key": "first0000000000." + "x" * 43}):
                        answer = await empty.client.request(call.method, call.url(), json=said, headers=headers)
                        gives = call.path.endswith(("/login", "/keys", "/users"))
                        assert answer.status >= 400 or not gives, call.name
            for table in ("users", "api_keys", "sessions"):
                assert await view.connection.fetchval(f"SELECT count(*) FROM access.{table}") == 0  # noqa: S608 - a name

            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "services.gateway", "users", "create", "ama", "--role", "admin"),
                env=os.environ | {"DATABASE_URL": database_url},
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                cwd=ROOT,
            )
            printed, _ = await process.communicate(f"{PASSWORD}\n".encode())
            assert process.returncode == 0, printed.decode()
            answer = await login(empty.client, "ama")
            assert orjson.loads(answer.content)["caller"]["roles"] == [Role.ADMIN]
            [line] = await view.connection.fetch("SELECT actor, target FROM access.audit WHERE action = 'user_created'")
            assert tuple(line) == ("command-line", "ama")
