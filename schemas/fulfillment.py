"""What happened to an order: the events of fulfillment.events, each numbered 1, 2, 3 … within its order."""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter


class Act(StrEnum):
    """What is to be done next about an open order."""

    ATTEMPT = "attempt"
    REPLY = "reply"
    """A call is under way: its reply, or its deadline."""
    VERIFY = "verify"
    SETTLE = "settle"


class Trigger(StrEnum):
    """Why an attempt was made."""

    FIRST = "first"
    RETRY = "retry"
    MANUAL = "manual"
    OVERRIDE = "override"


class Source(StrEnum):
    """Who said how an attempt ended."""

    REPLY = "reply"
    VERIFICATION = "verification"
    RESOLUTION = "resolution"


class VoidReason(StrEnum):
    NOT_SENT = "not_sent"
    TURNED_AWAY = "turned_away"
    SUSPENDED = "suspended"


class _Said(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="allow")


class Cause(_Said):
    """The input record that an event answers."""

    topic: str
    partition: int
    offset: int


class OnBehalf(_Said):
    """The person's command that an event answers."""

    command_id: str
    actor: str
    reason: str


class Next(_Said):
    """The next act and its time; `schedule_id` is the sequence of the event that planned it."""

    act: Act
    at: AwareDatetime
    schedule_id: int


class _Event(_Said):
    type: str = ""
    version: Literal[1] = 1
    order_id: str
    sequence: int = Field(ge=1)
    phone_number: str
    size_mb: int
    network: str
    at: AwareDatetime
    cause: Cause | None = None
    command: OnBehalf | None = None


class _Answered(_Event):
    """An event that tells of something the provider said."""

    attempt: int
    reference: str
    error_code: str | None = None
    error_message: str | None = None
    """For customers: never the provider's own words."""
    transaction_id: str | None = None
    api_response: dict[str, Any] | None = None
    """The provider's own words, for operators."""


class FulfillmentRequested(_Event):
    type: Literal["FulfillmentRequested"] = "FulfillmentRequested"
    provider: str | None = None
    """None: nobody serves the network; the order is held."""
    max_attempts: int
    order_created_at: AwareDatetime
    price: str | None = None
    package_id: str | None = None
    account: str | None = None
    next: Next | None = None


class FulfillmentAttempted(_Event):
    """Written before the call is made: from here on the bundle may have been delivered."""

    type: Literal["FulfillmentAttempted"] = "FulfillmentAttempted"
    attempt: int
    max_attempts: int
    provider: str
    reference: str
    trigger: Trigger
    deadline: AwareDatetime


class FulfillmentSucceeded(_Answered):
    type: Literal["FulfillmentSucceeded"] = "FulfillmentSucceeded"
    source: Source


class FulfillmentAccepted(_Answered):
    type: Literal["FulfillmentAccepted"] = "FulfillmentAccepted"
    next: Next


class FulfillmentFailed(_Answered):
    """`next` None: final."""

    type: Literal["FulfillmentFailed"] = "FulfillmentFailed"
    source: Source
    final: bool
    settled: bool = False
    """After the last attempt the provider was asked once more, and said so."""
    next: Next | None = None


class AttemptVoided(_Answered):
    """Nothing was sold and nothing can have been: the attempt's number is used again."""

    type: Literal["AttemptVoided"] = "AttemptVoided"
    void_reason: VoidReason
    next: Next


class FulfillmentUncertain(_Answered):
    type: Literal["FulfillmentUncertain"] = "FulfillmentUncertain"
    taken: bool = False
    """The provider said that it knows the reference."""
    settlement: bool = False
    next: Next


class StatusChecked(_Answered):
    """A question that proved nothing; `step` of the ladder is done."""

    type: Literal["StatusChecked"] = "StatusChecked"
    step: int
    taken: bool = False
    next: Next


class ReviewRequested(_Answered):
    """Nobody could say what became of it: a person resolves it."""

    type: Literal["ReviewRequested"] = "ReviewRequested"
    taken: bool = False
    next: Next


class FulfillmentResolved(_Event):
    type: Literal["FulfillmentResolved"] = "FulfillmentResolved"
    delivered: bool


class FulfillmentCancelled(_Event):
    type: Literal["FulfillmentCancelled"] = "FulfillmentCancelled"


class CommandRejected(_Event):
    type: Literal["CommandRejected"] = "CommandRejected"
    command_type: str
    why: str


FulfillmentEvent = (
    FulfillmentRequested
    | FulfillmentAttempted
    | FulfillmentSucceeded
    | FulfillmentAccepted
    | FulfillmentFailed
    | AttemptVoided
    | FulfillmentUncertain
    | StatusChecked
    | ReviewRequested
    | FulfillmentResolved
    | FulfillmentCancelled
    | CommandRejected
)
EVENT_TYPES: tuple[type[FulfillmentEvent], ...] = (
    FulfillmentRequested,
    FulfillmentAttempted,
    FulfillmentSucceeded,
    FulfillmentAccepted,
    FulfillmentFailed,
    AttemptVoided,
    FulfillmentUncertain,
    StatusChecked,
    ReviewRequested,
    FulfillmentResolved,
    FulfillmentCancelled,
    CommandRejected,
)
_event: TypeAdapter[FulfillmentEvent] = TypeAdapter(Annotated[FulfillmentEvent, Field(discriminator="type")])


def read_event(value: bytes) -> FulfillmentEvent:
    """One record's value of fulfillment.events. pydantic.ValidationError where it is none."""
    return _event.validate_json(value)


class DelayedAct(_Said):
    """A record of a delayed topic: what is due, when, and which plan of the order it belongs to."""

    type: Literal["DelayedAct"] = "DelayedAct"
    version: Literal[1] = 1
    order_id: str
    act: Act
    schedule_id: int
    due_at: AwareDatetime


def delayed(order_id: str, plan: Next) -> DelayedAct:
    return DelayedAct(order_id=order_id, act=plan.act, schedule_id=plan.schedule_id, due_at=plan.at)
