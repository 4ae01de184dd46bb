"""The provider: the sandbox's own code with every fault it knows, over a simulated network; the adapter beside it reads
its answers as services/fulfiller/providers/at_ishare.py does.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Final, NamedTuple

import orjson

from services.at_ishare_contract import Code, Purchase
from services.fulfiller.providers import at_ishare_answers
from services.fulfiller.providers.at_ishare_answers import Answer, AnswerReader
from services.fulfiller.providers.port import Balance, Deadline, Outcome, OutcomeClass, Profile
from services.sandbox import answers as sandbox_answers
from services.sandbox import provider as sandbox
from services.sandbox.faults import Plan
from services.sandbox.ledger import Ledger
from tests.evidence import Known
from tests.simulation.loop import BEGIN_S, Process, SimLoop, drawn_latency
from tests.simulation.network import Lost, Network

NAME: Final = "at-ishare"
PROFILE: Final = Profile(
    name=NAME,
    networks=frozenset({"AT-iShare"}),
    idempotent_references=True,
    reference_memory_s=30 * 86400.0,
    status_query=True,
    not_found_final_s=60.0,
    call_timeout_s=30.0,
)
HELD_S: Final = 40.0
SECRETS: Final = ("simulated-key", "simulated-secret")


class Sent(NamedTuple):
    """A purchase that left a worker."""

    at_s: float
    """True time, as all here."""
    reference: str
    deadline: Deadline
    until_s: float
    """When its caller gives up: by whichever clock is first, as they stood when it left."""
    arrived: list[float]
    ended: list[float]
    """When the provider was done with it."""


@dataclass(slots=True)
class _Request:
    """As much of aiohttp's as the sandbox looks at."""

    body: bytes = b""


class Provider:
    """The server's side."""

    def __init__(self, loop: SimLoop, plan: Plan, found_after_s: float) -> None:
        self.loop = loop
        self._found_after_s = found_after_s
        """What it took is not found before, which is its right until `not_found_final_s`."""
        self.ledger = Ledger(10**9)
        self.ledger._incarnation = "simulated"  # noqa: SLF001 - else drawn anew each time
        self.sandbox = sandbox.SandboxProvider(*SECRETS, self.ledger, plan)
        self.sent: list[Sent] = []

    def purchase(self, body: bytes, reference: str) -> asyncio.Future[Any]:
        self.loop.in_world(HELD_S, self.sandbox.gates.release, reference)
        now = BEGIN_S + self.loop.now_s
        return self._serve(self._answered(self.sandbox._purchase(_Request(body), body, now)))  # noqa: SLF001 - behind its HTTP and its signature

    def query(self, reference: str) -> asyncio.Future[Any]:
        return self._serve(self._answered(self._found(reference)))

    async def _found(self, reference: str) -> Any:
        record = self.ledger.records.get(reference)
        if record is not None and BEGIN_S + self.loop.now_s < record.taken_at + self._found_after_s:
            return sandbox_answers.refused(Code.NOT_FOUND, reference)
        return await self.sandbox._query(_Request(), reference)  # noqa: SLF001 - as above

    def _serve(self, handling: Any) -> asyncio.Future[Any]:
        return self.loop.world.start(handling)

    async def _answered(self, handling: Any) -> Answer:
        if refusal := self._refusal():
            handling.close()
            return refusal
        response = await handling
        return Answer(response.status, bytes(response.body or b""), response.headers.get("Retry-After"))

    def _refusal(self) -> Answer | None:
        plan = self.sandbox.plan
        if not (plan.credentials_refused or plan.account_suspended):
            return None
        code = "BAD_CREDENTIALS" if plan.credentials_refused else "ACCOUNT_SUSPENDED"
        response = sandbox_answers.refused(code, None)
        return Answer(response.status, bytes(response.body or b""), None)

    def known(self) -> dict[str, Known]:
        """The ledger. Where wall clocks were moved, its times say nothing about intents: `by_order` does then."""
        return {
            reference: Known(
                bundle=(record.phone, record.size_mb, record.network),
                deliveries=record.deliveries,
                sends=record.sends,
                max_in_flight=record.max_in_flight,
                sent_at=record.sent_at,
            )
            for reference, record in self.ledger.records.items()
        }


