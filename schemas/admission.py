"""Which OrderCreated are taken up. Pure; ages are compared with the record's LogAppendTime, never with a clock."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from schemas.ids import canonical_uuid
from schemas.orders import OrderCreated
from schemas.poison import MAX_RECORD_BYTES, PoisonError, PoisonKind

MAX_AHEAD: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Admission:
    dedupe_window: timedelta
    max_size_mb: int

    def check(self, created: OrderCreated, appended_at: datetime, forgotten_before: datetime | None) -> None:
        """PoisonError where the order must not be made: it might be a replay of one long delivered."""
        if created.size_mb > self.max_size_mb:
            raise PoisonError(PoisonKind.TOO_LARGE, f"{created.size_mb} MB is more than MAX_SIZE_MB={self.max_size_mb}")
        if created.created_at > appended_at + MAX_AHEAD:
            raise PoisonError(PoisonKind.FUTURE, f"created_at {created.created_at.isoformat()} lies in the future")
        if created.created_at < appended_at - self.dedupe_window:
            raise PoisonError(PoisonKind.STALE, f"created_at {created.created_at.isoformat()} is before DEDUPE_WINDOW")
        if forgotten_before is not None and created.created_at < forgotten_before:
            raise PoisonError(
                PoisonKind.STALE, f"created_at {created.created_at.isoformat()} is before what is still remembered"
            )


def check_record_size(size: int) -> None:
    """PoisonError for `size` bytes of key, value and headers that are too many to be read, or to be sent on."""
    if size > MAX_RECORD_BYTES:
        raise PoisonError(PoisonKind.SCHEMA, f"the record has {size} bytes, more than {MAX_RECORD_BYTES}")


def check_key(key: bytes | None, order_id: str) -> None:
    """PoisonError where a record's key names another order than its value; a key that names no order is taken."""
    if key is None:
        return
    try:
        named = canonical_uuid(key.decode("ascii"))
    except ValueError:
        return
    if named != order_id:
        raise PoisonError(PoisonKind.KEY, f"the record's key names order {named}, its value {order_id}")
