"""What the order calls answer, as models, and what the OpenAPI document says of them.

The handlers build their answers by hand, which is cheaper; the contract's tests hold them to these models.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from schemas.bundle import NETWORKS
from schemas.ids import log_id
from schemas.orders import Uuid
from services.gateway.description import (
    EXAMPLE_ORDER,
    IDEMPOTENCY_KEY,
    IF_NONE_MATCH,
    PREFER,
    Description,
    Reply,
)
from services.gateway.fulfillment import Act
from services.gateway.problem import CONFLICT, DELIVERY_FAILED, KEY_REUSED, UNDER_WAY, UNKNOWN_ORDER
from services.gateway.purchase import Purchase

PROMETHEUS: Final = "text/plain"
"""With a version behind it."""

Status = Literal["pending", "processing", "success", "failed"]
State = Literal[
    "received", "created", "held", "attempting", "accepted", "unknown", "review", "waiting", "settling",
    "delivered", "failed", "cancelled", "rejected",
]  # fmt: skip
Network = Annotated[str, Field(json_schema_extra={"enum": [*NETWORKS]})]
Phone = Annotated[str, Field(pattern=r"^\+233[1-9][0-9]{8}$")]


def _example(**members: Any) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [members]})


class AcceptedOrder(BaseModel):
    id: Uuid
    network: Network
    size: Annotated[str, Field(pattern=r"^[0-9.]+(GB|MB)$")]
    size_mb: Annotated[int, Field(ge=1)]
    phone_number: Phone
    price: float | None
    status: Literal["pending"]
    fulfillment_status: Literal["pending"]
    created_at: AwareDatetime


class Accepted(BaseModel):
    """Kafka has the order."""

    model_config = _example(
        success=True,
        message="Order accepted; its bundle is on the way",
        order={
            "id": EXAMPLE_ORDER,
            "network": "AT-iShare",
            "size": "1GB",
            "size_mb": 1000,
            "phone_number": "+233123456789",
            "price": 5.5,
            "status": "pending",
            "fulfillment_status": "pending",
            "created_at": "2026-01-31T12:00:00Z",
        },
    )

    success: Literal[True]
    message: str
    order: AcceptedOrder


class Delivered(BaseModel):
    order_id: Uuid = Field(alias="orderId")
    status: Literal["success"]
    reference: str | None = Field(description="What the provider knows the delivery by.")


class Outcome(BaseModel):
    """The bundle is delivered."""

    model_config = _example(
        success=True,
        message="The bundle is delivered",
        fulfillment={"orderId": EXAMPLE_ORDER, "status": "success", "reference": EXAMPLE_ORDER},
    )

    success: Literal[True]
    message: str
    fulfillment: Delivered


class Running(BaseModel):
    order_id: Uuid = Field(alias="orderId")
    status: Status


class OnItsWay(BaseModel):
    """Nothing is decided yet."""

    model_config = _example(
        success=True,
        message="The order is on its way",
        fulfillment={"orderId": EXAMPLE_ORDER, "status": "processing"},
    )

    success: Literal[True]
    message: str
    fulfillment: Running


class FulfillmentRow(BaseModel):
    """A row of fulfillment_logs."""

    id: Uuid
    order_id: Uuid
    network: str
    phone_number: str
    status: Status
    attempt_number: Annotated[int, Field(ge=0)]
    max_attempts: Annotated[int, Field(ge=0)]
    api_response: Any = Field(description="What the provider said last.")
    error_message: str | None
    retry_after: AwareDatetime | None = Field(description="When the next attempt is due.")
    fulfilled_at: AwareDatetime | None
    created_at: AwareDatetime
    updated_at: AwareDatetime
    size_mb: int
    price: float | None
    package_id: str | None
    account: str | None
    provider: str | None
    state: State
    sequence: Annotated[int, Field(ge=0)] = Field(description="Of the last event; 0: received, nothing decided.")
    reference: str | None
    trigger: str | None
    transaction_id: str | None
    error_code: str | None
    next_act: str | None
    next_at: AwareDatetime | None
    schedule_id: int | None
    command_id: Uuid | None
    command_rejected: str | None
    quarantined: bool


class Fulfillment(BaseModel):
    """The order as the view has it now."""

    model_config = _example(
        success=True,
        fulfillment={
            "id": log_id(EXAMPLE_ORDER),
            "order_id": EXAMPLE_ORDER,
            "network": "AT-iShare",
            "phone_number": "+233123456789",
            "status": "success",
            "attempt_number": 1,
            "max_attempts": 3,
            "api_response": {"success": True, "status": "success"},
            "error_message": None,
            "retry_after": None,
            "fulfilled_at": "2026-01-31T12:00:01Z",
            "created_at": "2026-01-31T12:00:00Z",
            "updated_at": "2026-01-31T12:00:01Z",
            "size_mb": 1000,
            "price": 5.5,
            "package_id": None,
            "account": "local",
            "provider": "at-ishare",
            "state": "delivered",
            "sequence": 3,
            "reference": EXAMPLE_ORDER,
            "trigger": "auto",
            "transaction_id": "TX-1",
            "error_code": None,
            "next_act": None,
            "next_at": None,
            "schedule_id": None,
            "command_id": None,
            "command_rejected": None,
            "quarantined": False,
        },
    )

    success: Literal[True]
    fulfillment: FulfillmentRow


class OneOrder(BaseModel):
    order_id: Uuid = Field(alias="orderId", description="The order.", examples=[EXAMPLE_ORDER])


class Live(BaseModel):
    model_config = _example(live=True)

    live: Literal[True]


class Ready(BaseModel):
    model_config = _example(ready=True, degraded=False, dependencies={"kafka": "ok", "postgres": "ok"}, monitoring="ok")

    ready: bool
    degraded: bool = Field(description="PostgreSQL is away: purchases are taken, nothing can be looked up.")
    dependencies: dict[str, str] = Field(description="Name → `ok`, or what is wrong.")
    monitoring: str = Field(description="`ok`, or why no alert can be raised.")


PURCHASE: Final = Description(
    "Buy a bundle",
    {202: Reply("The order is in the log.", Accepted, {"Location": "Where to ask about it."})},
    "Orders",
    "Answered once every in-sync broker has the order. It needs Kafka alone: PostgreSQL may be away.",
    body=Purchase,
    headers=(IDEMPOTENCY_KEY,),
    problems=(UNDER_WAY, KEY_REUSED),
)
ACT: Final = Description(
    "Trigger or retry an order",
    {200: Reply("It is delivered.", Outcome), 202: Reply("It is under way.", OnItsWay)},
    "Orders",
    "Waits for the outcome, 5 s unless `Prefer: wait=N` says otherwise. A trigger of a delivered or running order says "
    "how it stands; a retry of one is refused.",
    body=Act,
    headers=(PREFER,),
    problems=(DELIVERY_FAILED, UNKNOWN_ORDER, CONFLICT),
)
STATUS: Final = Description(
    "How an order stands",
    {
        200: Reply("Its row.", Fulfillment, {"ETag": "The row's version."}),
        304: Reply("As it was.", None, {"ETag": "The row's version."}),
    },
    "Orders",
    "With `Prefer: wait=N` it answers when the row changes, at the latest after N seconds. A purchaser sees its own "
    "orders alone.",
    query=OneOrder,
    headers=(PREFER, IF_NONE_MATCH),
    problems=(UNKNOWN_ORDER,),
)
LIVEZ: Final = Description("The process answers", {200: Reply("It does.", Live)}, "Operations")
READYZ: Final = Description(
    "Purchases can be taken",
    {200: Reply("They can.", Ready), 503: Reply("They cannot: Kafka is away.", Ready)},
    "Operations",
)
METRICS: Final = Description(
    "Measurements for Prometheus",
    {200: Reply("Its text format.", PROMETHEUS)},
    "Operations",
)
