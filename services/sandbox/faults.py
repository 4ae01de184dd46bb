"""Faults to order: what each one does to a purchase, and which one a purchase meets.

A fault is data: what happens to the bundle (`effect`), whether the call is kept waiting (`pause`), what is put on the
wire (`answer`), and what the first status queries hear. docs/sandbox.md holds the same table in words.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.at_ishare_contract import Code


class Effect(StrEnum):
    DELIVER = "deliver"
    DELIVER_LATER = "deliver_later"
    DECLINE = "decline"
    """Taken, executed and failed."""
    DECLINE_LATER = "decline_later"
    NOTHING = "nothing"
    """The reference is not taken: no status query will know it."""


class Pause(StrEnum):
    NONE = "none"
    HANG_FIRST = "hang_first"
    """Before the effect, for `hang_s`."""
    HANG = "hang"
    """Between the effect and the answer, for `hang_s`."""
    HOLD_FIRST = "hold_first"
    """Before the effect, until `POST /release`."""
    HOLD = "hold"
    """Between the effect and the answer, until `POST /release`."""


class Answer(StrEnum):
    HONEST = "honest"
    INTERNAL = "internal"
    RATE_LIMITED = "rate_limited"
    RESET = "reset"
    EMPTY = "empty"
    HTML = "html"
    GARBAGE = "garbage"
    HUGE = "huge"
    REDIRECT = "redirect"
    WRONG_REFERENCE = "wrong_reference"
    NO_TRANSACTION_ID = "no_transaction_id"
    DUPLICATE = "duplicate"
    """Success, `duplicate: true`."""
    DUPLICATE_REFERENCE = "duplicate_reference"


class QueryAnswer(StrEnum):
    HONEST = "honest"
    NOT_FOUND = "not_found"
    PROCESSING = "processing"
    INTERNAL = "internal"
    GARBAGE = "garbage"
    RESET = "reset"
    HANG = "hang"


@dataclass(frozen=True, slots=True)
class Fault:
    number: int
    """In the magic phone number +23355500NNTX."""
    effect: Effect = Effect.DELIVER
    answer: Answer = Answer.HONEST
    pause: Pause = Pause.NONE
    code: str = Code.OK
    """Of a decline or a refusal."""
    http_status: int | None = None
    """Instead of the code's usual one."""
    retry_after: str | None = None
    """As sent; a bare `+N` is made an HTTP date N seconds ahead."""
    later_s: float = 0.0
    queries: tuple[QueryAnswer, ...] = ()
    """What the first status queries hear, in order; honest ones follow."""
    hidden_s: float = 0.0
    """Status queries hear "not found" for so long after the receipt."""
    dedupe: bool = True


_LOST = Effect.NOTHING

FAULTS: Mapping[str, Fault] = {
    # Delivered, and the caller is not told, or not clearly.
    "hang_then_deliver": Fault(1, pause=Pause.HANG_FIRST),
    "deliver_then_hang": Fault(2, pause=Pause.HANG),
    "deliver_then_500": Fault(3, answer=Answer.INTERNAL),
    "deliver_then_reset": Fault(4, answer=Answer.RESET),
    "deliver_then_empty": Fault(5, answer=Answer.EMPTY),
    "deliver_then_html": Fault(6, answer=Answer.HTML),
    "deliver_then_garbage": Fault(7, answer=Answer.GARBAGE),
    "deliver_then_huge": Fault(8, answer=Answer.HUGE),
    "deliver_then_redirect": Fault(9, answer=Answer.REDIRECT),
    "wrong_reference": Fault(10, answer=Answer.WRONG_REFERENCE),
    "no_transaction_id": Fault(11, answer=Answer.NO_TRANSACTION_ID),
    "duplicate_delivered": Fault(12, answer=Answer.DUPLICATE),
    "duplicate_reference_delivered": Fault(13, answer=Answer.DUPLICATE_REFERENCE),
    # The same, but nothing was delivered.
    "reset": Fault(14, _LOST, Answer.RESET),
    "empty": Fault(15, _LOST, Answer.EMPTY),
    "html": Fault(16, _LOST, Answer.HTML),
    "garbage": Fault(17, _LOST, Answer.GARBAGE),
    "error_500": Fault(18, _LOST, Answer.INTERNAL),
    "redirect": Fault(19, _LOST, Answer.REDIRECT),
    "duplicate_nothing": Fault(20, _LOST, Answer.DUPLICATE),
    "duplicate_reference": Fault(21, _LOST, Answer.DUPLICATE_REFERENCE),
    "unknown_code": Fault(22, Effect.DECLINE, code="E4711"),
    # Turned away at the door.
    "rate_limited": Fault(23, _LOST, Answer.RATE_LIMITED, retry_after="2"),
    "rate_limited_date": Fault(24, _LOST, Answer.RATE_LIMITED, retry_after="+2"),
    "rate_limited_absurd": Fault(25, _LOST, Answer.RATE_LIMITED, retry_after="999999999999"),
    # Taken, and settled later.
    "late_1s": Fault(26, Effect.DELIVER_LATER, later_s=1),
    "late_1m": Fault(27, Effect.DELIVER_LATER, later_s=60),
    "late_1h": Fault(28, Effect.DELIVER_LATER, later_s=3600),
    "late_failure": Fault(29, Effect.DECLINE_LATER, code=Code.BUSY, later_s=1),
    # Status queries that mislead.
    "found_late": Fault(30, answer=Answer.INTERNAL, hidden_s=1),
    "status_out_of_order": Fault(31, answer=Answer.INTERNAL, queries=(QueryAnswer.NOT_FOUND, QueryAnswer.PROCESSING)),
    "status_error": Fault(32, answer=Answer.INTERNAL, queries=(QueryAnswer.INTERNAL, QueryAnswer.GARBAGE)),
    # Not now.
    "busy": Fault(33, Effect.DECLINE, code=Code.BUSY),
    "try_again": Fault(34, Effect.DECLINE, code=Code.TRY_AGAIN),
    "error_with_200": Fault(35, Effect.DECLINE, code=Code.BUSY, http_status=200),
    # Never.
    "invalid_msisdn": Fault(36, Effect.DECLINE, code=Code.INVALID_MSISDN),
    "no_such_subscriber": Fault(37, Effect.DECLINE, code=Code.NO_SUCH_SUBSCRIBER),
    "not_eligible": Fault(38, Effect.DECLINE, code=Code.NOT_ELIGIBLE),
    "unknown_bundle": Fault(39, Effect.DECLINE, code=Code.UNKNOWN_BUNDLE),
    "barred": Fault(40, Effect.DECLINE, code=Code.BARRED),
    # Nobody's order can work.
    "insufficient_balance": Fault(41, _LOST, code=Code.INSUFFICIENT_BALANCE),
    "insufficient_balance_500": Fault(42, _LOST, code=Code.INSUFFICIENT_BALANCE, http_status=500),
    "bad_credentials": Fault(43, _LOST, code=Code.BAD_CREDENTIALS),
    "account_suspended": Fault(44, _LOST, code=Code.ACCOUNT_SUSPENDED),
    # For tests that must know that a call is under way.
    "hold": Fault(45, pause=Pause.HOLD),
    "hold_first": Fault(46, pause=Pause.HOLD_FIRST),
    # Breaks the promise that a reference is executed once.
    "no_dedupe": Fault(47, dedupe=False),
    "no_dedupe_500": Fault(48, answer=Answer.INTERNAL, dedupe=False),
}

