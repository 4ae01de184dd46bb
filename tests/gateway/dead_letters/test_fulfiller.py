"""With every service as a process of its own: what goes back is acted on once, or is a new dead letter."""

from pathlib import Path
from typing import Any

import asyncpg
import pytest

from schemas.cloudevents import binary_headers, json_value
from services.gateway import keys
from services.gateway.access import Role
from tests.backend import Backend
from tests.gateway.dead_letters.conftest import LETTERS, REASON
from tests.stand import Stand, stand
from tests.waiting import until


class Operator:
    def __init__(self, stand: Stand, url: str, token: str) -> None:
        self._stand = stand
        self._url = url + LETTERS
        self._headers = {"Authorization": f"Bearer {token}"}

    async def letters(self, at_least: int) -> list[dict[str, Any]]:
        """The newest first, once there are so many."""

        async def there() -> list[dict[str, Any]] | None:
            async with self._stand.session.get(self._url, headers=self._headers) as response:
                letters: list[dict[str, Any]] = (await response.json())["letters"]
            return letters if len(letters) >= at_least else None

        found: list[dict[str, Any]] = await until(there, f"{at_least} dead letters")
        return found

    async def replay(self, letter_id: str, **said: Any) -> str:
        """Its outcome."""
        body = {"ids": [letter_id], "reason": REASON, **said}
        async with self._stand.session.post(f"{self._url}/replay", json=body, headers=self._headers) as response:
            return str((await response.json())["items"][0]["outcome"])


@pytest.mark.asyncio(loop_scope="session")
async def test_one_that_fails_again_names_the_old_and_one_that_succeeds_is_delivered_once(
    backend: Backend, migrated: str, tmp_path: Path
) -> None:
    async with stand(backend, migrated, tmp_path) as system:
        # The gateway believes that the fulfiller would take it by now.
        strict, projector, gateway = system.fulfiller(MAX_SIZE_MB="500"), system.projector(), system.gateway()
        url, *_ = [await service.ready() for service in (gateway, strict, projector)]
        connection = await asyncpg.connect(system.settings.database_url.get_secret_value())
        operator = Operator(system, url, await keys.create(connection, Role.OPERATOR, "acme"))
        await connection.close()
        made = system.created()
        headers = tuple(binary_headers("OrderCreated", made.order_id, b"/tests", made.created_at))
        await system.write(json_value(made), made.order_id.encode(), headers=headers)
        await system.reached([made.order_id], "rejected")
        (first,) = await operator.letters(1)

        assert await operator.replay(first["id"]) == "replayed"
        second, old = await operator.letters(2)
        assert (second["error"], second["replayOf"]) == ("too_large", first["id"])
        assert old["replayed"]["failedAgain"] == second["id"]
        await system.reached([made.order_id], "rejected")

        await strict.stop()
        lenient = system.fulfiller()
        await lenient.ready()
        assert await operator.replay(second["id"]) == "replayed"
        await system.reached([made.order_id], "delivered")
        row = (await system.rows([made.order_id]))[made.order_id]
        assert (row["status"], row["error_code"], row["error_message"]) == ("success", None, None)

        # Whoever sends the same record once more changes nothing: the order is known.
        assert await operator.replay(second["id"], again=True) == "needless"
        await system.write(json_value(made), made.order_id.encode(), headers=headers)
        after = await system.order()
        await system.reached([after], "delivered")
        assert (await system.sandbox.ledger())[made.order_id]["deliveries"] == 1
        assert len(await operator.letters(2)) == 2
        rebuilt = system.start("services.projector", "rebuild")
        await until(lambda: rebuilt.exit_code is not None, "the rebuild")
        assert "the live view was the same, row for row" in rebuilt.log
