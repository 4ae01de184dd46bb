"""The sandbox on its port. aiohttp's low-level server: it stands in every benchmark's way, so it has no router."""

import asyncio
from contextlib import AsyncExitStack
from typing import Self

from aiohttp import web

from services.sandbox.control import Control
from services.sandbox.faults import Plan
from services.sandbox.ledger import Ledger
from services.sandbox.provider import SandboxProvider
from services.sandbox.settings import SandboxSettings

_GRACE_S = 1.0
"""For calls under way when the sandbox is stopped; the journal keeps what they leave unfinished."""


class Sandbox:
    """`async with Sandbox(settings) as sandbox:` serves until left; `sandbox.url` is where."""

    def __init__(self, settings: SandboxSettings) -> None:
        self._settings = settings
        self._stack = AsyncExitStack()
        self.port = settings.sandbox_port

    @property
    def url(self) -> str:
        return f"http://{self._settings.host}:{self.port}"

    async def __aenter__(self) -> Self:
        settings = self._settings
        plan = Plan(
            latency_s=settings.sandbox_latency_s,
            hang_s=settings.at_ishare_timeout_s + 1,
            seed=settings.sandbox_seed,
        )
        ledger = Ledger(settings.sandbox_balance_mb, settings.sandbox_ledger)
        provider = SandboxProvider(
            settings.at_ishare_api_key.get_secret_value(),
            settings.at_ishare_api_secret.get_secret_value(),
            ledger,
            plan,
        )
        self._stack.callback(provider.close)
        provider.lag.watch()
        control = Control(provider, plan)

        async def dispatch(request: web.BaseRequest) -> web.StreamResponse:
            if request.rel_url.raw_path.startswith("/v1/"):
                return await provider.handle(request)
            return await control.handle(request)

        server = web.Server(dispatch, access_log=None, keepalive_timeout=3600)
        self._stack.push_async_callback(server.shutdown, _GRACE_S)
        listener = await asyncio.get_running_loop().create_server(
            server, settings.host, settings.sandbox_port, backlog=1024
        )
        self._stack.callback(listener.close)
        self.port = listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()
