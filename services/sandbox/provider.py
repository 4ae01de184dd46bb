"""The provider's side of the contract: takes purchases, answers status queries, and errs to order."""

import asyncio
import hmac
import re
import time
from collections import deque

from aiohttp import web
from pydantic import TypeAdapter, ValidationError

from services.at_ishare_contract import (
    BALANCE_PATH,
    CLOCK_SKEW_S,
    KEY_HEADER,
    PURCHASE_PATH,
    SIGNATURE_HEADER,
    TIMESTAMP_HEADER,
    BalanceReply,
    Code,
    Purchase,
    Status,
    sign,
)
from services.sandbox import answers
from services.sandbox.faults import NO_FAULT, Answer, Effect, Fault, Pause, Plan, QueryAnswer
from services.sandbox.gates import Gates
from services.sandbox.lag import Lag
from services.sandbox.ledger import Ledger, Record

_PURCHASE_PATH = "/v1" + PURCHASE_PATH
_QUERY_PREFIX = _PURCHASE_PATH + "/"
_BALANCE_PATH = "/v1" + BALANCE_PATH
_PURCHASE = TypeAdapter(Purchase)
_MSISDN = re.compile(r"\+[0-9]{7,15}")
_LATER = (Effect.DELIVER_LATER, Effect.DECLINE_LATER)


