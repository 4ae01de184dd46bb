"""Orders to look at where there is none yet and the sandbox stands in for the provider: one for each of some faults."""

import secrets
from collections.abc import Sequence
from decimal import Decimal
from typing import Final, NamedTuple

from aiohttp import web

from services.gateway import body
from services.gateway.access import Caller
from services.gateway.dashboard.rendering import PATH
from services.gateway.dashboard.site import OPERATORS, TAG
from services.gateway.description import Description, Reply
from services.gateway.problem import INVALID_REQUEST, NOT_FOUND, TOO_LARGE, UNDER_WAY, WRONG_TYPE, Problem
from services.gateway.purchase import Purchase, Purchases
from services.gateway.routes import Route
from services.settings import SANDBOX_KEY, Environment, Settings

SAMPLES_PATH: Final = f"{PATH}/samples"
_MAX_ONCE: Final = 32


class Sample(NamedTuple):
    """A number that the sandbox knows, and what becomes of an order for it."""

    phone: str
    fault: str
    """The sandbox's name of it (docs/sandbox.md); empty where there is none."""
    happens: str
    network: str = "AT-iShare"


SAMPLES: Final = (
    Sample("+233241234567", "", "delivered at once"),
    Sample("+233555003310", "busy", "busy once, so that it waits for its retry"),
    Sample(
        "+233555000300", "deliver_then_500", "delivered, but answered with a 500: in doubt until the provider was asked"
    ),
    Sample("+233555000200", "deliver_then_hang", "delivered, but never answered: the call runs into its deadline"),
    Sample(
        "+233555001810",
        "error_500",
        "lost once, and answered with a 500: sent again once it is proven that nothing came of it",
    ),
    Sample("+233555002700", "late_1m", "queued by the provider and delivered a minute later"),
    Sample("+233555003700", "no_such_subscriber", "refused for good: there is no such subscriber"),
    Sample("+233555002800", "late_1h", "queued by the provider for an hour"),
    Sample("+233201234567", "", "of a network that no provider serves yet: held", "Telecel"),
)


class Samples:
    def __init__(self, settings: Settings, purchases: Purchases) -> None:
        self._purchases = purchases
        key = settings.at_ishare_api_key.get_secret_value()
        self._are_offered = settings.environment is Environment.DEVELOPMENT and key == SANDBOX_KEY

    def offered(self) -> Sequence[Sample]:
        """None where money is at stake."""
        return SAMPLES if self._are_offered else ()

    @staticmethod
    def once() -> str:
        """Of one form: sent twice, it buys once."""
        return secrets.token_urlsafe(8)

    def route(self) -> Route:
        return Route("POST", SAMPLES_PATH, self.buy, OPERATORS, _BUY)

    async def buy(self, request: web.Request, caller: Caller) -> web.Response:
        """One of each. Problem 404 where they are not offered, 503 while Kafka is away."""
        said = await body.form(request)
        once = said.get("once", "")
        if not self.offered():
            raise Problem(NOT_FOUND, "there are samples of the sandbox's faults only where it is the provider")
        if not 0 < len(once) <= _MAX_ONCE:
            raise Problem(INVALID_REQUEST, f"once: what makes the form one of its kind, up to {_MAX_ONCE} characters")
        for number, sample in enumerate(SAMPLES):
            bought = Purchase(network=sample.network, size="1GB", phoneNumber=sample.phone, price=Decimal("6.00"))
            try:
                await self._purchases.buy(bought, caller, f"sample-{once}-{number}")
            except Problem as problem:
                # The same form was sent twice, and the first is at work.
                if problem.kind is not UNDER_WAY:
                    raise
        return web.Response(status=303, headers={"Location": PATH})


_BUY: Final = Description(
    "Buy orders that meet the sandbox's faults",
    {303: Reply("The list of orders.", headers={"Location": "The page."})},
    TAG,
    "`once` and `csrf` as fields of a form, in development, where the sandbox is the provider.",
    problems=(INVALID_REQUEST, NOT_FOUND, TOO_LARGE, WRONG_TYPE),
)
