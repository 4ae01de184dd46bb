"""With every service as a process of its own; `make bulk` is the same with ten thousand orders."""

from pathlib import Path

import pytest

from tests.backend import Backend
from tests.gateway.bulk.trial import RETRY_DELAYS_S, holds, trial
from tests.stand import stand


@pytest.mark.asyncio(loop_scope="session")
async def test_a_gateway_killed_in_the_middle_leaves_every_order_retried_once(
    backend: Backend, migrated: str, tmp_path: Path
) -> None:
    async with stand(backend, migrated, tmp_path, retry_delays=RETRY_DELAYS_S) as system:
        figures, _ = await trial(system, 100, 50, within_s=60)
        assert holds(figures), str(figures)
