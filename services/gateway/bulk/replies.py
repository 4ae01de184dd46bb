"""What the calls about bulk retries answer, as models, and what the OpenAPI document says of them."""

from typing import Annotated, Any, Final, Literal

from pydantic import AwareDatetime, BaseModel, Field

from schemas.orders import Uuid
from services.gateway.acts import Because
from services.gateway.bulk.questions import BulkRetry, JobNamed, JobOutcome, Rows
from services.gateway.description import IF_NONE_MATCH, Description, Reply
from services.gateway.problem import JOB_STATE, NOTHING_TO_RETRY, TOO_MANY_JOBS, UNKNOWN_JOB
from services.gateway.replies import State

_Count = Annotated[int, Field(ge=0)]
_TAG: Final = "Bulk retries"
_ETAG: Final = {"ETag": "Of what the answer says."}
_SAME: Final = Reply("As it was.", None, _ETAG)


class SafeToRetry(BaseModel):
    orders: _Count
    size_mb: _Count = Field(alias="sizeMb", description="Of all of them together.")
    price: float = Field(description="Of all that have one.")
    without_price: _Count = Field(alias="withoutPrice")
    oldest: AwareDatetime | None
    newest: AwareDatetime | None


class WhyNot(BaseModel):
    state: State
    orders: _Count
    kind: Literal["in_doubt", "not_eligible"]
    why: str


class UnknownOrders(BaseModel):
    orders: _Count
    ids: list[Uuid] = Field(description="The first hundred.")


class RetryPreview(BaseModel):
    token: Uuid | None = Field(description="Carries out what is shown here; null where nothing can be retried.")
    expires_at: AwareDatetime | None = Field(alias="expiresAt")
    matched: _Count
    safe: SafeToRetry = Field(description="What is retried.")
    in_doubt: _Count = Field(alias="inDoubt", description="Asked about at the provider, and never sent again.")
    not_eligible: _Count = Field(alias="notEligible")
    why: list[WhyNot] = Field(description="Of the orders that are not retried.")
    unknown: UnknownOrders = Field(description="Ids that no order has.")


class RetryPreviewed(BaseModel):
    success: Literal[True]
    message: str
    preview: RetryPreview


class RetryJob(BaseModel):
    """`waiting` to `cancelled` add up to `orders`."""

    id: Uuid
    state: Literal["canary", "running", "paused", "done", "cancelled"]
    why: str | None = Field(description="Why it is paused, or was cancelled.")
    actor: str
    reason: str
    filter: dict[str, Any] | None = Field(description="Null where orders were named one by one.")
    canary: _Count
    tolerate: _Count
    per_s: Annotated[int, Field(alias="perSecond", ge=1)]
    created_at: AwareDatetime = Field(alias="createdAt", description="When it was previewed.")
    started_at: AwareDatetime = Field(alias="startedAt")
    ended_at: AwareDatetime | None = Field(alias="endedAt")
    orders: _Count
    waiting: _Count = Field(description="Not sent yet.")
    sent: _Count = Field(description="Sent, and not answered yet.")
    delivered: _Count
    failed: _Count = Field(description="Attempted, and failed again.")
    in_doubt: _Count = Field(alias="inDoubt", description="Attempted; what came of it is asked about.")
    refused: _Count = Field(description="By the fulfiller: the order had changed.")
    moved_on: _Count = Field(alias="movedOn", description="Changed between the preview and the start: not sent.")
    cancelled: _Count


class RetryJobShown(BaseModel):
    success: Literal[True]
    job: RetryJob


class RetryJobChanged(RetryJobShown):
    message: str


class RetryJobs(BaseModel):
    success: Literal[True]
    jobs: list[RetryJob]


class RetriedOrder(BaseModel):
    number: Annotated[int, Field(ge=1)]
    order_id: Uuid = Field(alias="orderId")
    state: State | None = Field(description="Of the order, now.")
    outcome: JobOutcome | None
    why: str | None
    sent_at: AwareDatetime | None = Field(alias="sentAt")
    answered_at: AwareDatetime | None = Field(alias="answeredAt")


class RetriedOrders(BaseModel):
    """A page, in the order in which they are sent."""

    success: Literal[True]
    rows: list[RetriedOrder]
    next: int | None = Field(description="The `cursor` of the next page; null on the last one.")


RETRY: Final = Description(
    "Retry many orders",
    {
        200: Reply("A dry run: what would be done.", RetryPreviewed),
        202: Reply("The bulk retry is kept, and is carried out.", RetryJobChanged, {"Location": "The bulk retry."}),
    },
    _TAG,
    "Look first (`dryRun`), then carry out what was shown (`token`); an order that changed meanwhile is left out. A "
    "few go first, and the others follow at a pace once those are well. Each order is retried once, whatever becomes "
    "of the gateway.",
    body=BulkRetry,
    problems=(UNKNOWN_JOB, NOTHING_TO_RETRY, JOB_STATE, TOO_MANY_JOBS),
)
JOBS: Final = Description(
    "Bulk retries",
    {200: Reply("The latest 50.", RetryJobs, _ETAG), 304: _SAME},
    _TAG,
    headers=(IF_NONE_MATCH,),
)
JOB: Final = Description(
    "A bulk retry, and how far it is",
    {200: Reply("As it stands.", RetryJobShown, _ETAG), 304: _SAME},
    _TAG,
    path=JobNamed,
    headers=(IF_NONE_MATCH,),
    problems=(UNKNOWN_JOB,),
)
ROWS: Final = Description(
    "The orders of a bulk retry",
    {200: Reply("A page, each with its outcome.", RetriedOrders, _ETAG), 304: _SAME},
    _TAG,
    path=JobNamed,
    query=Rows,
    headers=(IF_NONE_MATCH,),
    problems=(UNKNOWN_JOB,),
)


def _act(summary: str, detail: str) -> Description:
    replies = {200: Reply("It is done.", RetryJobChanged)}
    return Description(summary, replies, _TAG, detail, body=Because, path=JobNamed, problems=(UNKNOWN_JOB, JOB_STATE))


PAUSE: Final = _act("Pause a bulk retry", "Once it is answered nothing more is sent until it is resumed.")
RESUME: Final = _act("Resume a bulk retry", "One whose canary failed goes on with all the others.")
CANCEL: Final = _act("Cancel a bulk retry", "What was sent is not taken back; nothing more is.")
