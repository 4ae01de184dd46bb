"""Events as a fulfiller would write them, and the records that carry them."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from schemas.cloudevents import json_value
from schemas.fulfillment import (
    Act,
    AttemptVoided,
    CommandRejected,
    FulfillmentAccepted,
    FulfillmentAttempted,
    FulfillmentCancelled,
    FulfillmentEvent,
    FulfillmentFailed,
    FulfillmentRequested,
    FulfillmentResolved,
    FulfillmentSucceeded,
    FulfillmentUncertain,
    Next,
    OnBehalf,
    ReviewRequested,
    Source,
    StatusChecked,
    Trigger,
    VoidReason,
)
from schemas.orders import OrderCreated
from services.projector.projection import Place, Row, fold

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
COMMAND = "0f0e0d0c-0b0a-4908-8706-050403020100"


@dataclass(frozen=True)
class Record:
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int = round(NOON.timestamp() * 1000)
    headers: tuple[tuple[str, bytes | None], ...] = ()


@dataclass
class Story:
    """Tells an order's events one after the other; `event` numbers and dates them."""

    order_id: str
    sequence: int = 0
    attempt: int = 0
    events: list[FulfillmentEvent] = field(default_factory=list)

    def _common(self) -> dict[str, Any]:
        self.sequence += 1
        return {
            "order_id": self.order_id,
            "sequence": self.sequence,
            "phone_number": "+233123456789",
            "size_mb": 1500,
            "network": "AT-iShare",
            "at": self.now,
        }

    @property
    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.sequence)

    def _tell(self, event: FulfillmentEvent) -> "Story":
        self.events.append(event)
        return self

    def _answer(self, **said: Any) -> dict[str, Any]:
        return self._common() | {"attempt": self.attempt, "reference": self.order_id} | said

    def plan(self, act: Act, delay_s: float = 300) -> Next:
        return Next(act=act, at=self.now + timedelta(seconds=delay_s), schedule_id=self.sequence + 1)

    def requested(self, provider: str | None = "at_ishare", **said: Any) -> "Story":
        plan = self.plan(Act.ATTEMPT, 0) if provider else None
        common = self._common()
        return self._tell(
            FulfillmentRequested(
                **common, **said, provider=provider, max_attempts=3, order_created_at=NOON, price="4.50", next=plan
            )
        )

    def attempted(self, trigger: Trigger = Trigger.FIRST, **said: Any) -> "Story":
        self.attempt += 1
        deadline = self.now + timedelta(seconds=30)
        return self._tell(
            FulfillmentAttempted(
                **self._common(),
                **said,
                attempt=self.attempt,
                max_attempts=3,
                provider="at_ishare",
                reference=self.order_id,
                trigger=trigger,
                deadline=deadline,
            )
        )

    def succeeded(self, **said: Any) -> "Story":
        said = {"transaction_id": "tx-1", "api_response": {"status": "success"}} | said
        return self._tell(FulfillmentSucceeded(**self._answer(**said), source=Source.REPLY))

    def accepted(self, **said: Any) -> "Story":
        plan = self.plan(Act.VERIFY)
        return self._tell(FulfillmentAccepted(**self._answer(**said), next=plan))

    def failed(self, act: Act | None = Act.ATTEMPT, **said: Any) -> "Story":
        plan = self.plan(act) if act else None
        said = {"error_code": "BUSY", "error_message": "The network is busy", "api_response": {"code": "BUSY"}} | said
        return self._tell(FulfillmentFailed(**self._answer(**said), source=Source.REPLY, final=plan is None, next=plan))

    def voided(self) -> "Story":
        plan = self.plan(Act.ATTEMPT, 0)
        answer = self._answer(error_code="RATE_LIMITED", error_message="It will be tried again")
        self.attempt -= 1
        return self._tell(AttemptVoided(**answer, void_reason=VoidReason.TURNED_AWAY, next=plan))

    def uncertain(self) -> "Story":
        plan = self.plan(Act.VERIFY)
        return self._tell(FulfillmentUncertain(**self._answer(error_message="Not known yet"), next=plan))

    def checked(self, **said: Any) -> "Story":
        plan = self.plan(Act.VERIFY)
        return self._tell(StatusChecked(**self._answer(api_response={"code": "PROCESSING"}, **said), step=1, next=plan))

    def reviewed(self) -> "Story":
        plan = self.plan(Act.VERIFY, 86400)
        return self._tell(ReviewRequested(**self._answer(error_message="A person looks into it"), next=plan))

    def resolved(self, *, delivered: bool = True) -> "Story":
        return self._tell(FulfillmentResolved(**self._common(), command=behalf(), delivered=delivered))

    def cancelled(self) -> "Story":
        return self._tell(FulfillmentCancelled(**self._common(), command=behalf()))

    def rejected(self, why: str = "the order is delivered") -> "Story":
        return self._tell(CommandRejected(**self._common(), command=behalf(), command_type="RetryFulfillment", why=why))

    def row(self) -> Row:
        folded = fold({}, placed(self.events))
        assert not folded.quarantined
        return folded.rows[self.order_id]


def behalf() -> OnBehalf:
    return OnBehalf(command_id=COMMAND, actor="ama", reason="the customer called")


def placed(events: list[FulfillmentEvent]) -> list[tuple[FulfillmentEvent, Place]]:
    return [(event, Place("fulfillment.events", 0, offset, 0)) for offset, event in enumerate(events)]


def created(order_id: str, **said: Any) -> OrderCreated:
    defaults = {"phone_number": "+233123456789", "network": "AT-iShare", "size_mb": 1500, "created_at": NOON}
    return OrderCreated.model_validate({"order_id": order_id} | defaults | said)


def value(event: FulfillmentEvent | OrderCreated) -> bytes:
    return json_value(event)
