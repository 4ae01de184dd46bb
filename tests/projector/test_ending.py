import asyncio

import pytest

from services.projector.projector import _within


async def test_a_fetch_that_the_client_cancelled_itself_does_not_end_the_projector() -> None:
    """aiokafka's `stop` cancels a fetch that waits to try again, awaits it, and lets its CancelledError out."""

    async def stop() -> None:
        fetch = asyncio.create_task(asyncio.sleep(60))
        await asyncio.sleep(0)
        fetch.cancel()
        await fetch

    await _within(1.0, stop())


async def test_being_cancelled_ends_it() -> None:
    ending = asyncio.create_task(_within(60.0, asyncio.sleep(60)))
    await asyncio.sleep(0)
    ending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ending
