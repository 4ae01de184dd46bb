"""With every service as a process of its own: a suspension holds, whoever dies, until somebody ends it."""

from pathlib import Path
from typing import Any

import asyncpg
import pytest

from services.at_ishare_contract import NAME
from services.gateway import keys
from services.gateway.access import Role
from tests.backend import Backend
from tests.gateway.providers.conftest import PROVIDERS, REASON
from tests.stand import stand
from tests.waiting import until


@pytest.mark.asyncio(loop_scope="session")
async def test_what_is_suspended_by_hand_waits_through_a_restart_until_it_is_resumed(
    backend: Backend, migrated: str, tmp_path: Path
) -> None:
    async with stand(backend, migrated, tmp_path) as system:
        fulfiller, projector, gateway = system.fulfiller(), system.projector(), system.gateway()
        url, *_ = [await service.ready() for service in (gateway, fulfiller, projector)]
        connection = await asyncpg.connect(system.settings.database_url.get_secret_value())
        headers = {"Authorization": f"Bearer {await keys.create(connection, Role.OPERATOR, 'acme')}"}
        await connection.close()

        async def act(act: str) -> tuple[int, dict[str, Any]]:
            async with system.session.post(
                f"{url}{PROVIDERS}/{NAME}/{act}", json={"reason": REASON}, headers={**headers, "Prefer": "wait=20"}
            ) as response:
                return response.status, await response.json()

        async def seen() -> dict[str, Any]:
            async with system.session.get(url + PROVIDERS, headers=headers) as response:
                (provider,) = (await response.json())["providers"]
            return dict(provider)

        status, said = await act("suspend")
        assert (status, said["provider"]["state"], said["provider"]["by"]) == (200, "suspended", "operator")
        assert (said["provider"]["why"], said["provider"]["nextProbeAt"]) == (REASON, None)
        assert (await act("suspend"))[0] == 409
        orders = [await system.order() for _ in range(3)]
        await system.reached(orders, "created")
        await fulfiller.stop()
        # Whoever starts is not kept waiting for a provider.
        await system.fulfiller().ready()

        async def all_wait() -> bool:
            return bool((await seen())["orders"]["waiting"] == 3)

        await until(all_wait, "three orders to wait")
        assert (await seen())["state"] == "suspended"
        assert await system.sandbox.sends() == {}
        status, said = await act("resume")
        assert (status, said["provider"]["state"]) == (200, "up")
        await system.reached(orders, "delivered")
        rows = await system.rows(orders)
        assert {row["attempt_number"] for row in rows.values()} == {1}
        await system.proven()