class SandboxProvider:
    def __init__(self, key: str, secret: str, ledger: Ledger, plan: Plan) -> None:
        self._key = key
        self._secret = secret.encode()
        self.ledger = ledger
        self.plan = plan
        self.gates = Gates(ledger)
        self.lag = Lag()
        self._loop = asyncio.get_running_loop()
        self._timers: set[asyncio.TimerHandle] = set()
        self._resume()

    def close(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self.lag.close()
        self.ledger.close()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        # Before its body is read: the earliest that this process knows of it.
        received_at = time.time()
        body = await request.read()
        if refusal := self._refusal(request, body):
            return refusal
        path = request.rel_url.raw_path
        if path == _PURCHASE_PATH and request.method == "POST":
            return await self._purchase(request, body, received_at)
        if path.startswith(_QUERY_PREFIX) and request.method == "GET":
            return await self._query(request, request.rel_url.path.removeprefix(_QUERY_PREFIX))
        if path == _BALANCE_PATH and request.method == "GET":
            self.ledger.balance_asked_at.append(time.time())
            return answers.json(BalanceReply(self.ledger.balance_mb - self.ledger.reserved_mb, self.ledger.reserved_mb))
        return web.Response(status=404, text="no such path")

    def _refusal(self, request: web.BaseRequest, body: bytes) -> web.Response | None:
        headers = request.headers
        timestamp = headers.get(TIMESTAMP_HEADER, "")
        signature = sign(self._secret, timestamp, request.method, request.rel_url.raw_path, body)
        if (
            self.plan.credentials_refused
            or not hmac.compare_digest(headers.get(KEY_HEADER, "").encode(), self._key.encode())
            or not hmac.compare_digest(headers.get(SIGNATURE_HEADER, "").encode(), signature.encode())
            or not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) < 16)
            or abs(time.time() - int(timestamp)) > CLOCK_SKEW_S
        ):
            return answers.refused(Code.BAD_CREDENTIALS, None)
        if self.plan.account_suspended:
            return answers.refused(Code.ACCOUNT_SUSPENDED, None)
        return None

    async def _purchase(self, request: web.BaseRequest, body: bytes, received_at: float) -> web.StreamResponse:
        try:
            purchase = _PURCHASE.validate_json(body, strict=True)
        except ValidationError:
            return answers.refused(Code.INTERNAL, None, http_status=400)
        if not 0 < len(purchase.reference) <= 100:
            return answers.refused(Code.INTERNAL, None, http_status=400)
        record = self.ledger.receive(purchase, received_at, self.lag.around_s())
        fault = self.plan.fault_for(purchase.phone_number, purchase.reference, record.sends)
        record.in_flight += 1
        record.max_in_flight = max(record.max_in_flight, record.in_flight)
        self.gates.changed()
        try:
            return await self._execute(request, purchase, record, fault)
        finally:
            record.in_flight -= 1

    async def _execute(
        self, request: web.BaseRequest, purchase: Purchase, record: Record, fault: Fault
    ) -> web.StreamResponse:
        now, reference = time.time(), purchase.reference
        replay = self.plan.dedupe and fault.dedupe and record.remembered(now)
        if replay and fault.code != Code.OK:
            fault = NO_FAULT  # the provider errs, but it does not deny what it has delivered
        refusal = self._refusal_of(purchase, record, fault, now, replay=replay)
        taken = None
        if refusal is None and not replay and fault.effect is not Effect.NOTHING:
            taken = self._take(purchase, record, fault, now)

        if self.plan.latency_s:
            await asyncio.sleep(self.plan.latency_s)
        if refusal is not None:
            return answers.refused(refusal, reference, http_status=fault.http_status)
        await self._pause(fault.pause, Pause.HANG_FIRST, Pause.HOLD_FIRST, reference)
        if taken is not None:
            self._settle(reference, taken, fault)
        await self._pause(fault.pause, Pause.HANG, Pause.HOLD, reference)

        if record.status is not None and (taken or replay):
            transaction_id = taken or record.transaction_id
            reply = answers.state(reference, record.status, record.code, transaction_id, duplicate=replay)
        else:
            reply = answers.state(reference, Status.SUCCESS, Code.OK, "AT-never")  # a lie: nothing was taken
        if fault.answer is Answer.RESET:
            return await answers.reset(request, reply)
        return answers.STRANGE[fault.answer](reply, fault)

    def _refusal_of(self, purchase: Purchase, record: Record, fault: Fault, now: float, *, replay: bool) -> str | None:
        """The code with which the purchase is turned away, nothing taken."""
        if record.remembered(now) and not record.matches(purchase):
            return Code.DUPLICATE_REFERENCE
        if not _MSISDN.fullmatch(purchase.phone_number):
            return Code.INVALID_MSISDN
        if purchase.size_mb <= 0 or not purchase.network:
            return Code.UNKNOWN_BUNDLE
        if fault.effect is Effect.NOTHING and fault.answer is Answer.HONEST:
            return fault.code
        if not replay and purchase.size_mb > self.ledger.balance_mb - self.ledger.reserved_mb:
            return Code.INSUFFICIENT_BALANCE
        return None

    def _settle(self, reference: str, transaction_id: str, fault: Fault) -> None:
        if fault.effect is Effect.DELIVER:
            self._deliver(reference, transaction_id)
        elif fault.effect is Effect.DECLINE:
            self.ledger.fail(reference, transaction_id, fault.code)

    def _take(self, purchase: Purchase, record: Record, fault: Fault, now: float) -> str:
        due_at = now + fault.later_s if fault.effect in _LATER else None
        transaction_id = self.ledger.take(purchase, now, due_at, fault.code)
        record.hidden_until = now + fault.hidden_s
        record.query_answers = deque(fault.queries) if fault.queries else None
        if due_at is not None:
            self._later(due_at, purchase.reference, transaction_id, fault.code)
        return transaction_id

    def _deliver(self, reference: str, transaction_id: str) -> None:
        self.ledger.deliver(reference, transaction_id)
        self.gates.changed()

    def _later(self, due_at: float, reference: str, transaction_id: str, code: str) -> None:
        def end() -> None:
            self._timers.discard(timer)
            if code == Code.OK:
                self._deliver(reference, transaction_id)
            else:
                self.ledger.fail(reference, transaction_id, code)

        timer = self._loop.call_later(max(0.0, due_at - time.time()), end)
        self._timers.add(timer)

    def _resume(self) -> None:
        """What a killed sandbox had taken is brought to its end by the next one."""
        for reference, record in self.ledger.unfinished():
            if record.transaction_id is not None:
                self._later(record.due_at or 0.0, reference, record.transaction_id, record.due_code)

    async def _pause(self, pause: Pause, hang: Pause, hold: Pause, reference: str) -> None:
        if pause is hang:
            await asyncio.sleep(self.plan.hang_s)
        elif pause is hold:
            await self.gates.hold(reference)

    async def _query(self, request: web.BaseRequest, reference: str) -> web.StreamResponse:
        now = time.time()
        self.ledger.queries += 1
        record = self.ledger.records.get(reference)
        answer = QueryAnswer.HONEST if record is None else self._query_answer(record, reference, now)
        self.gates.changed()
        if self.plan.latency_s:
            await asyncio.sleep(self.plan.latency_s)
        if answer is QueryAnswer.HANG:
            await asyncio.sleep(self.plan.hang_s)
        if record is None or record.status is None or not record.known(now) or answer is QueryAnswer.NOT_FOUND:
            return answers.refused(Code.NOT_FOUND, reference)
        reply = answers.state(reference, record.status, record.code, record.transaction_id)
        match answer:
            case QueryAnswer.PROCESSING:
                return answers.json(answers.state(reference, Status.PROCESSING, Code.OK, record.transaction_id))
            case QueryAnswer.INTERNAL:
                return answers.refused(Code.INTERNAL, reference)
            case QueryAnswer.GARBAGE:
                return answers.garbage()
            case QueryAnswer.RESET:
                return await answers.reset(request, reply)
            case _:
                return answers.json(reply)

    def _query_answer(self, record: Record, reference: str, now: float) -> QueryAnswer:
        record.queries += 1
        if record.query_answers:
            return record.query_answers.popleft()
        if now < record.hidden_until:
            return QueryAnswer.NOT_FOUND
        return self.plan.query_answer_for(reference, record.queries)
