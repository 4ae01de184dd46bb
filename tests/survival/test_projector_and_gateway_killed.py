"""The projector dies before and after its SQL commit, the gateway before and after Kafka has an order."""

import aiohttp
import pytest

from tests.stand import Stand
from tests.survival.conftest import Stands
from tests.survival.scenarios import Ran, side_by_side

pytestmark = [pytest.mark.survival, pytest.mark.timeout(240)]


async def _projector(stand: Stand, point: str) -> int:
    """Rows that were committed when it died; another then makes the view what the log says."""
    await stand.fulfiller().ready()
    victim = stand.projector(f"{point}:kill:3")
    await victim.ready()
    orders = await stand.orders([stand.new_phone() for _ in range(20)])
    await victim.died_at(point)
    rows = len(await stand.rows(orders))
    heir = stand.projector()
    await heir.ready()
    orders.append(await stand.order())
    await stand.reached(orders, "delivered")
    await stand.proven()
    assert "begin_again" not in heir.log, "what was applied is not read again"
    return rows


async def _projector_before_commit(stand: Stand) -> None:
    await _projector(stand, "projector.before_commit")


async def _projector_after_commit(stand: Stand) -> None:
    assert await _projector(stand, "projector.after_commit")


async def _projector_frozen(stand: Stand) -> None:
    """It is frozen in mid-transaction, another does its work, and it wakes."""
    await stand.fulfiller().ready()
    zombie = stand.projector("projector.before_commit:stop:3")
    await zombie.ready()
    orders = await stand.orders([stand.new_phone() for _ in range(20)])
    await zombie.froze_at("projector.before_commit")
    # Its open transaction holds rows that the heir needs, but not for longer than its session lasts.
    await stand.projector().ready()
    await stand.reached(orders, "delivered")
    zombie.thaw()
    await zombie.said("postgres_unreachable")
    orders += await stand.orders([stand.new_phone() for _ in range(20)])
    await stand.reached(orders, "delivered")
    await stand.proven()
    assert zombie.exit_code is None


async def _gateway(stand: Stand, point: str) -> int:
    """A client repeats with its key what was never answered; how often the order is in the log then."""
    await stand.fulfiller().ready()
    await stand.projector().ready()
    victim = stand.gateway(f"{point}:kill")
    phone = stand.new_phone()
    with pytest.raises(aiohttp.ClientError):
        await stand.purchase(await victim.ready(), "a-key", phone)
    await victim.died_at(point)
    url = await stand.gateway().ready()
    answer = await stand.bought(url, "a-key", phone)
    again = await stand.bought(url, "a-key", phone)
    assert answer.order == again.order
    await stand.reached([answer.order["id"]], "delivered")
    evidence = await stand.proven()
    return len(evidence.of("orders.events"))


async def _gateway_after_ack(stand: Stand) -> None:
    assert await _gateway(stand, "gateway.after_ack") == 1, "the view knows the order: it need not be written again"


async def _gateway_before_produce(stand: Stand) -> None:
    assert await _gateway(stand, "gateway.before_produce") == 1


SCENARIOS = {
    "projector, before its commit": _projector_before_commit,
    "projector, after its commit": _projector_after_commit,
    "projector, frozen in its transaction": _projector_frozen,
    "gateway, before Kafka has the order": _gateway_before_produce,
    "gateway, between acknowledgement and answer": _gateway_after_ack,
}


@pytest.fixture(scope="module")
def ran(stands: Stands) -> Ran:
    return side_by_side(stands, SCENARIOS)


@pytest.mark.parametrize("what", SCENARIOS)
def test_is_killed(what: str, ran: Ran) -> None:
    ran.held(what)
