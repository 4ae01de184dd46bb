"""What the reads answer, as models, and what the OpenAPI document says of them."""

from typing import Annotated, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from schemas.orders import Uuid
from services.gateway.description import EXAMPLE_ORDER, IF_NONE_MATCH, Description, Header, Reply
from services.gateway.problem import UNKNOWN_ORDER
from services.gateway.reads.questions import Bucket, Export, Listing, Statistics, Streamed
from services.gateway.replies import FulfillmentRow

_Count = Annotated[int, Field(ge=0)]
_TAG: Final = "Administration"
_SAME: Final = Reply("As it was.", None, {"ETag": "Of what the answer says."})


class StatusCounts(BaseModel):
    total: _Count
    success: _Count
    failed: _Count
    processing: _Count
    pending: _Count


class Logs(BaseModel):
    """A page of orders."""

    success: Literal[True]
    logs: list[FulfillmentRow]
    status_counts: StatusCounts = Field(
        alias="statusCounts", description="Of all that fit, whatever `status` is asked for."
    )
    counts_complete: bool = Field(
        alias="countsComplete",
        description="False: so many fit a part of a phone number that they were counted among the newest orders alone.",
    )
    next: str | None = Field(description="The `cursor` of the next page; null on the last one.")


class Latency(BaseModel):
    """Seconds from the order to its delivery, to about a tenth."""

    p50: float
    p90: float
    p95: float
    p99: float


class Attempts(BaseModel):
    total: _Count
    per_order: float | None = Field(alias="perOrder")


class Summed(StatusCounts):
    success_rate: float | None = Field(alias="successRate", description="Percent of all orders that are delivered.")
    attempts: Attempts
    latency_s: Latency | None = Field(alias="latencyS")


class OfNetwork(Summed):
    network: str


class OfBucket(Summed):
    start: AwareDatetime


class Failures(BaseModel):
    error_code: str | None = Field(alias="errorCode")
    orders: _Count


class Stats(BaseModel):
    """Of the orders that were made in a period, in whole buckets."""

    success: Literal[True]
    since: AwareDatetime = Field(alias="from")
    until: AwareDatetime = Field(alias="to")
    bucket: Bucket
    totals: Summed
    networks: list[OfNetwork]
    failures: list[Failures] = Field(description="Failed orders by why, the most frequent first.")
    buckets: list[OfBucket] = Field(description="In order of time; without those that hold nothing.")


class TimelineEvent(BaseModel):
    """An event as it stands in the log, and where; schemas/asyncapi.json says what each type holds."""

    model_config = ConfigDict(extra="allow")

    topic: str
    partition: _Count
    offset: _Count
    type: str
    at: AwareDatetime


class Timeline(BaseModel):
    """All that happened to an order."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "success": True,
                    "orderId": EXAMPLE_ORDER,
                    "events": [
                        {
                            "topic": "orders.events",
                            "partition": 1,
                            "offset": 0,
                            "type": "OrderCreated",
                            "at": "2026-01-31T12:00:00Z",
                        }
                    ],
                }
            ]
        }
    )

    success: Literal[True]
    order_id: Uuid = Field(alias="orderId")
    events: list[TimelineEvent]


class OneOfPath(BaseModel):
    id: Uuid = Field(description="The order.", examples=[EXAMPLE_ORDER])


LAST_EVENT_ID: Final = Header(
    "Last-Event-ID",
    "The id of the last message that the client has: what it missed comes first.",
    {"type": "string", "pattern": r"^[0-9.]+_[0-9.]+$", "examples": ["0.0.0.0_0.0.0.0"]},
)

EVENTS: Final = Description(
    "All that happened to an order",
    {200: Reply("Its timeline.", Timeline, {"ETag": "Of what the answer says."}), 304: _SAME},
    "Orders",
    "Each event with its topic, partition and offset. A purchaser sees its own orders alone, and neither the "
    "provider's own words nor who acted.",
    path=OneOfPath,
    headers=(IF_NONE_MATCH,),
    problems=(UNKNOWN_ORDER,),
)
LOGS: Final = Description(
    "Orders, by any of their traits",
    {200: Reply("A page.", Logs, {"ETag": "Of what the answer says."}), 304: _SAME},
    _TAG,
    "Everything that is given must fit. `next` leads to the page behind: no order is shown twice, however many are "
    "made meanwhile.",
    query=Listing,
    headers=(IF_NONE_MATCH,),
)
EXPORT: Final = Description(
    "All orders that fit, as CSV",
    {200: Reply("RFC 4180, with the seed's columns.", "text/csv", {"Content-Disposition": "A file's name."})},
    _TAG,
    "Streamed. A cell that a spreadsheet would take for a formula begins with an apostrophe. An export that cannot be "
    "finished, or whose key or session ends, breaks off its connection.",
    query=Export,
)
STATS: Final = Description(
    "What orders came to",
    {200: Reply("The figures.", Stats, {"ETag": "Of what the answer says."}), 304: _SAME},
    _TAG,
    "Of the orders made from `from` to `to`, both rounded outwards to whole buckets; without them the last hour, day "
    "or 30 days, by bucket.",
    query=Statistics,
    headers=(IF_NONE_MATCH,),
)
STREAM: Final = Description(
    "Orders as they change",
    {200: Reply("Server-sent events.", "text/event-stream")},
    _TAG,
    "`changed` holds the rows as they are now, `ready` none; `reset` says that more has changed than is sent: load "
    "the list anew.",
    query=Streamed,
    headers=(LAST_EVENT_ID,),
)
