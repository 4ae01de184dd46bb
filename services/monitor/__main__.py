"""`python -m services.monitor` watches the statistics until SIGTERM."""

import asyncio

from services.run import announce_ready, run
from services.settings import Settings, settings

_HEALTH_PORT = 9103


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    from services.health import Readiness, serve_health
    from services.monitor.monitor import Monitor
    from services.monitor.webhook import webhook

    readiness = Readiness("kafka")
    port = _HEALTH_PORT if settings.health_port is None else settings.health_port
    monitor = Monitor(settings, readiness)
    async with serve_health(settings.host, port, readiness) as bound, webhook(settings, readiness):
        announcement = asyncio.create_task(_announce(monitor.ready, f"health on http://{settings.host}:{bound}"))
        try:
            await monitor.run(stop)
        finally:
            announcement.cancel()


async def _announce(ready: asyncio.Event, detail: str) -> None:
    await ready.wait()
    announce_ready("monitor", detail)


if __name__ == "__main__":
    run(serve, settings())
