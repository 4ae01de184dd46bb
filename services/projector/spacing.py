"""How far apart batches are begun, so that the projector does not spend its time on small ones. Pure.

What comes after a pause is applied at once. What comes thick is gathered: a transaction of one record costs as much as
one of twenty, and a row that changes three times in a batch is written once.
"""

from typing import Final

BATCH_RECORDS: Final = 2000
SPACING_S: Final = 0.002
THICK_RECORDS_PER_S: Final = 2000
THICK_RECORDS: Final = 500
"""So many above that rate are more than a few orders at once."""
THICK_SPACING_S: Final = 0.1


class Spacing:
    def __init__(self) -> None:
        self._at_s = 0.0
        self._above = 0.0
        """A bucket that leaks at the rate from which records come thick; never so full that it takes long to empty."""
        self._next_s = 0.0

    def took(self, records: int, now_s: float) -> None:
        """A batch was begun."""
        leaked = THICK_RECORDS_PER_S * (now_s - self._at_s)
        self._at_s = now_s
        self._above = min(max(self._above - leaked, 0.0) + records, 2 * THICK_RECORDS)
        wait_s = THICK_SPACING_S if self._above > THICK_RECORDS else SPACING_S
        self._next_s = now_s if records >= BATCH_RECORDS else now_s + wait_s

    def wait_s(self, now_s: float) -> float:
        """Until the next batch may be begun."""
        return max(self._next_s - now_s, 0.0)
