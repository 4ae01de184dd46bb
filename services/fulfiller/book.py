"""Every order of a shard: the open ones whole, the finished ones packed, until they may be forgotten."""

import struct
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from schemas.bundle import NETWORKS
from services.fulfiller.order import FORGETTABLE, Order, State, dump_order, load_order

_STATES: Final = tuple(State)
_PACKED: Final = struct.Struct("<BBBIIQq")
"""State, network, attempts, sequence, megabytes, phone, end in unix milliseconds: what answers a later command or a
repeated OrderCreated. The provider and its ids are of no more use."""


def _key(order_id: str) -> bytes:
    return bytes.fromhex(order_id.replace("-", ""))


def _pack(order: Order) -> bytes:
    if order.ended_at is None:
        raise ValueError(f"order {order.order_id} is {order.state} without an end")
    return _PACKED.pack(
        _STATES.index(order.state),
        NETWORKS.index(order.network),
        order.attempts,
        order.sequence,
        order.size_mb,
        int(order.phone_number[1:]),
        round(order.ended_at.timestamp() * 1000),
    )


def _unpack(order_id: str, packed: bytes) -> Order:
    state, network, attempts, sequence, size_mb, phone, ended_ms = _PACKED.unpack(packed)
    return Order(
        order_id=order_id,
        phone_number=f"+{phone}",
        size_mb=size_mb,
        network=NETWORKS[network],
        state=_STATES[state],
        sequence=sequence,
        attempts=attempts,
        ended_at=datetime.fromtimestamp(ended_ms / 1000, UTC),
    )


def _ended_ms(packed: bytes) -> int:
    ended_ms: int = _PACKED.unpack(packed)[-1]
    return ended_ms


class Book:
    def __init__(self) -> None:
        self._open: dict[str, Order] = {}
        self._remembered: dict[bytes, bytes] = {}
        """Delivered and cancelled: packed. Failed: as in fulfillment.state, for a person may retry them."""
        self._held: set[str] = set()
        self._endings: deque[bytes] = deque()
        """The forgettable ones' keys, in the order of their ends."""
        self._moved: set[bytes] = set()
        """Those whose end a late command has moved since."""

    def get(self, order_id: str) -> Order | None:
        order = self._open.get(order_id)
        if order is not None:
            return order
        kept = self._remembered.get(_key(order_id))
        if kept is None:
            return None
        return _unpack(order_id, kept) if len(kept) == _PACKED.size else load_order(kept)

    def put(self, order: Order) -> None:
        if order.state is State.HELD:
            self._held.add(order.order_id)
        else:
            self._held.discard(order.order_id)
        if order.is_open:
            self._open[order.order_id] = order
            self._remembered.pop(_key(order.order_id), None)
            return
        self._open.pop(order.order_id, None)
        key = _key(order.order_id)
        if order.state in FORGETTABLE:
            if key in self._remembered:
                self._moved.add(key)
            else:
                self._endings.append(key)
            self._remembered[key] = _pack(order)
        else:
            self._remembered[key] = dump_order(order)

    def open_orders(self) -> Iterator[Order]:
        return iter(self._open.values())

    def counts(self) -> dict[str, int]:
        return {"open": len(self._open), "held": len(self._held), "remembered": len(self._remembered)}

    def sort_endings(self) -> None:
        """After loading, which is in no order."""
        self._endings = deque(sorted(self._endings, key=lambda key: _ended_ms(self._remembered[key])))
        self._moved.clear()

    def forget(self, before: datetime, at_most: int) -> list[str]:
        """Drop orders that ended before, oldest first; their ids."""
        before_ms = before.timestamp() * 1000
        forgotten: list[str] = []
        while self._endings and len(forgotten) < at_most:
            key = self._endings[0]
            ended_ms = _ended_ms(self._remembered[key])
            if ended_ms >= before_ms and key not in self._moved:
                break
            self._endings.popleft()
            self._moved.discard(key)
            if ended_ms >= before_ms:
                self._endings.append(key)  # or it would keep those behind it in mind
                continue
            del self._remembered[key]
            forgotten.append(str(UUID(bytes=key)))
        return forgotten
