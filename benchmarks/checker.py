"""After a benchmark: the tests' checker. Where an order was lost or delivered twice, figures are worth nothing."""

from collections.abc import Iterable
from typing import Final

from benchmarks.rig import Deployment
from schemas.orders import OrderCreated
from tests.checker import findings
from tests.evidence import Accepted, Clients, gather

_SHOWN: Final = 5


async def check(deployment: Deployment, orders: Iterable[OrderCreated]) -> list[str]:
    """What is wrong with the orders that the log took; empty: I1 to I10 hold."""
    clients = Clients(accepted=[Accepted(one.order_id, one.bundle) for one in orders])
    evidence = await gather(deployment.settings, deployment.sandbox_url, clients, deployment.logs())
    found = [str(finding) for finding in findings(evidence)]
    return found if len(found) <= _SHOWN else [*found[:_SHOWN], f"and {len(found) - _SHOWN} more"]
