"""POST /api/orders/purchase: an order is accepted once Kafka has it."""

import math
import re
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Final

from aiohttp import web
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema

from schemas import ids
from schemas.bundle import NETWORKS, canonical_network, canonical_phone, canonical_size_mb, spoken_size
from schemas.cloudevents import binary_headers, json_value
from schemas.orders import OrderCreated
from schemas.topics import ORDERS_EVENTS
from services.crashpoints import crashpoint
from services.gateway import body, preferences
from services.gateway.access import Caller
from services.gateway.claims import Claims, Standing
from services.gateway.problem import INVALID_REQUEST, KEY_REUSED, UNDER_WAY, Problem, unavailable
from services.gateway.writer import NotWrittenError, Writer
from services.settings import Settings

SOURCE: Final = b"/gateway"
STATUS_PATH: Final = "/api/orders/fulfillment"
_TRACEPARENT = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)


def _spoken(**schema: Any) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", **schema})


# "0.5GB" to "100GB", "1MB" to "100000MB": MAX_SIZE_MB may be set otherwise.
_SIZE: Final = WithJsonSchema(
    {
        "anyOf": [
            {
                "type": "string",
                "pattern": r"^((0\.[1-9][0-9]{0,2}|[1-9][0-9]?(\.[0-9]{1,3})?|100) ?GB|[1-9][0-9]{0,4} ?MB)$",
            },
            {"type": "number", "description": "Gigabytes.", "minimum": 0.5, "maximum": 100, "multipleOf": 0.5},
        ]
    }
)
_PRICE: Final = WithJsonSchema({"type": "number", "minimum": 0, "maximum": 99_999_999, "multipleOf": 0.01})


class Purchase(BaseModel):
    """The body. `size`: "1GB", "1.5GB", "500MB", or a bare number of gigabytes. Other fields are passed over."""

    model_config = ConfigDict(
        strict=True,
        frozen=True,
        json_schema_extra={
            "examples": [{"network": "AT-iShare", "size": "1GB", "phoneNumber": "+233123456789", "price": 5.5}]
        },
    )

    # The schemas say what to write. What else is understood (`airteltigo`, `024 412-3456`) is a kindness, no promise.
    network: Annotated[str, AfterValidator(canonical_network), _spoken(enum=[*NETWORKS])]
    size_mb: Annotated[Any, AfterValidator(canonical_size_mb), _SIZE] = Field(alias="size")
    phone_number: Annotated[str, AfterValidator(canonical_phone), _spoken(pattern=r"^(\+?233|0)?[1-9][0-9]{8}$")] = (
        Field(alias="phoneNumber")
    )
    price: Annotated[Decimal, Field(strict=False, ge=0, max_digits=12, decimal_places=4), _PRICE] | None = None
    package_id: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")] | None = Field(
        default=None, alias="packageId"
    )


class Purchases:
    def __init__(
        self,
        settings: Settings,
        writer: Writer,
        claims: Claims,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._max_size_mb = settings.max_size_mb
        self._writer = writer
        self._claims = claims
        self._now = now

    async def purchase(self, request: web.Request, caller: Caller) -> web.Response:
        key = _idempotency_key(request)
        bought = await body.read(request, Purchase)
        return accepted(await self.buy(bought, caller, key, _traceparent(request)))

    async def buy(self, bought: Purchase, caller: Caller, key: str | None, trace: bytes | None = None) -> OrderCreated:
        """The order, which is in the log on return; with a key, the same one each time. Problem 400, 409, 422, 503."""
        if bought.size_mb > self._max_size_mb:
            raise Problem(INVALID_REQUEST, f"size: at most {spoken_size(self._max_size_mb)} in one order")
        order = OrderCreated(
            order_id=str(uuid.uuid4()) if key is None else ids.order_id(caller.account, key),
            phone_number=bought.phone_number,
            network=bought.network,
            size_mb=bought.size_mb,
            created_at=self._now(),
            price=bought.price,
            package_id=bought.package_id,
            account=caller.account,
        )
        if key is not None:
            return await self._once(caller.account, key, order, trace)
        await self._write(order, trace)
        return order

    async def _once(self, account: str, key: str, order: OrderCreated, trace: bytes | None) -> OrderCreated:
        """The order that the key stands for, which is in the log on return."""
        claim = await self._claims.claim(account, key, order)
        match claim.standing:
            case Standing.DONE:
                return claim.order
            case Standing.OTHER_PURCHASE:
                raise Problem(
                    KEY_REUSED, "Idempotency-Key: it stands for another purchase; take a new key for this one"
                )
            case Standing.UNDER_WAY:
                retry_after_s = max(1, math.ceil(claim.fresh_for_s))
                raise Problem(
                    UNDER_WAY,
                    "the first request with this Idempotency-Key is still under way; repeat this one a little later",
                    headers={"Retry-After": str(retry_after_s)},
                )
            case Standing.UNCLAIMED:
                await self._write(claim.order, trace)
            case Standing.OURS:
                try:
                    await self._write(claim.order, trace)
                except Problem:
                    await self._claims.release(account, key)
                    raise
                await self._claims.settle(account, key)
        return claim.order

    async def _write(self, order: OrderCreated, trace: bytes | None) -> None:
        headers = binary_headers("OrderCreated", order.order_id, SOURCE, order.created_at, trace)
        crashpoint("gateway.before_produce")
        try:
            await self._writer.append(ORDERS_EVENTS, order.order_id, json_value(order), headers)
        except NotWrittenError as error:
            raise not_written(error, "the order") from error
        crashpoint("gateway.after_ack")


def not_written(error: NotWrittenError, what: str) -> Problem:
    """503, which says whether it may have been written all the same."""
    if error.maybe_written:
        return unavailable(
            f"Kafka did not acknowledge in time: {what} may or may not have been accepted. "
            "Repeat the request with the same Idempotency-Key, if it had one; that is safe"
        )
    return unavailable(f"Kafka is away: {what} was not accepted")


def accepted(order: OrderCreated) -> web.Response:
    return body.json_response(
        {
            "success": True,
            "message": "Order accepted; its bundle is on the way",
            "order": {
                "id": order.order_id,
                "network": order.network,
                "size": spoken_size(order.size_mb),
                "size_mb": order.size_mb,
                "phone_number": order.phone_number,
                "price": order.price,
                "status": "pending",
                "fulfillment_status": "pending",
                "created_at": order.created_at,
            },
        },
        status=202,
        headers={"Location": f"{STATUS_PATH}?orderId={order.order_id}"},
    )


def _idempotency_key(request: web.Request) -> str | None:
    try:
        return preferences.idempotency_key(request.headers.getall("Idempotency-Key", ()))
    except ValueError as error:
        raise Problem(INVALID_REQUEST, str(error)) from None


def _traceparent(request: web.Request) -> bytes | None:
    value = request.headers.get("traceparent", "")
    return value.encode() if _TRACEPARENT.fullmatch(value) else None
