from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest

from services.fulfiller.providers.at_ishare import AtIShare
from services.sandbox.server import Sandbox
from services.sandbox.settings import SandboxSettings


class Bench:
    """A sandbox on a free port, the adapter that talks to it, and the sandbox's control calls."""

    def __init__(self, sandbox: Sandbox, adapter: AtIShare, control: aiohttp.ClientSession) -> None:
        self.url = sandbox.url
        self.adapter = adapter
        self._control = control

    async def ledger(self) -> dict[str, Any]:
        return await self.call("GET", "/ledger")

    async def deliveries(self, reference: str) -> int:
        return int((await self.ledger())["deliveries"].get(reference, 0))

    async def change(self, **faults: Any) -> None:
        await self.call("PATCH", "/faults", faults)

    async def reach(self, kind: str, at_least: int, reference: str | None = None) -> None:
        named = f"&reference={reference}" if reference else ""
        await self.call("GET", f"/calls?kind={kind}&at_least={at_least}{named}")

    async def call(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        async with self._control.request(method, self.url + path, json=body) as response:
            assert response.status == 200, await response.text()
            return dict(await response.json())


MakeBench = Callable[..., Any]


@pytest.fixture
async def make_bench() -> AsyncIterator[MakeBench]:
    async with AsyncExitStack() as stack:

        async def make(**settings: Any) -> Bench:
            given = {"sandbox_port": 0, "sandbox_latency_s": 0.0, "at_ishare_timeout_s": 5.0, **settings}
            sandbox = await stack.enter_async_context(Sandbox(SandboxSettings(**given)))
            control = await stack.enter_async_context(aiohttp.ClientSession())
            adapter = await AtIShare.start(SandboxSettings(**given, at_ishare_api_url=f"{sandbox.url}/v1"))
            stack.push_async_callback(adapter.close)
            return Bench(sandbox, adapter, control)

        yield make


@pytest.fixture
async def bench(make_bench: MakeBench) -> Bench:
    made: Bench = await make_bench()
    return made
