"""A provider's limits in whole parts, one a partition. Pure: times are passed in.

Each part is used by the partition's owner alone, and they add up to the limit: however many workers there are, whoever
dies, is frozen or comes back, all of them together keep within it.
"""

import math
from typing import Final

MARGIN: Final = 1.05
"""Calls are so much farther apart than they need be: on their way some come closer to the one before."""
SLACK_S: Final = 0.1
"""Slots may be taken so much earlier or later than the pace has it: turns are not evenly spaced, sends are."""


def part(limit: int, partition: int, partitions: int) -> int:
    """The whole-number part of a limit that is one partition's."""
    return limit // partitions + (partition < limit % partitions)


def spacing_s(rate_per_s: float, partition: int, partitions: int) -> float:
    """How far apart one partition's calls must be, so that no window of a second has more than the rate of all of them.

    Where the rate is below one a second and partition, the window is the time in which each has one.
    """
    window_s = max(1.0, partitions / rate_per_s)
    calls = max(math.floor(rate_per_s * window_s + 1e-9), partitions)
    return window_s / part(calls, partition, partitions) * MARGIN


class Pace:
    """Of one partition under one owner."""

    def __init__(self, spacing_s: float, begin_s: float) -> None:
        self._spacing_s = spacing_s
        # The last owner may have sent one just before.
        self._next_slot_s = begin_s + spacing_s
        self._next_send_s = self._next_slot_s

    def wait_s(self, now_s: float) -> float:
        """How long until the next slot may be taken; 0: it may now."""
        return max(self._next_slot_s - SLACK_S - now_s, 0.0)

    def take(self, now_s: float) -> None:
        self._next_slot_s = max(self._next_slot_s, now_s - SLACK_S) + self._spacing_s

    def send_wait_s(self, now_s: float) -> float:
        """How long until the next call may be sent; 0: it may now."""
        return max(self._next_send_s - now_s, 0.0)

    def send(self, now_s: float) -> None:
        self._next_send_s = now_s + self._spacing_s
