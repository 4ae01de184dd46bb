"""What the monitor is told of the open orders and the providers, as the view has them."""

import uuid

from schemas.providers import By, ProviderState
from schemas.statistics import ProviderStanding, Stands, read_statistics
from schemas.topics import FULFILLMENT_PROVIDERS, FULFILLMENT_STATISTICS
from services.settings import Settings
from tests.evidence import read_topics
from tests.projector.conftest import Log, projecting
from tests.projector.events import Story, value
from tests.projector.test_providers import changed
from tests.waiting import until


async def test_orders_of_a_suspended_provider_wait_for_it_and_for_nobody_else(topics: Settings, log: Log) -> None:
    async def told() -> Stands | None:
        one_partition = topics.model_copy(update={"partitions": 1})
        records = (await read_topics(one_partition, [FULFILLMENT_STATISTICS]))[FULFILLMENT_STATISTICS]
        stands = [read_statistics(record.value or b"").stands for record in records]
        return next((one for one in reversed(stands) if one and one.providers and one.networks), None)

    def story() -> Story:
        return Story(str(uuid.uuid4()))

    off = changed(mb=300, name="at_ishare", state=ProviderState.SUSPENDED, why="unreachable", by=By.PROVIDER)
    await log.raw(FULFILLMENT_PROVIDERS, value(off), key=b"at_ishare")
    # The first attempt has not been made; a retry is due since NOON; one goes on without the provider.
    await log.events(story().requested().events + story().requested().attempted().failed().events)
    await log.events(story().requested().attempted().succeeded().events)
    async with projecting(topics):
        stands = await until(told, "how the provider stands")
    assert stands.providers == (
        ProviderStanding(provider="at_ishare", suspended=True, why="unreachable", balance_mb=300),
    )
    (network,) = stands.networks
    assert (network.network, network.suspended, network.without_balance) == ("AT-iShare", 2, 0)
    assert network.overdue_s == 0
