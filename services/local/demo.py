"""Demonstration orders, bought as anybody buys: some of every kind at once, then a steady stream.

`python -m services.local.demo GATEWAY ORDERS_PER_S`, which `services.local` starts where DEMO_ORDERS_PER_S is set.
"""

import asyncio
import random
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import aiohttp
import structlog
import typer

from services.local.fault import LocalFault
from services.run import Refusal, announce_ready, run
from services.settings import Settings, settings

log = structlog.get_logger()

USER: Final = "demonstration"
"""Who is let in to see them."""
SEED: Final = 20
_AGAIN_S: Final = 1.0
_TIMEOUT_S: Final = 15.0
_TAKEN: Final = 202
_LATER: Final = frozenset({409, 429})
_PRICES: Final = {"500MB": 3.5, "1GB": 6.0, "2GB": 11.0, "5GB": 24.0, "10GB": 45.0}


class Kind(NamedTuple):
    """What becomes of an order, by the sandbox's magic numbers (docs/sandbox.md)."""

    weight: float
    """Among 100."""
    fault: int | None = None
    times: int = 0
    """For how many sends of it the fault lasts; 0 for all."""
    network: str = "AT-iShare"


KINDS: Final = {
    "ordinary": Kind(72),
    "busy once": Kind(8, 33, 1),
    "busy always": Kind(2, 33),
    "delivered, and answered with a 500": Kind(4, 3),
    "delivered, and never answered": Kind(2, 2),
    "lost once, and answered with a 500": Kind(2, 18, 1),
    "delivered a minute later": Kind(3, 27),
    "no such subscriber": Kind(3, 37),
    "barred": Kind(2, 40),
    "delivered an hour later, so that a person is asked": Kind(1, 28),
    "an empty balance, once": Kind(0.5, 41, 1),
    "a network that nobody serves": Kind(0.5, network="MTN"),
}
OPENING: Final = ("ordinary",) * 6 + tuple(KINDS) + ("ordinary",) * 6
"""Bought at once: the pages have something of everything to show."""


def purchases(seed: int) -> Iterator[dict[str, Any]]:
    """Bodies of the purchase call: the opening, and then any, for ever; the same for the same seed."""
    rng = random.Random(seed)  # noqa: S311 - a demonstration's draws
    for name in OPENING:
        yield _purchase(KINDS[name], rng)
    weights = [kind.weight for kind in KINDS.values()]
    while True:
        (kind,) = rng.choices(tuple(KINDS.values()), weights)
        yield _purchase(kind, rng)


def _purchase(kind: Kind, rng: random.Random) -> dict[str, Any]:
    size = rng.choice(tuple(_PRICES))
    phone = f"+23324{rng.randrange(10**7):07}"
    if kind.fault is not None:
        phone = f"+23355500{kind.fault:02}{kind.times}{rng.randrange(10)}"
    return {"network": kind.network, "size": size, "price": _PRICES[size], "phoneNumber": phone}


async def sell(gateway: str, per_s: float, stop: asyncio.Event) -> None:
    """Raises Refusal where the gateway will not sell."""
    selling = asyncio.create_task(_sell(gateway, per_s))
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({selling, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if selling.done():
        await selling
    selling.cancel()


async def _sell(gateway: str, per_s: float) -> None:
    this_run = secrets.token_hex(4)
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        for number, purchase in enumerate(purchases(SEED)):
            await _buy(session, gateway, purchase, f"demo-{this_run}-{number}")
            if number == len(OPENING) - 1:
                announce_ready("demo", f"{len(OPENING)} orders bought; {per_s:g} a second follow")
            if number >= len(OPENING) - 1:
                await asyncio.sleep(1 / per_s)


async def _buy(session: aiohttp.ClientSession, gateway: str, purchase: dict[str, Any], key: str) -> None:
    """Once, however often it has to be said."""
    headers = {"Idempotency-Key": key}
    while True:
        try:
            async with session.post(f"{gateway}/api/orders/purchase", json=purchase, headers=headers) as answer:
                if answer.status == _TAKEN:
                    return
                if answer.status < 500 and answer.status not in _LATER:
                    raise Refusal(f"the gateway sells no demonstration order: {answer.status} {await answer.text()}")
                why = str(answer.status)
        except (aiohttp.ClientError, TimeoutError) as error:
            why = str(error) or type(error).__name__
        log.info("order_not_bought_yet", why=why)
        await asyncio.sleep(_AGAIN_S)


def let_in(environment: Mapping[str, str]) -> str:
    """A password of USER's that is new each time. LocalFault where there can be none."""
    password = secrets.token_urlsafe(12)
    why = ""
    for act in (("create", USER, "--role", "admin"), ("change", USER, "--password", "--enable")):
        done = subprocess.run(  # noqa: S603 - our own
            [sys.executable, "-m", "services.gateway", "users", *act],
            input=f"{password}\n",
            env=dict(environment),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 0:
            return password
        why = done.stderr.strip()
    raise LocalFault(f"nobody can be let in to see the demonstration: {why}")


def main(gateway: str, per_s: float) -> None:
    async def begin(_settings: Settings, stop: asyncio.Event) -> None:
        await sell(gateway, per_s, stop)

    run(begin, settings())


if __name__ == "__main__":
    typer.run(main)
