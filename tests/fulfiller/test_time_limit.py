"""The time limit of a call, in virtual time."""

import asyncio

import pytest

from services.fulfiller.time_limit import TimeLimit
from tests.fulfiller.stage import virtual


@virtual
async def test_what_takes_too_long_ends_with_a_timeout() -> None:
    began_s = asyncio.get_running_loop().time()
    with pytest.raises(TimeoutError), TimeLimit(3):
        await asyncio.sleep(60)
    assert asyncio.get_running_loop().time() - began_s == pytest.approx(3)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


@pytest.mark.parametrize("after_s", [0, -1])
@virtual
async def test_no_time_at_all_is_time_for_no_wait(after_s: float) -> None:
    with TimeLimit(after_s):
        done = 1
    with pytest.raises(TimeoutError), TimeLimit(after_s):
        await asyncio.sleep(1)
    assert done


@virtual
async def test_what_ends_in_time_is_left_alone_afterwards() -> None:
    with TimeLimit(3):
        await asyncio.sleep(2)
    await asyncio.sleep(60)


@virtual
async def test_an_error_of_its_own_goes_through() -> None:
    with pytest.raises(ValueError, match="own"), TimeLimit(3):
        raise ValueError("own")


@pytest.mark.parametrize("after_s", [1, 2])
@virtual
async def test_a_cancellation_from_elsewhere_goes_through_even_as_the_limit_is_reached(after_s: float) -> None:
    async def limited() -> None:
        with TimeLimit(2):
            await asyncio.sleep(60)

    task = asyncio.create_task(limited())
    # The limit's own timer comes first at 2 s, and both reach the task at once.
    asyncio.get_running_loop().call_later(after_s, lambda: asyncio.get_running_loop().call_soon(task.cancel))
    await asyncio.wait([task])
    assert task.cancelled()


@virtual
async def test_the_inner_of_two_limits_says_nothing_of_the_outer() -> None:
    inner = None
    try:
        with TimeLimit(2):
            try:
                with TimeLimit(5):
                    await asyncio.sleep(60)
            except TimeoutError:
                inner = "reached"
    except TimeoutError:
        assert inner is None
        return
    pytest.fail(f"the outer limit was not reached; the inner was {inner}")
