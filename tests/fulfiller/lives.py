"""Orders brought to any point of their life by the core itself."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from schemas.commands import (
    CancelFulfillment,
    Command,
    ResolveFulfillment,
)
from schemas.fulfillment import Cause, FulfillmentEvent
from schemas.orders import OrderCreated
from services.fulfiller.evolution import evolve
from services.fulfiller.fulfillment import decide
from services.fulfiller.inputs import (
    Commanded,
    Input,
    Received,
    Replied,
    SlotReserved,
    Verified,
)
from services.fulfiller.order import Order
from services.fulfiller.providers.memory import MEMORY_PROFILE
from services.fulfiller.providers.port import Outcome, OutcomeClass, Profile
from services.fulfiller.retry import Rules

NOW: Final = datetime(2026, 1, 31, 12, tzinfo=UTC)
ORDER_ID: Final = "11111111-1111-4111-8111-111111111111"
CALL_TIMEOUT: Final = timedelta(seconds=MEMORY_PROFILE.call_timeout_s)


def rules(*profiles: Profile, max_attempts: int = 3) -> Rules:
    return Rules(
        retry_delays_s=(300.0, 900.0, 3600.0),
        max_attempts=max_attempts,
        verify_delays_s=(15.0, 300.0, 900.0, 3600.0),
        providers={profile.name: profile for profile in profiles},
    )


RULES: Final = rules(MEMORY_PROFILE)
NOBODY: Final = rules()
BLIND: Final = rules(replace(MEMORY_PROFILE, status_query=False))
FORGETFUL: Final = rules(replace(MEMORY_PROFILE, idempotent_references=False))


def cause(offset: int = 0) -> Cause:
    return Cause(topic="orders.events", partition=0, offset=offset)


def order_created(
    order_id: str = ORDER_ID, phone: str = "0233123456", network: str = "AT-iShare", size_mb: int = 1000
) -> OrderCreated:
    return OrderCreated(order_id=order_id, phone_number=phone, network=network, size_mb=size_mb, created_at=NOW)


def command(kind: type[Command], number: int = 1, *, delivered: bool = True, order_id: str = ORDER_ID) -> Command:
    said = {
        "command_id": f"22222222-2222-4222-8222-{number:012d}",
        "order_id": order_id,
        "actor": "ama",
        "reason": "asked by the customer",
        "at": NOW,
    }
    if kind is ResolveFulfillment:
        said["delivered"] = delivered
    return kind.model_validate(said)


def slot(at: datetime, *, cleared: bool = False) -> SlotReserved:
    return SlotReserved(at + CALL_TIMEOUT, cleared)


def replied(kind: OutcomeClass, transaction_id: str | None = None, *, duplicate: bool = False) -> Replied:
    return Replied(Outcome(kind, code=kind.value.upper(), transaction_id=transaction_id, duplicate=duplicate))


def verified(
    kind: OutcomeClass, transaction_id: str | None = None, *, failed_counts: bool = True, not_found_counts: bool = True
) -> Verified:
    return Verified(Outcome(kind, transaction_id=transaction_id), failed_counts, not_found_counts)


@dataclass
class Life:
    """One order, what happened to it, and the time."""

    rules: Rules = RULES
    now: datetime = NOW
    order: Order | None = None
    events: list[FulfillmentEvent] = field(default_factory=list)

    def feed(self, what: Input) -> tuple[FulfillmentEvent, ...]:
        """As the shell does: decide, fold what follows, and let a command wait."""
        decision = decide(self.order, what, self.rules, self.now)
        for event in decision.events:
            self.order = evolve(self.order, event)
        if decision.pending is not None:
            assert self.order is not None
            self.order = self.order.with_pending(decision.pending, decision.cause)
        self.events += decision.events
        return decision.events

    @property
    def known(self) -> Order:
        assert self.order is not None
        return self.order

    def until_due(self) -> "Life":
        if self.order is not None and self.order.next_at is not None:
            self.now = max(self.now, self.order.next_at)
        return self

    # --- on the way ---------------------------------------------------------------------------------------------------

    def created(self) -> "Life":
        self.feed(Received(order_created(), cause()))
        return self

    def attempting(self) -> "Life":
        self.until_due().feed(slot(self.now))
        return self

    def failing(self, times: int = 1) -> "Life":
        """So many attempts, each declined for now."""
        for number in range(times):
            self.attempting().feed(replied(OutcomeClass.DECLINED_TRANSIENT, f"T-{number}"))
        return self

    def unknown(self) -> "Life":
        self.attempting().feed(replied(OutcomeClass.UNKNOWN))
        return self

    def accepted(self) -> "Life":
        self.attempting().feed(replied(OutcomeClass.ACCEPTED, f"T-{self.known.attempts}-a"))
        return self

    def asked_in_vain(self, times: int) -> "Life":
        for _ in range(times):
            self.until_due().feed(verified(OutcomeClass.NOT_FOUND, not_found_counts=False))
        return self

    def refused(self) -> "Life":
        self.attempting().feed(replied(OutcomeClass.DECLINED_PERMANENT))
        return self

    def delivered(self) -> "Life":
        self.attempting().feed(replied(OutcomeClass.DELIVERED, "T-ok"))
        return self

    def cancelled(self) -> "Life":
        self.feed(Commanded(command(CancelFulfillment), cause()))
        return self

    def settled(self) -> "Life":
        """All attempts declined, and the settlement says the same."""
        self.failing(self.rules.max_attempts).until_due().feed(verified(OutcomeClass.NOT_FOUND))
        return self


def held() -> Life:
    return Life(NOBODY).created()


def in_doubt_about_a_settlement() -> Life:
    return Life().created().failing(3).asked_in_vain(1)


SITUATIONS: Final[dict[str, tuple[Callable[[], Life], ...]]] = {
    "no order": (Life,),
    "created": (lambda: Life().created(),),
    "held": (held,),
    "attempting": (lambda: Life().created().attempting(), lambda: Life().created().failing(2).attempting()),
    "accepted": (
        lambda: Life().created().accepted(),
        lambda: Life().created().failing(2).accepted(),
        lambda: Life().created().failing().accepted().asked_in_vain(3),
    ),
    "unknown": (
        lambda: Life().created().unknown(),
        lambda: Life().created().failing(2).unknown(),
        in_doubt_about_a_settlement,
        lambda: Life().created().unknown().asked_in_vain(3),
        lambda: Life().created().failing().unknown().asked_in_vain(3),
    ),
    "review": (
        lambda: Life().created().unknown().asked_in_vain(4),
        lambda: Life().created().failing(2).unknown().asked_in_vain(4),
        lambda: in_doubt_about_a_settlement().asked_in_vain(4),
    ),
    "waiting": (lambda: Life().created().failing(),),
    "settling": (lambda: Life().created().failing(3),),
    "delivered": (lambda: Life().created().delivered(),),
    "failed": (lambda: Life().created().refused(), lambda: Life().created().settled()),
    "cancelled": (lambda: Life().created().cancelled(),),
}
"""Ways to each state; where what follows depends on the attempts made, one for each."""
