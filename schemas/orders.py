"""What a purchase says: OrderCreated, by the gateway or by any other producer."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AliasChoices,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from schemas.bundle import canonical_network, canonical_phone, canonical_size_mb
from schemas.ids import canonical_uuid

Uuid = Annotated[str, AfterValidator(canonical_uuid), Field(json_schema_extra={"format": "uuid"})]


def _spoken_time(value: object) -> object:
    if isinstance(value, datetime) or (isinstance(value, str) and value[10:11] in {"T", "t", " "}):
        return value
    raise ValueError("not a time: write it as 2026-01-31T12:00:00Z")


_FIRST, _LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


def _finite(at: datetime) -> datetime:
    """Both ends of the calendar a microsecond inwards: asyncpg writes them as infinities, with which nothing reckons.

    The first of them is what an unset time says in Go.
    """
    if at == _FIRST:
        return _FIRST + timedelta(microseconds=1)
    return _LAST - timedelta(microseconds=1) if at == _LAST else at


Timestamp = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_spoken_time), AfterValidator(_finite)]
"""RFC 3339, with a zone."""


class OrderCreated(BaseModel):
    """A bundle was bought. Fields that are not named here are kept, not refused.

    `size_mb` (whole megabytes) or `size` ("1.5GB", "500MB"; a bare number is gigabytes) says how much; where both are
    given they must agree.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="allow", populate_by_name=True)

    type: Literal["OrderCreated"] = "OrderCreated"
    version: Literal[1] = 1
    order_id: Uuid = Field(validation_alias=AliasChoices("order_id", "orderId"))
    phone_number: Annotated[str, AfterValidator(canonical_phone)] = Field(
        validation_alias=AliasChoices("phone_number", "phoneNumber")
    )
    network: Annotated[str, AfterValidator(canonical_network)]
    size_mb: int = Field(ge=1, validation_alias=AliasChoices("size_mb", "sizeMb"))
    created_at: Timestamp = Field(validation_alias=AliasChoices("created_at", "createdAt"))
    price: Annotated[Decimal, Field(strict=False, ge=0, max_digits=12, decimal_places=4)] | None = None
    package_id: str | None = Field(
        default=None, max_length=200, validation_alias=AliasChoices("package_id", "packageId")
    )
    account: str | None = Field(default=None, max_length=200)
    """Whose order it is, where the gateway took it."""

    @model_validator(mode="before")
    @classmethod
    def _size_as_spoken(cls, value: Any) -> Any:
        if isinstance(value, dict) and "size" in value:
            size_mb = canonical_size_mb(value["size"])
            said = value.get("size_mb", value.get("sizeMb", size_mb))
            if said != size_mb:
                raise ValueError("size and size_mb disagree")
            return {**{k: v for k, v in value.items() if k != "size"}, "size_mb": size_mb}
        return value

    @property
    def bundle(self) -> tuple[str, int, str]:
        """What makes two orders the same: phone, megabytes, network."""
        return (self.phone_number, self.size_mb, self.network)
