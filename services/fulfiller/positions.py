"""How far a shard has read its inputs: kept beside its orders, written in the same transactions."""

from datetime import datetime
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

from services.fulfiller.log import Record

POSITIONS_KEY: Final = b"positions"
GENESIS_KEY: Final = b"genesis"
RESERVED_KEYS: Final = frozenset({POSITIONS_KEY, GENESIS_KEY})


class Genesis(BaseModel):
    """Written once, by the set-up: without it a partition of fulfillment.state is not new but lost."""

    model_config = ConfigDict(frozen=True, strict=True)

    version: Literal[1] = 1
    cluster_id: str
    partitions: int
    at: str


class LastRead(BaseModel):
    """Enough of an input's last record to see that it is still the same topic."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    offset: int
    timestamp: int
    key: str | None = None

    @classmethod
    def of(cls, record: Record) -> "LastRead":
        return cls(offset=record.offset, timestamp=record.timestamp, key=_text(record.key))

    def is_record(self, record: Record) -> bool:
        return (record.offset, record.timestamp, _text(record.key)) == (self.offset, self.timestamp, self.key)


def _text(key: bytes | None) -> str | None:
    return None if key is None else key[:64].decode("utf-8", "backslashreplace")


class Positions(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    version: Literal[1] = 1
    inputs: dict[str, LastRead] = {}
    appended_ms: int = 0
    """The latest LogAppendTime seen on orders.events: the clock by which orders are forgotten."""
    forgotten_before: datetime | None = None
