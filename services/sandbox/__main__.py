"""`python -m services.sandbox`: a stand-in provider on real HTTP, with faults to order and a ledger."""

import asyncio
import signal
import sys

import uvloop

from services.sandbox.server import Sandbox
from services.sandbox.settings import SandboxSettings
from services.settings import load


async def run(settings: SandboxSettings) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with Sandbox(settings) as sandbox:
        print(f"sandbox ready on {sandbox.url}", flush=True)
        await stopped.wait()


def main() -> None:
    settings = load(SandboxSettings)
    try:
        uvloop.run(run(settings))
    except OSError as error:
        print(f"setting SANDBOX_PORT: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
