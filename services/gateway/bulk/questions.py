"""What may be asked of bulk retries, and about them: every parameter with its bounds."""

from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.ids import derived
from schemas.orders import Uuid
from services.gateway.acts import Reason
from services.gateway.description import EXAMPLE_ORDER
from services.gateway.reads.questions import Asked, Filter

MAX_NAMED: Final = 10_000
"""Orders named one by one in a call."""
MAX_RETRIED: Final = 100_000
"""Orders in one bulk retry."""
MAX_BODY_BYTES: Final = 512 * 1024
"""So many ids, and more."""
MAX_PER_S: Final = 200
EXAMPLE_JOB: Final = derived("example:bulk retry")
_REASON: Final = "the provider is back, ticket 4711"

OUTCOMES: Final = ("delivered", "failed", "in_doubt", "refused", "moved_on", "cancelled")
JobOutcome = Literal["delivered", "failed", "in_doubt", "refused", "moved_on", "cancelled"]


class RetryFilter(Filter):
    """As a body says it; never empty."""

    model_config = ConfigDict(strict=True, populate_by_name=False)

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.model_dump(exclude_none=True):
            raise ValueError("filter: name at least one thing that must fit, such as a status")
        return self


class BulkRetry(BaseModel):
    """Orders by a `filter`, by `orderIds`, or those of a dry run by its `token`."""

    model_config = ConfigDict(
        strict=True,
        frozen=True,
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"filter": {"status": "failed", "failure": "BUSY"}, "dryRun": True},
                {"orderIds": [EXAMPLE_ORDER], "dryRun": True, "reason": _REASON},
            ]
        },
    )

    filter: RetryFilter | None = None
    order_ids: Annotated[list[Uuid], Field(min_length=1, max_length=MAX_NAMED)] | None = Field(
        default=None, alias="orderIds"
    )
    token: Uuid | None = Field(default=None, description="Of a dry run: what it showed, but for what changed since.")
    dry_run: bool = Field(default=False, alias="dryRun", description="Say what would be done, and do nothing.")
    reason: Reason | None = Field(default=None, description="Needed but for a dry run.")
    canary: Annotated[int, Field(ge=0, le=100)] = Field(default=5, description="So many go first, and are waited for.")
    tolerate: Annotated[int, Field(ge=0, le=100)] = Field(
        default=1, description="So many of them may fail; more, and the bulk retry waits for a person."
    )
    per_s: Annotated[int, Field(ge=1, le=MAX_PER_S)] = Field(
        default=20, alias="perSecond", description="The others, in a second."
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if sum(said is not None for said in (self.filter, self.order_ids, self.token)) != 1:
            raise ValueError("name the orders by a filter, by orderIds, or by the token of a dry run")
        if self.dry_run and self.token is not None:
            raise ValueError("token: a dry run made it; leave dryRun away to carry it out")
        if not self.dry_run and self.reason is None:
            raise ValueError("reason: say why")
        return self


class JobNamed(BaseModel):
    job: Annotated[Uuid, Field(examples=[EXAMPLE_JOB])]


class Rows(Asked):
    outcome: JobOutcome | None = Field(default=None, description="What became of them.")
    cursor: Annotated[int, Field(ge=0, le=MAX_RETRIED)] | None = Field(
        default=None, description="`next` of the page before."
    )
    limit: Annotated[int, Field(ge=1, le=200)] = 50
