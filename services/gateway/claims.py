"""Idempotency-Keys: who claimed one first, for which purchase, and what became of it."""

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto
from typing import Final

import asyncpg
import structlog

from schemas.cloudevents import json_value
from schemas.orders import OrderCreated
from services.gateway.database import Database, DatabaseAwayError

FRESH: Final = timedelta(seconds=30)
"""For how long the first of two equal requests is taken to be still at work."""
LIFE: Final = timedelta(hours=24)

# A purchase does not wait for a database that is not well.
_TIMEOUT_S: Final = 1.0

log = structlog.get_logger()


class Standing(Enum):
    """What a claim came to."""

    OURS = auto()
    """Write `order`: as first made, if somebody died over it."""
    DONE = auto()
    """Answer `order`; it is in the log."""
    UNDER_WAY = auto()
    OTHER_PURCHASE = auto()
    UNCLAIMED = auto()
    """PostgreSQL is away: write `order`; the derived order id keeps a repeat harmless."""


@dataclass(frozen=True, slots=True)
class Claim:
    standing: Standing
    order: OrderCreated
    fresh_for_s: float = 0.0


def fingerprint(order: OrderCreated) -> bytes:
    """Of what is bought; the time of the request is no part of it, nor is the spelling of the size."""
    price = None if order.price is None else f"{order.price.normalize():f}"
    bought = (order.phone_number, order.size_mb, order.network, price, order.package_id)
    return hashlib.sha256(repr(bought).encode()).digest()


class Claims:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, account: str, key: str, order: OrderCreated) -> Claim:
        try:
            claimed = await self._database.fetchrow(
                "claim",
                account,
                key,
                fingerprint(order),
                json_value(order),
                order.order_id,
                FRESH.total_seconds(),
                timeout_s=_TIMEOUT_S,
            )
            if claimed is not None:
                return Claim(Standing.OURS, OrderCreated.model_validate_json(claimed["event"]))
            earlier = await self._database.fetchrow(
                "earlier", account, key, order.order_id, FRESH.total_seconds(), timeout_s=_TIMEOUT_S
            )
        except DatabaseAwayError:
            return Claim(Standing.UNCLAIMED, order)
        return _judged(order, earlier)

    async def settle(self, account: str, key: str) -> None:
        await self._update("settle_claim", account, key)

    async def release(self, account: str, key: str) -> None:
        await self._update("release_claim", account, key)

    async def forget(self) -> None:
        """Those that have had their life."""
        try:
            await self._database.fetchrow("forget_claims", LIFE.total_seconds(), timeout_s=60)
        except DatabaseAwayError as error:
            log.info("claims_not_forgotten", error=str(error))  # an hour later they are

    async def _update(self, name: str, account: str, key: str) -> None:
        try:
            await self._database.fetchrow(name, account, key, timeout_s=_TIMEOUT_S)
        except DatabaseAwayError as error:
            # The claim goes stale, and a repeat writes the same bytes once more.
            log.info("claim_left_stale", error=str(error))


def _judged(order: OrderCreated, earlier: asyncpg.Record | None) -> Claim:
    """By what is known of the key; where that went in between, as if PostgreSQL were away."""
    first = None if earlier is None else _first(earlier)
    if earlier is None or first is None:
        return Claim(Standing.UNCLAIMED, order)
    if fingerprint(first) != fingerprint(order):
        return Claim(Standing.OTHER_PURCHASE, first)
    if earlier["done"] or earlier["order_id"] is not None:
        return Claim(Standing.DONE, first)
    return Claim(Standing.UNDER_WAY, first, earlier["fresh_for_s"])


def _first(earlier: asyncpg.Record) -> OrderCreated | None:
    """The purchase as the key's first request had it."""
    if earlier["event"] is not None:
        return OrderCreated.model_validate_json(earlier["event"])
    if earlier["order_id"] is None:
        return None
    names = ("order_id", "network", "size_mb", "phone_number", "price", "package_id", "created_at")
    return OrderCreated.model_validate({name: earlier[name] for name in names})
