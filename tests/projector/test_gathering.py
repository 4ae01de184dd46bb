"""What tells of no outcome waits a moment for what does, and no longer."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from schemas.fulfillment import FulfillmentAttempted, FulfillmentFailed, FulfillmentRequested, FulfillmentSucceeded
from schemas.topics import FULFILLMENT_DEAD_LETTER, FULFILLMENT_EVENTS, ORDERS_EVENTS
from services.projector.gathering import PATIENCE_S, gather
from services.projector.spacing import BATCH_RECORDS

PREFIX = "p."


@dataclass(frozen=True)
class Read:
    topic: str
    headers: Sequence[tuple[str, bytes | None]] = ()


def event(kind: type) -> Read:
    return Read(PREFIX + FULFILLMENT_EVENTS, [("ce_specversion", b"1.0"), ("ce_type", kind.__name__.encode())])


ORDER = Read(PREFIX + ORDERS_EVENTS)
LETTER = Read(PREFIX + FULFILLMENT_DEAD_LETTER)
REQUESTED, ATTEMPTED = event(FulfillmentRequested), event(FulfillmentAttempted)


@dataclass
class Log:
    """Polls bring these one after the other; when there are no more, each takes the time that it is given."""

    polls: list[list[Read]]
    given_ms: list[int] = field(default_factory=list)

    async def poll(self, timeout_ms: int) -> list[Read]:
        self.given_ms.append(timeout_ms)
        if self.polls:
            return self.polls.pop(0)
        await asyncio.sleep(timeout_ms / 1000)
        return []

    async def gather(self) -> list[Read]:
        return await gather(self.poll, 200, PREFIX)


@pytest.mark.parametrize(
    "telling", [event(FulfillmentSucceeded), event(FulfillmentFailed), Read(PREFIX + FULFILLMENT_EVENTS)]
)
async def test_what_tells_of_an_outcome_is_applied_at_once_and_all_before_it_too(telling: Read) -> None:
    log = Log([[ORDER], [REQUESTED, ATTEMPTED], [LETTER, telling], [ORDER]])
    assert await log.gather() == [ORDER, REQUESTED, ATTEMPTED, LETTER, telling]
    assert log.polls == [[ORDER]]


async def test_what_tells_of_none_waits_for_a_moment() -> None:
    log = Log([[ORDER], [REQUESTED]])
    began_s = time.monotonic()
    assert await log.gather() == [ORDER, REQUESTED]
    assert time.monotonic() - began_s >= PATIENCE_S
    assert log.given_ms[0] == 200
    assert max(log.given_ms[1:]) <= 1000 * PATIENCE_S


async def test_a_batch_that_is_full_waits_for_nothing() -> None:
    log = Log([[ORDER] * (BATCH_RECORDS - 1), [ORDER], [ORDER]])
    assert len(await log.gather()) == BATCH_RECORDS
    assert log.polls == [[ORDER]]


async def test_where_nothing_comes_nothing_is_waited_for() -> None:
    log = Log([[], [ORDER]])
    assert await log.gather() == []
    assert log.given_ms == [200]
