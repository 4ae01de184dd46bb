"""What the projector tells the monitor: counts of what it applied, and how the open orders stand."""

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

BUCKET_S: Final = 10
"""Counts are kept by the ten seconds, by the broker's clock, in which their records were written."""
MAX_NAME: Final = 100
"""Characters; what is longer is nobody's name."""


def _countable(number: float) -> float:
    if not 0 <= number < 2**53:
        raise ValueError("no amount of anything")
    return number


def _countable_either_way(number: int) -> int:
    _countable(abs(number))
    return number


def _whole_bucket(start_s: int) -> int:
    if start_s % BUCKET_S:
        raise ValueError(f"no multiple of {BUCKET_S} s")
    return start_s


def _short(name: str) -> str:
    if len(name) > MAX_NAME:
        raise ValueError("no name")
    return name


_Name = Annotated[str, AfterValidator(_short)]
_Amount = Annotated[int, AfterValidator(_countable)]
_Age = Annotated[float, AfterValidator(_countable)]
_Count = Annotated[int, Field(ge=0), AfterValidator(_countable)]
_Bucket = Annotated[_Count, AfterValidator(_whole_bucket)]
"""Its beginning, Unix time in seconds."""


class _Said(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)


class Count(_Said):
    """What happened to a network's orders within one bucket; `provider` is who serves it, None where nobody does."""

    bucket: _Bucket
    network: _Name
    provider: _Name | None = None
    requested: _Count = 0
    delivered: _Count = 0
    declined: _Count = 0
    voided: _Count = 0
    uncertain: _Count = 0


class Part(_Said):
    """One partition's records, from offset `start` up to but not including `end`, and what they said."""

    topic: _Name
    partition: int
    start: _Count
    end: _Count
    records: dict[Annotated[_Amount, AfterValidator(_whole_bucket)], _Amount] = {}
    """How many there were, by bucket."""
    counts: tuple[Count, ...] = ()
    lag_records: _Count | None = None
    """Committed records behind `end` that are not in the view; None where that was not looked at."""


class Standing(_Said):
    """The open orders of a network, as the view has them; ages in seconds, of the oldest."""

    network: _Name
    provider: _Name | None = None
    waiting_s: _Age = 0
    """Since an order came that the fulfiller has not answered."""
    overdue_s: _Age = 0
    """Since an act (retry, question, settlement) was due that nobody has done."""
    in_doubt_s: _Age = 0
    """Since an order came of which nobody knows whether it was delivered."""
    reviews: _Amount = 0
    """Orders that a person has to resolve."""
    suspended: _Amount = 0
    """Orders that wait because the provider takes none: no balance, credentials refused, account suspended."""
    without_balance: _Amount = 0
    """Those of them that wait for the dealer's balance."""
    orders: dict[str, tuple[str, ...]] = {}
    """A few order ids behind each of these figures, by its name."""


class ProviderStanding(_Said):
    """A provider, as fulfillment.providers says."""

    provider: _Name
    suspended: bool = False
    why: str | None = None
    """Of a suspension: the provider's code, `unreachable`, or what the operator said."""
    balance_mb: Annotated[int, AfterValidator(_countable_either_way)] | None = None
    """What the dealer has left there; None where that has not been heard."""


class Stands(_Said):
    """All networks at once: one that is not named has no open orders."""

    networks: tuple[Standing, ...] = ()
    providers: tuple[ProviderStanding, ...] = ()
    """Of one that is not named nothing is known but its orders."""
    lag_records: _Amount = 0
    """As `Part` has it; of projectors that knew their own partitions' alone, and said it here."""
    quarantined: _Amount = 0
    """Records of fulfillment.events that contradict what was applied before."""


class Statistics(_Said):
    """A record of fulfillment.statistics. `at` is event time: the latest of the records told of, or now where all is
    told.
    """

    type: Literal["Statistics"] = "Statistics"
    version: Literal[1] = 1
    at: AwareDatetime
    parts: tuple[Part, ...] = ()
    stands: Stands | None = None


def read_statistics(value: bytes) -> Statistics:
    """One record's value. pydantic.ValidationError where it is none."""
    return Statistics.model_validate_json(value)
