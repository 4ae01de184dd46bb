"""Which records make a batch where few come: those that tell of an outcome are applied at once, others with them."""

import math
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from schemas.fulfillment import FulfillmentAttempted, FulfillmentRequested
from schemas.topics import FULFILLMENT_EVENTS
from services.projector.spacing import BATCH_RECORDS

PATIENCE_S: Final = 0.02
"""For so long what tells of no outcome waits for something that does: a transaction saved for most orders."""
_BEGINNINGS: Final = frozenset({FulfillmentRequested.__name__.encode(), FulfillmentAttempted.__name__.encode()})

Poll = Callable[[int], Awaitable[list[Any]]]
"""What has come within so many milliseconds, as soon as something has; nothing where the partitions were lost."""


async def gather(poll: Poll, timeout_ms: int, prefix: str) -> list[Any]:
    """Read a batch: nothing where nothing comes in time."""
    records = await poll(timeout_ms)
    newest: Sequence[Any] = records
    until_s = time.monotonic() + PATIENCE_S
    while newest and len(records) < BATCH_RECORDS and not any(_tells_of_an_outcome(one, prefix) for one in newest):
        left_s = until_s - time.monotonic()
        if left_s <= 0:
            break
        newest = await poll(math.ceil(1000 * left_s))
        records += newest
    return records


def _tells_of_an_outcome(record: Any, prefix: str) -> bool:
    if record.topic != prefix + FULFILLMENT_EVENTS:
        return False
    return all(name != "ce_type" or value not in _BEGINNINGS for name, value in record.headers)
