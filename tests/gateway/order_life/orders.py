"""An order that lives a story: each input of docs/order-life.md in turn, over HTTP and at the provider."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from schemas.commands import COMMAND_TYPES
from services.at_ishare_contract import Code, Purchase, Status
from services.sandbox.ledger import Record
from tests.gateway.conftest import FULFILLMENT, PURCHASE, Answer
from tests.gateway.order_life.world import LATER, RESTART, TAKEOVER, World
from tests.waiting import until

REST: Final = "all that is not allowed"
TWICE: Final = "all that is allowed, by two at once"
DUE: Final = "due, a slot"
CONFLICT: Final = "OrderCreated with another phone, size or network"
KINDS: Final = [kind.__name__ for kind in COMMAND_TYPES]
ALLOWED: Final[dict[tuple[str, bool], set[str]]] = {
    ("created", False): {"CancelFulfillment"},
    ("held", False): {"CancelFulfillment", "TriggerFulfillment"},
    ("waiting", False): {"RetryFulfillment", "TriggerFulfillment"},
    ("failed", False): {"RetryFulfillment", "TriggerFulfillment"},
    ("failed", True): {"OverrideFulfillment"},
    ("review", False): {"ResolveFulfillment"},
    ("review", True): {"ResolveFulfillment"},
}
"""By state, and whether the attempts are used up."""
REASON: Final = "the customer asked for it, ticket 4711"
_FAULTS: Final[dict[str, str | None]] = {
    "reply: delivered": None,
    "reply: accepted": "late_1h",
    "reply: declined for good": "barred",
    "reply: declined for now": "busy",
    "reply: declined for now, no status query": "busy",
    "reply: turned away": "rate_limited_absurd",
    "reply: turned away, an hour of it": "rate_limited_absurd",
    "reply: provider suspended": "insufficient_balance",
    "reply: unknown": "error_500",
    "reply: unknown, no status query": "error_500",
    "reply: duplicate, on a first send": "duplicate_nothing",
}
_PAIRS: Final = {
    "ResolveFulfillment delivered, not contradicted",
    "ResolveFulfillment delivered, proven undelivered",
    "ResolveFulfillment not delivered, not contradicted",
    "ResolveFulfillment not delivered, delivered after all",
    "OverrideFulfillment, delivered after all",
}
_PRETENDED: Final[dict[str, dict[str, Any]]] = {
    "RetryFulfillment": {"state": "waiting", "status": "failed", "attempt_number": 1},
    "TriggerFulfillment": {"state": "waiting", "status": "failed", "attempt_number": 1},
    "ResolveFulfillment": {"state": "review", "status": "processing", "attempt_number": 1},
    "OverrideFulfillment": {"state": "failed", "status": "failed", "attempt_number": 3},
    "CancelFulfillment": {"state": "created", "status": "pending", "attempt_number": 0},
}
"""What a row may say that is behind: the gateway lets the act pass."""
_RUNNING: Final = {"created", "attempting", "accepted", "unknown", "review"}


class Order:
    def __init__(self, world: World, network: str) -> None:
        self.world = world
        self.network = network
        self.phone = f"+23320{uuid.uuid4().int % 10**7:07}"
        self.key = f"key-{uuid.uuid4()}"
        self.order_id = ""
        self.given: list[str] = []
        """What has made an event of it so far."""
        self.conflicts: list[str] = []
        """The states in which another order of its id came."""
        self._sequence = 0
        self._transactions: list[str] = []

    # --- over HTTP ----------------------------------------------------------------------------------------------------

    async def buy(self, size: str = "1GB") -> Answer:
        body = {"network": self.network, "size": size, "phoneNumber": self.phone}
        headers = {"Idempotency-Key": self.key}
        answer = await self.world.request("POST", PURCHASE, headers, json=body)
        assert answer.status == 202, answer.content
        self.order_id = answer.json["order"]["id"]
        return answer

    async def act(self, kind: str, *, delivered: bool = True, wait_s: int = 0, actor: int = 0) -> Answer:
        headers = {**self.world.operators[actor], "Prefer": f"wait={wait_s}"}
        act = kind.removesuffix("Fulfillment").lower()
        if act in {"trigger", "retry"}:
            path, body = FULFILLMENT, {"action": act, "orderId": self.order_id, "reason": REASON}
        else:
            path, body = f"/api/admin/fulfillment/{self.order_id}/{act}", {"reason": REASON}
            if act == "resolve":
                body["delivered"] = delivered  # type: ignore[assignment] # no text, and none is needed
        return await self.world.request("POST", path, headers, json=body)

    async def row(self) -> dict[str, Any]:
        answer = await self._status({})
        assert answer.status == 200, answer.content
        return dict(answer.json["fulfillment"])

    async def _status(self, headers: Mapping[str, str]) -> Answer:
        return await self.world.request("GET", FULFILLMENT, headers, params={"orderId": self.order_id})

    async def reach(self, given: str, events: int = 1) -> None:
        """Wait until so many events more have followed."""
        self.given.append(given)
        self._sequence += events
        etag = '"0"'
        async with asyncio.timeout(30):
            while True:
                answer = await self._status({"If-None-Match": etag, "Prefer": "wait=10"})
                etag = answer.headers.get("ETag", etag)
                if int(etag.strip('"').partition("-")[0]) >= self._sequence:
                    return

    # --- a story ------------------------------------------------------------------------------------------------------

    async def live(self, story: Sequence[str]) -> None:
        for number, given in enumerate(story):
            before, after, reply = ("", *story, "", "")[number], *(*story, "", "")[number + 1 : number + 3]
            try:
                await self._step(given, before, after, reply)
            except BaseException as error:
                error.add_note(f"{self.network} order {self.order_id} at {given!r}, step {number} of {story}")
                raise

    async def _step(self, given: str, before: str, after: str, reply: str) -> None:
        if given in {LATER, TAKEOVER, RESTART}:
            if given == TAKEOVER:
                self.provider_says(after)
            await self.world.barrier.wait(given)
        elif given == REST:
            await self.rest()
        elif given == TWICE:
            await self.two_at_once()
        elif given.startswith("OrderCreated"):
            await self.meets(reply)
            await self.buy()
            await self.reach(given)
        elif given == DUE:
            if self._sequence > 1:
                await self.meets(after)
                await self.world.barrier.wait(LATER)
            await self.reach(given)
        elif given.startswith("reply:"):
            await self.reach(given)
        elif given.startswith("in doubt"):
            await self.world.barrier.wait(LATER)
            await self.reach(given)
        elif given.startswith("query:"):
            if before != TAKEOVER:
                self.provider_says(given)
                await self.world.barrier.wait(LATER)
            await self.reach(given)
        else:
            await self._command(given, after)

    async def _command(self, given: str, after: str) -> None:
        kind = given.split(maxsplit=1)[0].rstrip(",")
        self.provider_says(given)
        await self.meets(after)
        answer = await self.act(kind, delivered="not delivered" not in given)
        assert answer.status in {200, 202, 400, 409}, answer.content
        await self.reach(given, 2 if given in _PAIRS else 1)

    # --- at the provider ----------------------------------------------------------------------------------------------

    async def meets(self, reply: str) -> None:
        """What the next call meets."""
        record = self.world.desk.provider.ledger.records.get(self.order_id)
        if record is not None and record.transaction_id is not None:
            self._transactions.append(record.transaction_id)
        if reply == "reply: never left":
            await self.world.shut_door()
        times = (record.sends if record else 0) + 1 if reply == "reply: provider suspended" else 0
        self.world.desk.meets(self.phone, _FAULTS.get(reply, "hold_first"), times)

    def provider_says(self, given: str) -> None:
        """To the next question."""
        ledger, reference = self.world.desk.provider.ledger, self.order_id
        self.world.desk.silent.discard(reference)
        what = given.split(": ", 1)[1] if given.startswith("query:") else given.partition(", ")[2]
        purchase = Purchase(reference, self.phone, self.network, 1000)
        match what:
            case "delivered" | "delivered after all":
                ledger.deliver(reference, ledger.take(purchase, 0.0, None, Code.OK))
                self._remember(ledger.records[reference])
            case "queued" | "still queued":
                ledger.take(purchase, 0.0, None, Code.OK)
                self._remember(ledger.records[reference])
            case "this attempt failed" | "proven undelivered":
                ledger.fail(reference, ledger.take(purchase, 0.0, None, Code.OK), Code.BUSY)
                self._remember(ledger.records[reference])
            case "an earlier attempt failed":
                record = ledger.records[reference]
                record.status, record.code, record.transaction_id = Status.FAILED, Code.BUSY, self._transactions[0]
                self._remember(record)
            case said if said.startswith("not found"):
                ledger.records[reference].status = None
            case "deadline passed" | "no answer for a day" | "not contradicted" | "not proven":
                self.world.desk.silent.add(reference)

    @staticmethod
    def _remember(record: Record) -> None:
        record.taken_at = 1e12

    # --- what is not allowed, and who was second ----------------------------------------------------------------------

    async def rest(self) -> None:
        """Whatever is not allowed in this state is refused: at once, and by the fulfiller where the view is behind."""
        row = await self.row()
        state, used_up = row["state"], row["attempt_number"] >= row["max_attempts"]
        for kind in KINDS:
            if kind in ALLOWED.get((state, used_up), set()):
                continue
            for actor in (0, 1):
                answer = await self.act(kind, actor=actor)
                if kind == "TriggerFulfillment" and state in _RUNNING:
                    assert answer.status == 202, answer.content
                elif kind == "TriggerFulfillment" and state == "delivered":
                    assert answer.status == 200, answer.content
                else:
                    assert answer.is_problem(409), answer.content
            async with self._behind(kind):
                answer = await self.act(kind, wait_s=20)
                assert answer.is_problem(409), (state, kind, answer.content)
                assert state in answer.json["detail"] or "attempts" in answer.json["detail"]
            await self.reach(kind)
        await self._conflicting(state)
        assert (await self.row())["state"] == state

    @asynccontextmanager
    async def _behind(self, kind: str) -> AsyncIterator[None]:
        """The view says what was so before."""
        database, said = self.world.database, _PRETENDED[kind]
        true = await database.fetchrow(
            "SELECT state, status, attempt_number FROM fulfillment_logs WHERE order_id = $1", self.order_id
        )
        assert true is not None
        change = "UPDATE fulfillment_logs SET state = $2, status = $3, attempt_number = $4 WHERE order_id = $1"
        await database.execute(change, self.order_id, said["state"], said["status"], said["attempt_number"])
        yield
        await database.execute(change, self.order_id, *true)

    async def _conflicting(self, state: str) -> None:
        """Its key once more, for another bundle: of a gateway that can look up neither key nor order."""
        database, order_id = self.world.database, self.order_id
        nobody = str(uuid.uuid4())
        await database.execute("DELETE FROM access.idempotency_keys WHERE key = $1", self.key)
        await database.execute("UPDATE orders SET id = $2 WHERE id = $1", order_id, nobody)
        await self.buy("2GB")
        assert self.order_id == order_id
        self.conflicts.append(state)

        async def set_aside() -> bool:
            params = {"error": "conflict", "orderId": self.order_id}
            answer = await self.world.request("GET", "/api/admin/dead-letters", self.world.operators[0], params=params)
            return len(answer.json["letters"]) == len(self.conflicts)

        await until(set_aside, f"a dead letter about {self.order_id}")
        await database.execute("DELETE FROM orders WHERE id = $1", order_id)
        await database.execute("UPDATE orders SET id = $2 WHERE id = $1", nobody, order_id)

    async def two_at_once(self) -> None:
        """Of two who do the same thing one has it done, and the other is told what happened."""
        row = await self.row()
        state, used_up = row["state"], row["attempt_number"] >= row["max_attempts"]
        (kind,) = ALLOWED[state, used_up] - {"TriggerFulfillment"}
        both = await asyncio.gather(*(self.act(kind, wait_s=20, actor=actor) for actor in (0, 1)))
        refused = [answer for answer in both if answer.status == 409]
        assert len(refused) == 1, (state, kind, [answer.content for answer in both])
        assert refused[0].is_problem(409)
        if kind != "RetryFulfillment":  # which may be done again where it has failed again
            assert (await self.act(kind)).is_problem(409)
