"""`make run` as a person sees it: the provider refuses everything, and that is said; it is well again, and that too."""

import asyncio
import os
import time
from pathlib import Path

import aiohttp
import pytest

from tests.processes import Processes, Service
from tests.waiting import until

_BUNDLE = {"network": "AT-iShare", "size": "1GB", "phoneNumber": "+233244100200"}
# The seconds that trouble must last before it is said come off the half minute.
_HOLDS_S = 3


@pytest.mark.timeout(240)
async def test_a_sandbox_that_refuses_everything_is_said_within_half_a_minute(tmp_path: Path) -> None:
    ports = {f"{name}PORT": "0" for name in ("", "KAFKA_", "POSTGRES_", "SANDBOX_", "HEALTH_")}
    given = {"PATH": os.environ["PATH"], "ALERT_DURATIONS": f"success_rate_1m={_HOLDS_S}s", "PYTHONUNBUFFERED": "1"}
    with Processes(tmp_path / "logs") as processes:
        local = processes.start(["services.local", "--data", str(tmp_path / ".data")], given | ports)
        await until(lambda: "\nready\n" in local.log or local.exit_code is not None, "services.local to be ready", 100)
        assert local.exit_code is None, local.log
        said = dict(line.split("=", 1) for line in (tmp_path / ".data" / "env").read_text().splitlines())
        monitor = next(line.split()[-1] for line in local.log.splitlines() if "monitor's metrics" in line)
        async with aiohttp.ClientSession(raise_for_status=True) as session:
            sandbox = f"http://127.0.0.1:{said['SANDBOX_PORT']}/faults"
            gateway = f"http://127.0.0.1:{said['PORT']}"
            began = time.monotonic()
            async with session.patch(sandbox, json={"busy": 1}):
                await buy(session, gateway, 6)
            await told(session, local, monitor, firing=True)
            assert time.monotonic() - began < 30 - (10 - _HOLDS_S)
            async with session.patch(sandbox, json={"busy": 0}):
                await buy(session, gateway, 60)
            await told(session, local, monitor, firing=False)
            await told_by_the_gateway(session, gateway)
        await local.stop()


async def buy(session: aiohttp.ClientSession, gateway: str, count: int) -> None:
    async def one() -> None:
        async with session.post(f"{gateway}/api/orders/purchase", json=_BUNDLE):
            pass

    await asyncio.gather(*(one() for _ in range(count)))


async def told(session: aiohttp.ClientSession, local: Service, metrics: str, *, firing: bool) -> None:
    """In the terminal, and in /metrics."""
    line = f"alert_{'raised' if firing else 'cleared'}"
    await until(lambda: any(line in one and "alert=success_rate_1m" in one for one in lines(local)), line, 30)
    figure = 'monitor_alert_firing{alert="success_rate_1m",severity="critical",subject="AT-iShare/at-ishare"} 1.0'

    async def shown() -> bool:
        async with session.get(metrics) as response:
            return (figure in await response.text()) == firing

    await until(shown, f"{figure}, or none", 10)


def lines(local: Service) -> list[str]:
    return [line for line in local.log.splitlines() if line.startswith("monitor")]


async def told_by_the_gateway(session: aiohttp.ClientSession, gateway: str) -> None:
    async with session.get(f"{gateway}/metrics") as response:
        assert 'gateway_alert_firing{alert="success_rate_1m"' not in await response.text()
