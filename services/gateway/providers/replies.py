"""What the calls about providers answer, as models, and what the OpenAPI document says of them."""

from typing import Annotated, Final, Literal

from pydantic import AwareDatetime, BaseModel, Field

from schemas.providers import By, ProviderState
from services.at_ishare_contract import NAME
from services.gateway.description import IF_NONE_MATCH, PREFER, Description, Reply
from services.gateway.problem import PROVIDER_CONFLICT, UNKNOWN_PROVIDER
from services.gateway.providers.acts import ProviderAct
from services.gateway.reads.questions import Period

_Count = Annotated[int, Field(ge=0)]
_TAG: Final = "Providers"
_SAME: Final = Reply("As it was.", None, {"ETag": "Of what the answer says."})


class BalanceOfProvider(BaseModel):
    at: AwareDatetime
    available_mb: int = Field(alias="availableMb")
    reserved_mb: int = Field(alias="reservedMb")


class OrdersOfProvider(BaseModel):
    """Open orders."""

    waiting: _Count = Field(description="For a slot, or for the provider to be up: due now.")
    later: _Count = Field(description="Retries to come.")
    calling: _Count = Field(description="Calls in flight.")
    in_doubt: _Count = Field(alias="inDoubt", description="Being asked about.")
    settling: _Count
    in_review: _Count = Field(alias="inReview")


class ProviderSaid(BaseModel):
    name: str
    state: ProviderState
    why: str | None = Field(description="The provider's code, `unreachable`, or what the operator said.")
    by: By | None
    actor: str | None
    command_id: str | None = Field(alias="commandId")
    since: AwareDatetime | None = Field(description="In this state; null where nothing was said of it yet.")
    next_probe_at: AwareDatetime | None = Field(
        alias="nextProbeAt", description="Null while an operator's suspension lasts: only a resume ends that."
    )
    needs_mb: int | None = Field(alias="needsMb", description="The bundle that its balance was too small for.")
    balance: BalanceOfProvider | None
    orders: OrdersOfProvider
    at: AwareDatetime | None = Field(description="When this was said.")


class ProvidersSaid(BaseModel):
    success: Literal[True]
    providers: list[ProviderSaid]


class BalanceSaid(BaseModel):
    success: Literal[True]
    provider: str
    balance: list[BalanceOfProvider] = Field(description="In order of time, at most 500.")


class ProviderActed(BaseModel):
    success: Literal[True]
    message: str
    provider: ProviderSaid


class ProviderNamed(BaseModel):
    name: Annotated[str, Field(description="The provider.", examples=[NAME])]


PROVIDERS: Final = Description(
    "How the providers stand",
    {200: Reply("Every one.", ProvidersSaid, {"ETag": "Of what the answer says."}), 304: _SAME},
    _TAG,
    "State, balance, and what their open orders wait for.",
    headers=(IF_NONE_MATCH,),
)
BALANCE: Final = Description(
    "A provider's balance in the course of time",
    {
        200: Reply("One of every five minutes, or of longer.", BalanceSaid, {"ETag": "Of what the answer says."}),
        304: _SAME,
    },
    _TAG,
    "The last seven days unless `from` and `to` say otherwise.",
    query=Period,
    path=ProviderNamed,
    headers=(IF_NONE_MATCH,),
    problems=(UNKNOWN_PROVIDER,),
)


def _act(summary: str, detail: str) -> Description:
    return Description(
        summary,
        {200: Reply("It is done.", ProviderActed), 202: Reply("It is accepted, and not seen yet.", ProviderActed)},
        _TAG,
        detail,
        body=ProviderAct,
        path=ProviderNamed,
        headers=(PREFER,),
        problems=(UNKNOWN_PROVIDER, PROVIDER_CONFLICT),
    )


SUSPEND: Final = _act("Suspend a provider", "Its orders wait, and spend no attempt, until it is resumed.")
RESUME: Final = _act("Resume a provider", "Whoever, or whatever, suspended it.")
