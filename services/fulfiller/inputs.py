"""What can happen to an order, from outside."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from schemas.commands import Command
from schemas.fulfillment import Cause, FulfillmentEvent
from schemas.orders import OrderCreated
from services.fulfiller.providers.port import Outcome


class Received(NamedTuple):
    """An OrderCreated was read."""

    created: OrderCreated
    cause: Cause


class Commanded(NamedTuple):
    """A command was read."""

    command: Command
    cause: Cause


class SlotReserved(NamedTuple):
    """The attempt can be made at once; nothing has been sent."""

    deadline: datetime
    cleared: bool = False
    """For an override: every earlier reference was asked about, and none was delivered."""
    cause: Cause | None = None


class Replied(NamedTuple):
    """The provider answered the call, or did not."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class DoubtExpired:
    """An attempt whose caller is gone was not settled by the deadline of any call that might be under way."""


class Verified(NamedTuple):
    """The provider was asked what became of the reference."""

    outcome: Outcome
    failed_counts: bool
    """No call of the attempt can be under way that the answer did not see."""
    not_found_counts: bool
    """As `failed_counts`, and late enough after the deadline that "not found" is proof."""


class Asked(NamedTuple):
    """Every reference of an order to be overridden was asked about; one of them stands in its way."""

    outcome: Outcome
    reference: str


Input = Received | Commanded | SlotReserved | Replied | DoubtExpired | Verified | Asked


class Decision(NamedTuple):
    """What follows from an input: events, or a command that has to wait for a slot or an answer first."""

    events: tuple[FulfillmentEvent, ...] = ()
    pending: Command | None = None
    cause: Cause | None = None
    """Where the pending command was read."""


NOTHING: Final = Decision()
