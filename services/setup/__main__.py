"""`python -m services.setup`: the database's schema, the topics and the genesis records, on the operator's own."""

import asyncio
import contextlib
import logging

from services.run import run
from services.settings import Settings, settings
from services.setup.setup import set_up


async def main(settings: Settings, stop: asyncio.Event) -> None:
    # What matters of what the client says is raised too, and then told in one line.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    work = asyncio.create_task(set_up(settings))
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait([work, stopped], return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not work.done():
        work.cancel()
    with contextlib.suppress(asyncio.CancelledError):  # asked to stop: a repetition goes on from here
        print("\n".join((await work).lines()))


if __name__ == "__main__":
    run(main, settings())
