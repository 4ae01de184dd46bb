"""GET /api/admin/fulfillment/vitals: how late all is, over the last hour."""

import time
from datetime import UTC, datetime
from typing import Final, Literal

from aiohttp import web
from pydantic import AwareDatetime, BaseModel, Field

from schemas.statistics import BUCKET_S
from services.gateway.access import Caller
from services.gateway.description import IF_NONE_MATCH, Description, Reply
from services.gateway.problem import INVALID_REQUEST, Problem, unavailable
from services.gateway.reads.listing import answered
from services.gateway.vitals.following import Following

_ETAG: Final = {"ETag": "Of what the answer says."}


class VitalsAt(BaseModel):
    """The worst within ten seconds."""

    at: AwareDatetime
    lag_records: int = Field(alias="lagRecords", description="Records that the view did not have yet.")
    overdue_s: float = Field(
        alias="overdueS", description="How late the latest of what was due (retries among it) was."
    )
    waiting_s: float = Field(alias="waitingS", description="Since the oldest order came that nobody had taken up.")
    in_doubt_s: float = Field(alias="inDoubtS", description="Since the oldest order came that was in doubt.")


class RateOfProvider(BaseModel):
    provider: str
    per_s: float = Field(alias="perS", description="What was learnt of attempts, a second, over the last minute.")


class VitalsSaid(BaseModel):
    success: Literal[True]
    every_s: int = Field(alias="everyS")
    points: list[VitalsAt] = Field(description="Of the last hour, in order of time; none where nothing was said.")
    rates: list[RateOfProvider]


class Listing:
    def __init__(self, following: Following) -> None:
        self._following = following

    async def vitals(self, request: web.Request, _caller: Caller) -> web.Response:
        """Problem 503 until Kafka has been heard once."""
        if request.query:
            raise Problem(INVALID_REQUEST, "this call takes no parameters")
        course, now_s = self._following.course, time.time()
        if course is None:
            raise unavailable("the vitals are not known yet: Kafka is away", retry_after_s=2)
        points = [
            {
                "at": datetime.fromtimestamp(start, UTC),
                "lagRecords": point.lag_records,
                "overdueS": round(point.overdue_s, 1),
                "waitingS": round(point.waiting_s, 1),
                "inDoubtS": round(point.in_doubt_s, 1),
            }
            for start, point in course.points(now_s)
        ]
        rates = [{"provider": name, "perS": round(rate, 2)} for name, rate in sorted(course.rates_per_s(now_s).items())]
        return answered(request, {"success": True, "everyS": BUCKET_S, "points": points, "rates": rates})

    def rate_per_s(self, provider: str) -> float | None:
        """None until Kafka has been heard once."""
        course = self._following.course
        return None if course is None else course.rates_per_s(time.time()).get(provider, 0.0)


VITALS: Final = Description(
    "How late all is",
    {
        200: Reply("Every ten seconds of the last hour.", VitalsSaid, _ETAG),
        304: Reply("As it was.", None, _ETAG),
    },
    "Operations",
    "Lag, lateness of what is due, and how fast the providers answer, as the projectors told the monitor.",
    headers=(IF_NONE_MATCH,),
)
