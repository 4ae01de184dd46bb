"""`/livez`, `/readyz` and `/metrics` of a service that serves nothing else."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import orjson
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest

METRICS_CONTENT_TYPE = CONTENT_TYPE_LATEST


class Readiness:
    """What a service depends on, and what is wrong with each now; nothing wrong with any: ready.

    What is only `mentioned` is shown, and keeps nobody from being ready.
    """

    def __init__(self, *dependencies: str) -> None:
        self._faults: dict[str, str | None] = dict.fromkeys(dependencies, "not reached yet")
        self._mentioned: dict[str, str | None] = {}

    def up(self, dependency: str) -> None:
        self._faults[dependency] = None

    def down(self, dependency: str, why: str) -> None:
        self._faults[dependency] = why

    def mention(self, name: str, why: str | None = None) -> None:
        self._mentioned[name] = why

    def forget(self, dependency: str) -> None:
        self._faults.pop(dependency, None)

    def __bool__(self) -> bool:
        return all(fault is None for fault in self._faults.values())

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return ((name, fault or "ok") for name, fault in (self._faults | self._mentioned).items())

    def response(self) -> web.Response:
        """200 or 503, and `{"ready": bool, "dependencies": {name: "ok" or what is wrong}}`."""
        body = orjson.dumps({"ready": bool(self), "dependencies": dict(self)})
        return web.Response(status=200 if self else 503, body=body, content_type="application/json")


def live_response() -> web.Response:
    return web.Response(body=b'{"live":true}', content_type="application/json")


def metrics_response() -> web.Response:
    return web.Response(body=generate_latest(REGISTRY), headers={"Content-Type": METRICS_CONTENT_TYPE})


@asynccontextmanager
async def serve_health(host: str, port: int, readiness: Readiness) -> AsyncIterator[int]:
    """Serve until left; yields the port, which matters where 0 was asked for."""

    async def livez(_: web.Request) -> web.Response:
        return live_response()

    async def readyz(_: web.Request) -> web.Response:
        return readiness.response()

    async def metrics(_: web.Request) -> web.Response:
        return metrics_response()

    app = web.Application()
    app.add_routes([web.get("/livez", livez), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
