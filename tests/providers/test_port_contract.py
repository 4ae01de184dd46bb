"""What every provider behind the port must do: one suite, run on the adapter with the real sandbox over HTTP and on the
provider in memory."""

import asyncio
import time
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from services.fulfiller.providers.memory import MemoryProvider, Step
from services.fulfiller.providers.port import Deadline, Outcome, OutcomeClass, Provider
from tests.providers.conftest import Bench

PHONE = "+233123456789"


def deadline_in(seconds: float) -> Deadline:
    return Deadline(time.monotonic() + seconds, time.time() + seconds)


class ProviderContract(ABC):
    @abstractmethod
    async def given(self, phone: str, fault: str, times: int) -> None: ...

    @abstractmethod
    async def deliveries(self, reference: str) -> int: ...

    @pytest.fixture
    def reference(self) -> str:
        return str(uuid4())

    async def buy(self, provider: Provider, reference: str, *, phone: str = PHONE, size_mb: int = 1000) -> Outcome:
        return await provider.deliver(reference, phone, size_mb, "AT-iShare", deadline_in(5))

    async def test_delivers_once_and_says_so(self, provider: Provider, reference: str) -> None:
        outcome = await self.buy(provider, reference)
        assert outcome.kind is OutcomeClass.DELIVERED
        assert outcome.transaction_id
        assert not outcome.duplicate
        assert await self.deliveries(reference) == 1

        asked = await provider.verify(reference)
        assert asked.kind is OutcomeClass.DELIVERED
        assert asked.transaction_id == outcome.transaction_id

    async def test_a_repeated_reference_replays_the_first_result(self, provider: Provider, reference: str) -> None:
        first = await self.buy(provider, reference)
        second = await self.buy(provider, reference)
        assert second.duplicate
        assert (second.kind, second.transaction_id) == (first.kind, first.transaction_id)
        assert await self.deliveries(reference) == 1

    @pytest.mark.parametrize("change", [{"size_mb": 2000}, {"phone": "+233201234567"}])
    async def test_the_same_reference_for_another_purchase_is_unknown(
        self, provider: Provider, reference: str, change: dict[str, Any]
    ) -> None:
        await self.buy(provider, reference)
        outcome = await self.buy(provider, reference, **change)
        assert outcome.kind is OutcomeClass.UNKNOWN
        assert outcome.duplicate
        assert await self.deliveries(reference) == 1

    async def test_what_was_never_sent_is_not_found(self, provider: Provider, reference: str) -> None:
        assert (await provider.verify(reference)).kind is OutcomeClass.NOT_FOUND

    async def test_what_failed_is_executed_anew_under_a_new_transaction(
        self, provider: Provider, reference: str
    ) -> None:
        await self.given(PHONE, "busy", 1)
        first = await self.buy(provider, reference)
        assert first.kind is OutcomeClass.DECLINED_TRANSIENT
        asked = await provider.verify(reference)
        assert (asked.kind, asked.transaction_id) == (first.kind, first.transaction_id)
        assert await self.deliveries(reference) == 0

        second = await self.buy(provider, reference)
        assert second.kind is OutcomeClass.DELIVERED
        assert second.transaction_id != first.transaction_id
        assert not second.duplicate
        assert await self.deliveries(reference) == 1

    async def test_a_permanent_refusal(self, provider: Provider, reference: str) -> None:
        await self.given(PHONE, "invalid_msisdn", 1)
        assert (await self.buy(provider, reference)).kind is OutcomeClass.DECLINED_PERMANENT
        assert await self.deliveries(reference) == 0

    async def test_what_is_queued_is_accepted_and_asked_about(self, provider: Provider, reference: str) -> None:
        await self.given(PHONE, "late_1h", 1)
        outcome = await self.buy(provider, reference)
        assert outcome.kind is OutcomeClass.ACCEPTED
        asked = await provider.verify(reference)
        assert (asked.kind, asked.transaction_id) == (OutcomeClass.ACCEPTED, outcome.transaction_id)
        again = await self.buy(provider, reference)
        assert (again.kind, again.duplicate) == (OutcomeClass.ACCEPTED, True)

    async def test_a_lost_answer_is_unknown_and_found_by_asking(self, provider: Provider, reference: str) -> None:
        await self.given(PHONE, "deliver_then_500", 1)
        assert (await self.buy(provider, reference)).kind is OutcomeClass.UNKNOWN
        assert (await provider.verify(reference)).kind is OutcomeClass.DELIVERED
        assert await self.deliveries(reference) == 1

    async def test_a_lost_request_is_unknown_and_not_found(self, provider: Provider, reference: str) -> None:
        await self.given(PHONE, "error_500", 1)
        assert (await self.buy(provider, reference)).kind is OutcomeClass.UNKNOWN
        assert (await provider.verify(reference)).kind is OutcomeClass.NOT_FOUND
        assert await self.deliveries(reference) == 0

    @pytest.mark.parametrize("fault", ["rate_limited", "insufficient_balance"])
    async def test_what_is_turned_away_leaves_nothing_behind(
        self, provider: Provider, reference: str, fault: str
    ) -> None:
        await self.given(PHONE, fault, 1)
        kinds = (OutcomeClass.TURNED_AWAY, OutcomeClass.SUSPENDED)
        assert (await self.buy(provider, reference)).kind in kinds
        assert (await provider.verify(reference)).kind is OutcomeClass.NOT_FOUND
        assert (await self.buy(provider, reference)).kind is OutcomeClass.DELIVERED

    @pytest.mark.parametrize("late", ["monotonic_s", "wall_s"])
    async def test_nothing_leaves_after_the_deadline_on_either_clock(
        self, provider: Provider, reference: str, late: str
    ) -> None:
        passed = replace(deadline_in(60), **{late: 0.0})
        outcome = await provider.deliver(reference, PHONE, 1000, "AT-iShare", passed)
        assert outcome.kind is OutcomeClass.NOT_SENT
        assert (await provider.verify(reference)).kind is OutcomeClass.NOT_FOUND
        assert await self.deliveries(reference) == 0

    async def test_the_balance_falls_by_what_is_delivered(self, provider: Provider, reference: str) -> None:
        before = await provider.balance()
        await self.buy(provider, reference, size_mb=1500)
        after = await provider.balance()
        assert before is not None
        assert after is not None
        assert before.available_mb - after.available_mb == 1500

    async def test_many_at_once_are_all_delivered_once(self, provider: Provider) -> None:
        references = [str(uuid4()) for _ in range(150)]
        outcomes = await asyncio.gather(*(self.buy(provider, reference) for reference in references))
        assert {outcome.kind for outcome in outcomes} == {OutcomeClass.DELIVERED}
        assert len({outcome.transaction_id for outcome in outcomes}) == 150
        assert [await self.deliveries(reference) for reference in references[:3]] == [1, 1, 1]


