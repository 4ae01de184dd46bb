"""Everything at once, by a seed: what breaks is found again by running that seed alone."""

import asyncio
import random
from datetime import timedelta
from typing import Final

import pytest

from schemas.commands import CancelFulfillment, Command, OverrideFulfillment, ResolveFulfillment, RetryFulfillment
from services.fulfiller.log import LogError
from services.fulfiller.order import ENDS, State
from services.fulfiller.providers.port import OutcomeClass
from services.fulfiller.shard import Shard
from tests.fulfiller.stage import Stage, virtual
from tests.memory_log import Fate

SEEDS: Final = 25
ORDERS: Final = 40
HEARD: Final = [kind for kind in OutcomeClass if kind not in {OutcomeClass.NOT_FOUND, OutcomeClass.NO_ANSWER}]
MAY_DELIVER: Final = {OutcomeClass.UNKNOWN, OutcomeClass.DELIVERED}


class Chaos:
    def __init__(self, stage: Stage, seed: int) -> None:
        self.stage = stage
        self.random = random.Random(seed)  # noqa: S311 - it is to be repeated
        self.order_ids: list[str] = []
        self.zombies: list[asyncio.Task[None]] = []

    def buy(self) -> None:
        """An order whose sends meet anything; now and then once more, elsewhere, or poisoned."""
        phone = f"+23324{self.random.randrange(10**7):07}"
        for _ in range(self.random.choice([0, 0, 1, 2, 4])):
            kind = self.random.choice(HEARD)
            self.stage.provider.will(kind, phone=phone, delivers=kind in MAY_DELIVER and self.random.random() < 0.5)
        if self.random.random() < 0.15:
            self.stage.provider.hangs.add(phone)
        if self.random.random() < 0.1:
            self.stage.provider.arrives_late_s[phone] = self.random.choice([0.5, 5.0, 29.0])
        order_id = self.stage.buy(phone=phone)
        self.order_ids.append(order_id)
        while self.random.random() < 0.2:
            partition = self.random.randrange(self.stage.partitions)
            self.stage.buy(order_id, phone=phone, partition=partition, size=self.random.choice(["1GB", "2GB"]))

    def command(self) -> None:
        order_id = self.random.choice(self.order_ids)
        kinds: list[type[Command]] = [CancelFulfillment, RetryFulfillment, RetryFulfillment, OverrideFulfillment]
        if self.stage.state(order_id) is State.REVIEW and order_id not in self.stage.provider.truth.deliveries:
            # People are not to be wrong here: what they say is what is.
            self.stage.command(ResolveFulfillment, order_id, delivered=False)
        else:
            self.stage.command(self.random.choice(kinds), order_id)

    async def trouble(self) -> None:
        """One of the things that happen to a worker."""
        stage = self.stage
        shard = self.random.choice(list(stage.running))
        match self.random.randrange(5):
            case 0:
                await stage.crash(shard)
                await self.retake(shard)
            case 1:
                stage.log.fates.append(self.random.choice(list(Fate)))
            case 2:
                # Its successor takes over while it still believes to be the owner.
                self.zombies.append(stage.running.pop(shard))
                await self.retake(shard)
            case 3:
                await shard.drain(5)
                shard.resume()
            case 4:
                await stage.end(shard)
                await self.retake(shard)

    async def retake(self, shard: Shard) -> None:
        await self.stage.shard(shard.partition)

    async def mend(self) -> None:
        """As a worker does: a shard that was thrown away is taken over again."""
        for shard, task in list(self.stage.running.items()):
            if task.done():
                assert isinstance(await self.stage.dies(shard), LogError)
                await self.retake(shard)


@pytest.mark.parametrize("seed", range(SEEDS))
@virtual
async def test_whatever_happens_nothing_is_lost_and_nothing_is_delivered_twice(seed: int) -> None:
    async with Stage(partitions=2, max_in_flight=6, retry_s=(20.0, 60.0, 120.0), verify_s=(5.0, 60.0, 100.0)) as stage:
        chaos = Chaos(stage, seed)
        for partition in range(stage.partitions):
            await stage.shard(partition)
        for _ in range(ORDERS):
            chaos.buy()
            await asyncio.sleep(chaos.random.expovariate(1 / 4))
            if chaos.random.random() < 0.3:
                chaos.command()
            if chaos.random.random() < 0.4:
                await chaos.trouble()
            if chaos.random.random() < 0.05:
                stage.clock.set_back(timedelta(seconds=chaos.random.uniform(0.001, 30)))
            await chaos.mend()
        stage.log.fates.clear()
        give_up_s = stage.clock.monotonic_s() + 2 * 86400
        while not all(stage.state(one) in {*ENDS, State.REVIEW} for one in chaos.order_ids):
            assert stage.clock.monotonic_s() < give_up_s, "an order is lost"
            await asyncio.sleep(10)
            await chaos.mend()
        for result in await asyncio.gather(*chaos.zombies, return_exceptions=True):
            assert result is None or isinstance(result, LogError), "a zombie ends by the fence"
