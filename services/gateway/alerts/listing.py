"""GET /api/admin/alerts: what stands now, and what is over since yesterday."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, Literal

from aiohttp import web
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from schemas.alerts import SILENCES, Alert, Severity
from services.gateway.access import Caller
from services.gateway.alerts.following import Following
from services.gateway.description import IF_NONE_MATCH, Description, Reply
from services.gateway.problem import INVALID_REQUEST, Problem, unavailable
from services.gateway.reads.listing import answered

_CLEARED_SINCE: Final = timedelta(hours=24)
_ETAG: Final = {"ETag": "Of what the answer says."}


class AlertShown(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    id: str
    name: str = Field(description="docs/alerts.md has a section of this name.")
    severity: Severity
    subject: str = Field(description="`network`, `network/provider`, a provider, or `all`.")
    since: AwareDatetime = Field(description="Since when its condition held.")
    raised_at: AwareDatetime = Field(alias="raisedAt")
    cleared_at: AwareDatetime | None = Field(alias="clearedAt", description="Null while it stands.")
    figure: float | None = Field(description="When it was raised.")
    bound: float
    unit: str
    advice: str = Field(description="What to do, in a line.")
    link: str
    orders: tuple[str, ...] = Field(description="A few of the orders that it is about.")
    silenced: bool = Field(description="By ALERTS_SILENCED: neither logged nor posted.")
    by: Literal["monitor", "gateway"]


class AlertsShown(BaseModel):
    success: Literal[True]
    firing: Annotated[int, Field(ge=0, description="How many stand.")]
    alerts: list[AlertShown]


class Listing:
    def __init__(self, following: Following, silenced: frozenset[str]) -> None:
        self._following = following
        self._silenced = silenced

    async def alerts(self, request: web.Request, _caller: Caller) -> web.Response:
        if request.query:
            raise Problem(INVALID_REQUEST, "this call takes no parameters")
        shown = self.shown()
        return answered(
            request,
            {
                "success": True,
                "firing": sum(alert.cleared_at is None for alert in shown),
                "alerts": [alert.model_dump(mode="json", by_alias=True) for alert in shown],
            },
        )

    def shown(self) -> list[AlertShown]:
        """Those that stand, the worst and newest first; then those cleared within a day, the newest first.

        Problem 503 until Kafka has been heard once.
        """
        if not self._following.known:
            raise unavailable("the alerts are not known yet: Kafka is away", retry_after_s=2)
        firing = [self._shown(alert, None) for alert in self._following.firing()]
        firing.sort(key=lambda alert: (alert.severity is Severity.CRITICAL, alert.raised_at), reverse=True)
        after = datetime.now(UTC) - _CLEARED_SINCE
        cleared = [self._shown(*shown) for shown in self._following.cleared()]
        recent = [alert for alert in cleared if alert.cleared_at is not None and alert.cleared_at > after]
        return firing + sorted(recent, key=lambda alert: alert.cleared_at or after, reverse=True)

    def _shown(self, raised: Alert, cleared: Alert | None) -> AlertShown:
        return AlertShown(
            **raised.model_dump(include=set(AlertShown.model_fields)),
            raised_at=raised.at,
            cleared_at=None if cleared is None else cleared.at,
            silenced=raised.name in self._silenced,
            by="gateway" if raised.name in SILENCES else "monitor",
        )


ALERTS: Final = Description(
    "Alerts",
    {
        200: Reply("Those that stand, and those cleared within a day.", AlertsShown, _ETAG),
        304: Reply("As it was.", None, _ETAG),
    },
    "Operations",
    "docs/alerts.md says what each means and what to do.",
    headers=(IF_NONE_MATCH,),
)
