"""The dashboard put together."""

from aiohttp import web
from pydantic import BaseModel, Field

from services.gateway.access import Caller
from services.gateway.administration import Administration
from services.gateway.alerts import Alerts
from services.gateway.bulk import Bulk
from services.gateway.dashboard.operations import OperationPages
from services.gateway.dashboard.orders import OrderPages
from services.gateway.dashboard.people import PeoplePages
from services.gateway.dashboard.rendering import STATIC_PATH
from services.gateway.dashboard.samples import Samples
from services.gateway.dashboard.site import ANYONE, Site, page_route
from services.gateway.dead_letters import DeadLetters
from services.gateway.fulfillment import Fulfillments
from services.gateway.login import Logins
from services.gateway.problem import NOT_FOUND
from services.gateway.providers import Providers
from services.gateway.purchase import Purchases
from services.gateway.reads import Reads
from services.gateway.routes import Route
from services.gateway.vitals import Vitals
from services.settings import Settings


class FilePath(BaseModel):
    name: str = Field(description="A file that a page names.", examples=["dashboard.css"])


class Dashboard:
    def __init__(
        self,
        settings: Settings,
        *,
        purchases: Purchases,
        reads: Reads,
        fulfillments: Fulfillments,
        logins: Logins,
        administration: Administration,
        letters: DeadLetters,
        bulk: Bulk,
        providers: Providers,
        alerts: Alerts,
        vitals: Vitals,
    ) -> None:
        self._site = Site(alerts.listing.shown)
        self.in_words = self._site.in_words
        self._orders = OrderPages(
            self._site,
            reads,
            fulfillments,
            Samples(settings, purchases),
            settings.topic_prefix,
            settings.kafka_bootstrap_servers,
        )
        self._operations = OperationPages(self._site, providers, bulk, letters, vitals)
        self._people = PeoplePages(self._site, logins, administration)

    def routes(self) -> tuple[Route, ...]:
        return (
            *self._orders.routes(),
            *self._operations.routes(),
            *self._people.routes(),
            page_route(
                f"{STATIC_PATH}/{{name}}",
                self.static,
                "The pages' scripts and styles",
                ANYONE,
                named=FilePath,
                content="*/*",
                problems=(NOT_FOUND,),
            ),
        )

    async def static(self, request: web.Request, _caller: Caller) -> web.Response:
        return self._site.assets.response(request.match_info["name"], request.query.get("v"))
