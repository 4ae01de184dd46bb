"""`python -m services.projector` keeps the view up with the log; `… rebuild` makes it anew beside the live one."""

import asyncio
import contextlib
import gc

import typer

from services.run import announce_ready, run
from services.settings import Settings, settings

_HEALTH_PORT = 9102

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    from services.health import Readiness, serve_health
    from services.projector.projector import Projector

    readiness = Readiness("kafka", "postgres")
    port = _HEALTH_PORT if settings.health_port is None else settings.health_port
    async with serve_health(settings.host, port, readiness) as bound:
        projector = Projector(settings, readiness)
        announcement = asyncio.create_task(_announce(projector.ready, f"health on http://{settings.host}:{bound}"))
        try:
            await projector.run(stop)
        finally:
            announcement.cancel()


async def _announce(ready: asyncio.Event, detail: str) -> None:
    await ready.wait()
    announce_ready("projector", detail)


async def rebuild_or_stop(settings: Settings, stop: asyncio.Event) -> None:
    from rich.console import Console

    from services.projector.rebuild import rebuild

    work = asyncio.create_task(rebuild(settings, Console(stderr=True)))
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait([work, stopped], return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not work.done():
        work.cancel()
    with contextlib.suppress(asyncio.CancelledError):  # asked to stop: the live view is as it was
        print("\n".join((await work).lines()))


@app.callback(invoke_without_command=True)
def main(context: typer.Context) -> None:
    """Keep the view up with the log, until SIGTERM."""
    # A batch is thousands of short-lived objects and no cycle: looking for cycles took an eighth of the time.
    gc.set_threshold(50_000, 20, 20)
    if context.invoked_subcommand is None:
        run(serve, settings())


@app.command("rebuild")
def rebuild_command() -> None:
    """Make the view anew from the log, beside the live one, and swap them."""
    run(rebuild_or_stop, settings())


if __name__ == "__main__":
    app()
