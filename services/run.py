"""The run loop of a service: its event loop, its signals, its one line when ready, its exit code."""

import asyncio
import gc
import signal
import sys
from collections.abc import Awaitable, Callable

import structlog

from services import logs
from services.settings import Settings

_GC_THRESHOLDS = (100_000, 5, 10)
"""Objects that stay (orders, rows) are many, cycles are few, and one look for them stops everything for 10 to 25 ms:
to look as often as Python does by default costs a tenth of a service's time, and more the more it holds."""

Main = Callable[[Settings, asyncio.Event], Awaitable[None]]
log = structlog.get_logger()


class Refusal(Exception):  # noqa: N818 - it is not an error of ours but an answer to a wrong set-up
    """The service cannot do its work here, and waiting will not mend it. The message is the one line shown."""


def announce_ready(service: str, detail: str) -> None:
    """Print the one line that says that the service is ready."""
    print(f"{service} ready: {detail}", flush=True)  # noqa: T201 - a promise to scripts, on standard output


def run(main: Main, settings: Settings) -> None:
    """Run `main` until it returns; SIGTERM and SIGINT set the event that asks it to.

    A Refusal ends the process with its line on standard error and exit code 1.
    """
    logs.configure(settings)
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_until_stopped(main, settings))
    except Refusal as refusal:
        print(refusal, file=sys.stderr)  # noqa: T201 - one clear line for whoever started it
        raise SystemExit(1) from None
    except OSError as error:
        print(f"cannot start: {error}", file=sys.stderr)  # noqa: T201 - as above; a taken port, mostly
        raise SystemExit(1) from None


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop


async def _until_stopped(main: Main, settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, stop.set)
    await main(settings, stop)