class Adapter:
    """One worker's way to the provider."""

    profile = PROFILE

    def __init__(self, process: Process, network: Network, provider: Provider) -> None:
        self._process = process
        self._network = network
        self._provider = provider
        self._reader = AnswerReader(SECRETS)
        self._loop = provider.loop

    async def deliver(self, reference: str, phone: str, size_mb: int, network: str, deadline: Deadline) -> Outcome:
        await asyncio.sleep(0)
        left_s = self._left_s(deadline)
        if left_s <= 0:
            return Outcome(OutcomeClass.NOT_SENT, message="the deadline had passed before the first byte")
        random = self._loop.random
        if not self._process.reaches("provider") and random.random() < 0.5:
            await asyncio.sleep(0.01)
            return Outcome(OutcomeClass.NOT_SENT, message="connection refused")
        body = orjson.dumps(Purchase(reference, phone, network, size_mb))
        sent = Sent(self._loop.now_s, reference, deadline, self._loop.now_s + left_s, [], [])
        self._provider.sent.append(sent)

        def arrive() -> Any:
            sent.arrived.append(self._loop.now_s)
            handling = self._provider.purchase(body, reference)
            handling.add_done_callback(lambda _: sent.ended.append(self._loop.now_s), context=self._loop.world.context)
            return handling

        # What left may be long on its way, but no longer than the kernel sends on: until the deadline.
        slow_s = random.uniform(0, left_s) if random.random() < 0.03 else 0.0
        lost = random.random() < 0.01
        answer = self._loop.create_future()
        self._loop.in_world(slow_s, self._send, arrive, answer, lost, sent.until_s)
        timer = self._loop.in_world(left_s, _time_out, answer)
        try:
            said = await answer
        except (Lost, ConnectionError) as error:
            return Outcome(OutcomeClass.UNKNOWN, message=repr(error)[:100])
        finally:
            timer.cancel()
        return self._reader.delivery(said, reference)

    def _left_s(self, deadline: Deadline) -> float:
        return min(deadline.monotonic_s - self._loop.now_s, deadline.wall_s - self._process.wall_s())

    def _send(self, arrive: Any, answer: asyncio.Future[Any], lost: bool, until_s: float) -> None:  # noqa: FBT001 - a callback
        if "provider" in self._process.cut_from:
            # Retransmitted until TCP_USER_TIMEOUT.
            if self._loop.now_s + 0.5 < until_s:
                self._loop.in_world(0.5, self._send, arrive, answer, lost, until_s)
            return
        if lost:
            return
        self._network_call(arrive, answer)

    def _network_call(self, arrive: Any, answer: asyncio.Future[Any]) -> None:
        def give(done: asyncio.Future[Any]) -> None:
            error = None if done.cancelled() else done.exception()
            if not done.cancelled() and not answer.done():
                if error is not None:
                    answer.set_exception(error)
                    answer.exception()
                elif "provider" not in self._process.cut_from:
                    answer.set_result(done.result())

        handling = arrive()
        handling.add_done_callback(give, context=self._loop.world.context)

    async def verify(self, reference: str) -> Outcome:
        try:
            said = await self._network.ask(
                self._process, "provider", lambda: self._provider.query(reference), PROFILE.call_timeout_s
            )
        except (Lost, ConnectionError) as error:
            return Outcome(OutcomeClass.NO_ANSWER, message=repr(error)[:100])
        return self._reader.status(said, reference)

    async def balance(self) -> Balance | None:
        await asyncio.sleep(drawn_latency(self._loop.random))
        plan = self._provider.sandbox.plan
        if plan.credentials_refused or plan.account_suspended or not self._process.reaches("provider"):
            return None
        return Balance(self._provider.ledger.balance_mb, 0)

    async def close(self) -> None:
        """Nothing is held."""


def _time_out(answer: asyncio.Future[Any]) -> None:
    if not answer.done():
        answer.set_exception(Lost("timeout"))


async def _reset(_request: object, _reply: object) -> Any:
    raise ConnectionResetError("reset by the provider")


@contextmanager
def on_simulated_time(loop: SimLoop) -> Iterator[None]:
    """What of the provider's code reads the clock by itself reads the simulation's."""
    clock = SimpleNamespace(time=lambda: BEGIN_S + loop.now_s)
    modules: list[Any] = [at_ishare_answers, sandbox, sandbox_answers]
    real, reset = at_ishare_answers.time, sandbox_answers.reset
    for module in modules:
        module.time = clock
    sandbox_answers.reset = _reset
    try:
        yield
    finally:
        for module in modules:
            module.time = real
        sandbox_answers.reset = reset