class TestAtIShare(ProviderContract):
    @pytest.fixture
    def provider(self, bench: Bench) -> Provider:
        self.bench = bench
        return bench.adapter

    async def given(self, phone: str, fault: str, times: int) -> None:
        await self.bench.change(phones={phone: {"fault": fault, "times": times}})

    async def deliveries(self, reference: str) -> int:
        return await self.bench.deliveries(reference)


class TestMemory(ProviderContract):
    STEPS = {  # noqa: RUF012 - never changed
        "busy": Step(OutcomeClass.DECLINED_TRANSIENT),
        "invalid_msisdn": Step(OutcomeClass.DECLINED_PERMANENT),
        "late_1h": Step(OutcomeClass.ACCEPTED),
        "deliver_then_500": Step(OutcomeClass.UNKNOWN, delivers=True),
        "error_500": Step(OutcomeClass.UNKNOWN),
        "rate_limited": Step(OutcomeClass.TURNED_AWAY),
        "insufficient_balance": Step(OutcomeClass.SUSPENDED),
    }

    @pytest.fixture
    def provider(self) -> Provider:
        self.memory = MemoryProvider()
        return self.memory

    async def given(self, phone: str, fault: str, times: int) -> None:
        self.memory.script[phone] = deque([self.STEPS[fault]] * times)

    async def deliveries(self, reference: str) -> int:
        return self.memory.deliveries[reference]

    async def test_what_was_accepted_can_be_settled(self, provider: Provider, reference: str) -> None:
        await self.given(PHONE, "late_1h", 1)
        await self.buy(provider, reference)
        self.memory.settle(reference)
        assert (await provider.verify(reference)).kind is OutcomeClass.DELIVERED
        assert await self.deliveries(reference) == 1
