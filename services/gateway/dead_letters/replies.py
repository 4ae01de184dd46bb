"""What the calls about dead letters answer, as models, and what the OpenAPI document says of them."""

from typing import Annotated, Final, Literal

from pydantic import AwareDatetime, BaseModel, Field

from schemas.orders import Uuid
from services.gateway.dead_letters.judgement import ReplayOutcome
from services.gateway.dead_letters.questions import EXAMPLE_LETTER, ID, Letters, Replay
from services.gateway.description import IF_NONE_MATCH, Description, Reply
from services.gateway.problem import NOT_REPLAYED, UNKNOWN_LETTER

_Count = Annotated[int, Field(ge=0)]
_TAG: Final = "Dead letters"
_SAME: Final = Reply("As it was.", None, {"ETag": "Of what the answer says."})


class WasReplayed(BaseModel):
    times: Annotated[int, Field(ge=1)]
    at: AwareDatetime | None = Field(description="The last time.")
    actor: str
    reason: str
    failed_again: str | None = Field(alias="failedAgain", description="The letter that it became, where it did.")


class DeadLetter(BaseModel):
    """A record that could not be acted on."""

    id: Annotated[str, Field(pattern=f"^{ID}$", description="Its partition and offset in fulfillment.dead-letter.")]
    at: AwareDatetime
    error: str = Field(description="Its kind, for machines.")
    message: str | None = Field(description="What to mend, for people.")
    topic: str | None = Field(description="Where it was found, without TOPIC_PREFIX.")
    partition: _Count | None
    offset: _Count | None
    order_id: Uuid | None = Field(alias="orderId")
    size_bytes: _Count | None = Field(alias="sizeBytes", description="Of its value; null where it has none.")
    replay_of: str | None = Field(alias="replayOf", description="The letter that was sent back and became this one.")
    replayed: WasReplayed | None


class LetterGroup(BaseModel):
    error: str
    letters: Annotated[int, Field(ge=1)]
    first_seen: AwareDatetime = Field(alias="firstSeen")
    last_seen: AwareDatetime = Field(alias="lastSeen")
    example: str = Field(description="The id of the latest.")


class DeadLetters(BaseModel):
    """A page, the newest first."""

    success: Literal[True]
    letters: list[DeadLetter]
    groups: list[LetterGroup] = Field(description="All that fit, whatever `error` is asked for, by error.")
    next: str | None = Field(description="The `cursor` of the next page; null on the last one.")


class LetterBytes(BaseModel):
    size_bytes: _Count = Field(alias="sizeBytes")
    shown_bytes: _Count = Field(alias="shownBytes", description="At most 64 KiB from its beginning.")
    text: str | None = Field(description="Where it is UTF-8. For a viewer without what looks like a phone number.")
    base64: str | None = Field(description="Null for a viewer.")


class RecordHeader(BaseModel):
    name: str
    value: str | None
    base64: str | None = Field(description="Where it is no text; null for a viewer.")


class WholeLetter(DeadLetter):
    key: LetterBytes | None
    value: LetterBytes | None
    headers: list[RecordHeader] = Field(description="As they were, and behind them why it is here.")


class OneLetter(BaseModel):
    success: Literal[True]
    letter: WholeLetter


class ReplayItem(BaseModel):
    id: str
    outcome: ReplayOutcome
    why: str | None


class Replayed(BaseModel):
    success: Literal[True]
    message: str
    counts: dict[str, int] = Field(description="Letters by outcome.")
    items: list[ReplayItem]
    next: str | None = Field(description="Of a filter: the `cursor` for the letters behind; null where there are none.")


class LetterNamed(BaseModel):
    id: Annotated[str, Field(pattern=f"^{ID}$", description="Partition and offset.", examples=[EXAMPLE_LETTER])]


class LetterPlaced(BaseModel):
    """Its own place, in the dead-letter topic."""

    partition: Annotated[int, Field(ge=0, le=10**9 - 1, examples=[0])]
    offset: Annotated[int, Field(ge=0, le=10**18 - 1, examples=[0])]


LETTERS: Final = Description(
    "Dead letters",
    {200: Reply("A page, and all that fit by error.", DeadLetters, {"ETag": "Of what the answer says."}), 304: _SAME},
    _TAG,
    "Records that can never be acted on as they are. Everything that is given must fit.",
    query=Letters,
    headers=(IF_NONE_MATCH,),
)
LETTER: Final = Description(
    "One dead letter, whole",
    {200: Reply("With its bytes and headers.", OneLetter, {"ETag": "Of what the answer says."}), 304: _SAME},
    _TAG,
    path=LetterPlaced,
    headers=(IF_NONE_MATCH,),
    problems=(UNKNOWN_LETTER,),
)
REPLAY: Final = Description(
    "Send dead letters back to where they came from",
    {
        200: Reply("A dry run: what would be done.", Replayed),
        202: Reply("Kafka has those that are `replayed`; the others say why not.", Replayed),
    },
    _TAG,
    "Key, value and headers as they were; a header more names the letter. An order that is known is not delivered "
    "again: docs/operations.md says why. One that fails again is a new dead letter, whose `replayOf` is the old one. "
    "At most 100 a second.",
    body=Replay,
    problems=(UNKNOWN_LETTER, NOT_REPLAYED),
)
