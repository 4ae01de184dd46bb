"""Pages about what runs: providers, retries of many orders, dead letters, alerts and charts."""

from typing import Final

from aiohttp import web

from services.gateway.access import Caller
from services.gateway.alerts.listing import AlertShown
from services.gateway.bulk import Bulk
from services.gateway.bulk.questions import JobNamed
from services.gateway.dashboard.rendering import PATH
from services.gateway.dashboard.site import Site, address, filled, page_route, told
from services.gateway.dead_letters import DeadLetters
from services.gateway.dead_letters.replies import LetterPlaced
from services.gateway.problem import INVALID_REQUEST, UNKNOWN_JOB, UNKNOWN_LETTER, Problem
from services.gateway.providers import Providers
from services.gateway.routes import Route
from services.gateway.vitals import Vitals

PROVIDERS_PATH: Final = f"{PATH}/providers"
RETRIES_PATH: Final = f"{PATH}/retries"
LETTERS_PATH: Final = f"{PATH}/dead-letters"


class OperationPages:
    def __init__(self, site: Site, providers: Providers, bulk: Bulk, letters: DeadLetters, vitals: Vitals) -> None:
        self._site = site
        self._providers = providers.listings
        self._jobs = bulk.jobs
        self._letters = letters.listings
        self._rate_per_s = vitals.listing.rate_per_s

    def routes(self) -> tuple[Route, ...]:
        return (
            page_route(PROVIDERS_PATH, self.providers, "How the providers stand"),
            page_route(RETRIES_PATH, self.retries, "Retries of many orders"),
            page_route(
                f"{RETRIES_PATH}/{{job}}",
                self.retry,
                "One retry of many orders",
                named=JobNamed,
                problems=(UNKNOWN_JOB,),
            ),
            page_route(LETTERS_PATH, self.letters, "Dead letters"),
            page_route(
                f"{LETTERS_PATH}/{{partition}}-{{offset}}",
                self.letter,
                "One dead letter, whole",
                named=LetterPlaced,
                problems=(UNKNOWN_LETTER,),
            ),
            page_route(f"{PATH}/health", self.health, "Alerts and charts"),
            page_route(f"{PATH}/alerts", self.alerts, "What stands above each page"),
        )

    async def providers(self, request: web.Request, caller: Caller) -> web.Response:
        said = await told(self._providers.providers, request, caller, {})
        return self._site.page(
            "providers.html", caller, "providers", providers=said["providers"], rate_per_s=self._rate_per_s
        )

    async def retries(self, request: web.Request, caller: Caller) -> web.Response:
        said = await told(self._jobs.jobs, request, caller, {})
        return self._site.page("retries.html", caller, "retries", jobs=said["jobs"])

    async def retry(self, request: web.Request, caller: Caller) -> web.Response:
        query = filled(request)
        job = (await told(self._jobs.job, request, caller, {}))["job"]
        said = await told(self._jobs.rows, request, caller, query)
        path = f"{RETRIES_PATH}/{job['id']}"
        return self._site.page(
            "retry.html",
            caller,
            "retries",
            job=job,
            rows=said["rows"],
            outcome=query.get("outcome", ""),
            with_outcome=lambda outcome: address({"outcome": outcome}, path),
            next=said["next"] and address({**query, "cursor": str(said["next"])}, path),
        )

    async def letters(self, request: web.Request, caller: Caller) -> web.Response:
        query, fault = filled(request), ""
        try:
            said = await told(self._letters.letters, request, caller, query)
        except Problem as problem:
            if problem.kind is not INVALID_REQUEST:
                raise
            said, fault = await told(self._letters.letters, request, caller, {}), problem.detail
        kept = {name: value for name, value in query.items() if name != "cursor"}
        return self._site.page(
            "letters.html",
            caller,
            "letters",
            letters=said["letters"],
            groups=said["groups"],
            typed=query,
            fault=fault,
            with_error=lambda error: address({**kept, "error": error}, LETTERS_PATH),
            next=said["next"] and address({**kept, "cursor": said["next"]}, LETTERS_PATH),
        )

    async def letter(self, request: web.Request, caller: Caller) -> web.Response:
        said = await told(self._letters.letter, request, caller, {})
        return self._site.page("letter.html", caller, "letters", letter=said["letter"])

    async def health(self, _request: web.Request, caller: Caller) -> web.Response:
        known: list[AlertShown] = []
        unheard = ""
        try:
            known = [*self._site.alerts()]
        except Problem as problem:
            unheard = problem.detail
        return self._site.page("health.html", caller, "health", known_alerts=known, unheard=unheard)

    async def alerts(self, _request: web.Request, caller: Caller) -> web.Response:
        """The banner alone, for pages that stay open."""
        return self._site.page("_alerts.html", caller, "alerts")
