"""How a provider stands: the records of fulfillment.providers, the last of each provider kept."""

from enum import StrEnum
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field


class ProviderState(StrEnum):
    UP = "up"
    SUSPENDED = "suspended"
    """Its orders wait, and spend no attempt."""


class By(StrEnum):
    """Who brought it about."""

    PROVIDER = "provider"
    """By what it answered, or did not."""
    OPERATOR = "operator"


class ProviderBalance(BaseModel):
    """What the dealer has left with the provider, as it said at `at`."""

    model_config = ConfigDict(frozen=True, strict=True, extra="allow")

    available_mb: int
    reserved_mb: int
    at: AwareDatetime


class ProviderChanged(BaseModel):
    """A record's value; its key is the provider's name."""

    model_config = ConfigDict(frozen=True, strict=True, extra="allow")

    type: Literal["ProviderChanged"] = "ProviderChanged"
    version: Literal[1] = 1
    provider: str = Field(min_length=1, max_length=100)
    state: ProviderState
    why: str | None = None
    """The provider's code, `unreachable`, or what the operator said."""
    by: By | None = None
    """None: nobody did anything yet."""
    actor: str | None = None
    command_id: str | None = None
    """Of the operator's command that brought it about."""
    since: AwareDatetime
    """In this state."""
    next_probe_at: AwareDatetime | None = None
    """None while an operator's suspension lasts: only ResumeProvider ends that."""
    needs_mb: int | None = None
    """The bundle that the balance was too small for."""
    balance: ProviderBalance | None = None
    at: AwareDatetime


def read_provider(value: bytes) -> ProviderChanged:
    """One record's value. pydantic.ValidationError where it is none."""
    return ProviderChanged.model_validate_json(value)
