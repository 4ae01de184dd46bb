"""What may be asked about dead letters, and of them: every parameter with its bounds."""

import re
from datetime import UTC, datetime
from typing import Annotated, Final, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.orders import Uuid
from services.gateway.acts import Reason
from services.gateway.problem import INVALID_REQUEST, Problem
from services.gateway.reads.questions import Asked, Time
from services.gateway.reads.selection import Where

MAX_REPLAYED: Final = 500
"""In one call."""
EXAMPLE_LETTER: Final = "0-0"
ID: Final = r"[0-9]{1,9}-[0-9]{1,18}"
_ERROR: Final = r"^[A-Za-z0-9_.-]{1,64}$"
_TOPIC: Final = r"^[A-Za-z0-9._-]{1,100}$"


class Place(NamedTuple):
    """A letter's own, in the dead-letter topic."""

    partition: int
    offset: int

    @classmethod
    def read(cls, text: str) -> Self:
        """Problem 400 where it is none."""
        if not re.fullmatch(ID, text, re.ASCII):
            raise Problem(INVALID_REQUEST, "id: a dead letter is named by its partition and offset, as 0-17")
        partition, _, offset = text.partition("-")
        return cls(int(partition), int(offset))

    def __str__(self) -> str:
        return f"{self.partition}-{self.offset}"


class Filter(Asked):
    """Which dead letters. Everything that is given must fit."""

    error: Annotated[str, Field(pattern=_ERROR, description="Its kind.", examples=["schema"])] | None = None
    topic: (
        Annotated[
            str,
            Field(pattern=_TOPIC, description="Where it was found, without TOPIC_PREFIX.", examples=["orders.events"]),
        ]
        | None
    ) = None
    order_id: Uuid | None = Field(default=None, alias="orderId", description="The order that it is about.")
    since: Time | None = Field(default=None, alias="from", description="Set aside at this time or later.")
    until: Time | None = Field(default=None, alias="to", description="Set aside before this time.")
    replayed: bool | None = Field(default=None, description="Whether it was sent back.")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.since is not None and self.until is not None and self.since > self.until:
            raise ValueError("from: later than to")
        return self

    def where(self, *, error: bool = True) -> Where:
        """`error`: heed it."""
        found = Where()
        if self.error is not None and error:
            found.add("letter.reason = {}", self.error)
        if self.topic is not None:
            found.add("letter.original_topic = {}", self.topic)
        if self.order_id is not None:
            found.add("letter.order_id = {}", self.order_id)
        if self.since is not None:
            found.add("letter.at >= {}", self.since)
        if self.until is not None:
            found.add("letter.at < {}", self.until)
        if self.replayed is not None:
            found.add("(coalesce(replay.times, 0) > 0) = {}", self.replayed)
        return found


class LetterFilter(Filter):
    """As a body says it."""

    model_config = ConfigDict(strict=True, populate_by_name=False)


Cursor = Annotated[
    str, Field(pattern=r"^[0-9]{1,14}\.[0-9]{1,9}\.[0-9]{1,18}$", description="`next` of the page before.")
]


class Letters(Filter):
    cursor: Cursor | None = None
    limit: Annotated[int, Field(ge=1, le=200)] = 50


class Replay(BaseModel):
    """`ids` or a `filter`, of which `limit` are sent back in one call, the oldest first; `cursor` for those behind."""

    model_config = ConfigDict(
        strict=True,
        frozen=True,
        json_schema_extra={
            "examples": [
                {"ids": [EXAMPLE_LETTER], "reason": "the fulfiller is mended, ticket 4711", "dryRun": True},
                {"filter": {"error": "schema"}, "reason": "the fulfiller is mended, ticket 4711", "dryRun": True},
            ],
        },
    )

    ids: (
        Annotated[list[Annotated[str, Field(pattern=f"^{ID}$")]], Field(min_length=1, max_length=MAX_REPLAYED)] | None
    ) = None
    filter: LetterFilter | None = None
    reason: Reason
    again: bool = Field(default=False, description="Also what was sent back before.")
    dry_run: bool = Field(default=False, alias="dryRun", description="Say what would be done, and do nothing.")
    limit: Annotated[int, Field(ge=1, le=MAX_REPLAYED)] = 100
    cursor: Cursor | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.ids is None) == (self.filter is None):
            raise ValueError("name the letters either by ids or by a filter")
        return self

    @property
    def places(self) -> list[Place]:
        """Each once, in the order in which they were set aside within their partitions."""
        return sorted({Place.read(text) for text in self.ids or ()})


def cursor(at: datetime, place: Place) -> str:
    """Where the next page begins."""
    return f"{round(at.timestamp() * 1000)}.{place.partition}.{place.offset}"


def resumed(text: str) -> tuple[datetime, int, int]:
    """When, and the place."""
    milliseconds, partition, offset = (int(part) for part in text.split("."))
    return datetime.fromtimestamp(milliseconds / 1000, UTC), partition, offset