NO_FAULT = Fault(0)

Name = TypeVar("Name", bound=str)

_MAGIC = re.compile(r"\+23355500(\d\d)(\d)\d")
_BY_NUMBER = {fault.number: fault for fault in FAULTS.values()}


def magic_number(name: str, times: int = 0) -> str:
    """The phone number whose first `times` sends (0: all) of each reference meet the fault."""
    return f"+23355500{FAULTS[name].number:02}{times}0"


def _named(name: str) -> Fault:
    try:
        return FAULTS[name]
    except KeyError:
        raise ValueError(f"no fault is named {name!r}; GET /faults lists them") from None


class PhoneFault(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    fault: str
    times: int = Field(default=0, ge=0)
    """Only the first so many sends of each reference; 0: all."""

    @model_validator(mode="before")
    @classmethod
    def _bare_name(cls, value: Any) -> Any:
        return {"fault": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _known(self) -> "PhoneFault":
        _named(self.fault)
        return self


class Plan(BaseModel):
    """The faults in force. Names of faults at the top level are taken as shares: `{"busy": 0.1}`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shares: dict[str, Annotated[float, Field(ge=0, le=1)]] = {}
    """Of all sends, by the fault's name; together at most 1."""
    query_shares: dict[QueryAnswer, Annotated[float, Field(ge=0, le=1)]] = {}
    """Of all status queries."""
    phones: dict[str, PhoneFault] = {}
    seed: int = 0
    """A draw depends on it, the reference and the count of its sends alone, never on who else is being served."""
    latency_s: float = Field(default=0.05, ge=0, le=3600)
    hang_s: float = Field(default=31.0, ge=0, le=3600)
    balance_mb: int | None = Field(default=None, ge=0)
    """Sets what is left in the account when the plan is put in force."""
    credentials_refused: bool = False
    account_suspended: bool = False
    dedupe: bool = True

    @model_validator(mode="before")
    @classmethod
    def _top_level_shares(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        # `account_suspended` is also a switch: true or false, where a share is a number.
        flat = {name: share for name, share in value.items() if name in FAULTS and not isinstance(share, bool)}
        rest = {name: item for name, item in value.items() if name not in flat}
        return {**rest, "shares": {**rest.get("shares", {}), **flat}} if flat else value

    @model_validator(mode="after")
    def _possible(self) -> "Plan":
        for name in self.shares:
            _named(name)
        if sum(self.shares.values()) > 1 + 1e-9 or sum(self.query_shares.values()) > 1 + 1e-9:
            raise ValueError("shares: together they must not exceed 1")
        return self

    def fault_for(self, phone: str, reference: str, send: int) -> Fault:
        """What the `send`-th (1, 2, …) purchase with this reference meets: the phone's own fault before a magic
        number's, and that before the shares.
        """
        if override := self.phones.get(phone):
            return FAULTS[override.fault] if not override.times or send <= override.times else NO_FAULT
        if magic := _MAGIC.fullmatch(phone):
            times = int(magic[2])
            fault = _BY_NUMBER.get(int(magic[1]), NO_FAULT)
            return fault if not times or send <= times else NO_FAULT
        name = _draw(self.shares, f"{self.seed}:{reference}:{send}") if self.shares else None
        return FAULTS[name] if name else NO_FAULT

    def query_answer_for(self, reference: str, query: int) -> QueryAnswer:
        if not self.query_shares:
            return QueryAnswer.HONEST
        return _draw(self.query_shares, f"{self.seed}:{reference}:q{query}") or QueryAnswer.HONEST


def _draw(shares: Mapping[Name, float], key: str) -> Name | None:
    point = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=7).digest()) / 2**56
    for name, share in shares.items():
        if point < share:
            return name
        point -= share
    return None
