"""What people ask for: the commands of fulfillment.commands."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.orders import Timestamp, Uuid


class _Command(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="allow")

    type: str = ""
    version: Literal[1] = 1
    command_id: Uuid
    order_id: Uuid
    actor: str = Field(min_length=1, max_length=200)
    reason: str = Field(default="", max_length=1000)
    at: Timestamp
    expected_sequence: int | None = Field(default=None, ge=1)
    """Of the order's last event, as the actor saw it: rejected where another followed meanwhile."""


class TriggerFulfillment(_Command):
    type: Literal["TriggerFulfillment"] = "TriggerFulfillment"


class RetryFulfillment(_Command):
    type: Literal["RetryFulfillment"] = "RetryFulfillment"


class CancelFulfillment(_Command):
    """Before the first attempt only."""

    type: Literal["CancelFulfillment"] = "CancelFulfillment"


class ResolveFulfillment(_Command):
    """A person found out what became of an order in review."""

    type: Literal["ResolveFulfillment"] = "ResolveFulfillment"
    delivered: bool


class OverrideFulfillment(_Command):
    """One more attempt, under a new reference, after a confirmed final failure."""

    type: Literal["OverrideFulfillment"] = "OverrideFulfillment"


Command = TriggerFulfillment | RetryFulfillment | CancelFulfillment | ResolveFulfillment | OverrideFulfillment
COMMAND_TYPES: tuple[type[Command], ...] = (
    TriggerFulfillment,
    RetryFulfillment,
    CancelFulfillment,
    ResolveFulfillment,
    OverrideFulfillment,
)


class _ProviderCommand(BaseModel):
    """To partition 0 of fulfillment.commands, under the provider's name."""

    model_config = ConfigDict(frozen=True, strict=True, extra="allow")

    type: str = ""
    version: Literal[1] = 1
    command_id: Uuid
    provider: str = Field(min_length=1, max_length=100)
    actor: str = Field(min_length=1, max_length=200)
    reason: str = Field(default="", max_length=1000)
    at: Timestamp


class SuspendProvider(_ProviderCommand):
    """Its orders wait until ResumeProvider."""

    type: Literal["SuspendProvider"] = "SuspendProvider"


class ResumeProvider(_ProviderCommand):
    """Whoever suspended it."""

    type: Literal["ResumeProvider"] = "ResumeProvider"


ProviderCommand = SuspendProvider | ResumeProvider
PROVIDER_COMMAND_TYPES: tuple[type[ProviderCommand], ...] = (SuspendProvider, ResumeProvider)
