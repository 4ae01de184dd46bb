"""What was really delivered, and every call about it: the ground truth of the tests."""

import secrets
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from services.at_ishare_contract import REFERENCE_MEMORY_S, Code, Purchase, Status
from services.sandbox.faults import QueryAnswer


@dataclass(slots=True)
class Record:
    """All that is known of one reference. Times are Unix seconds."""

    phone: str
    size_mb: int
    network: str
    status: Status | None = None
    """None: never taken, so a status query does not find it."""
    code: str = Code.OK
    transaction_id: str | None = None
    taken_at: float = 0.0
    due_at: float | None = None
    """Of a late end."""
    due_code: str = Code.OK
    deliveries: int = 0
    sends: int = 0
    queries: int = 0
    in_flight: int = 0
    max_in_flight: int = 0
    sent_at: list[float] = field(default_factory=list)
    lag_s: list[float] = field(default_factory=list)
    """Of the sandbox's loop, around each of `sent_at`."""
    hidden_until: float = 0.0
    query_answers: deque[QueryAnswer] | None = None

    def remembered(self, now: float) -> bool:
        """Whether the same reference now replays its result instead of being executed."""
        return self.status in (Status.PROCESSING, Status.SUCCESS) and now < self.taken_at + REFERENCE_MEMORY_S

    def known(self, now: float) -> bool:
        """Whether a status query finds it."""
        return self.status is not None and now < self.taken_at + REFERENCE_MEMORY_S

    def matches(self, purchase: Purchase) -> bool:
        return self.phone == purchase.phone_number and self.size_mb == purchase.size_mb


class Ledger:
    """Kept in memory; every change is first written to the journal, if there is one, so that a killed sandbox goes on
    where it stopped.
    """

    def __init__(self, balance_mb: int, journal: Path | None = None) -> None:
        self.records: dict[str, Record] = {}
        self.balance_mb = balance_mb
        self.reserved_mb = 0
        self.sends = 0
        self.queries = 0
        self.balance_asked_at: list[float] = []
        self.delivered = 0
        self._journal: BinaryIO | None = None
        # A transaction id must be new after a restart too.
        self._incarnation = secrets.token_hex(4)
        self._transactions = 0
        if journal is not None:
            self._replay(journal)
            self._journal = journal.open("ab", buffering=0)

    def close(self) -> None:
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def receive(self, purchase: Purchase, now: float, lag_s: float = 0.0) -> Record:
        """Counts a send, whatever becomes of it."""
        self._write("send", *_line(purchase), now, lag_s)
        return self._receive(purchase, now, lag_s)

    def take(self, purchase: Purchase, now: float, due_at: float | None, due_code: str) -> str:
        """The reference is processing from now on; returns the transaction's id."""
        self._transactions += 1
        transaction_id = f"AT-{self._incarnation}-{self._transactions}"
        self._write("take", *_line(purchase), transaction_id, now, due_at, due_code)
        self._take(purchase, transaction_id, now, due_at, due_code)
        return transaction_id

    def deliver(self, reference: str, transaction_id: str) -> None:
        self._write("deliver", reference, transaction_id)
        self._deliver(self.records[reference], transaction_id)

    def fail(self, reference: str, transaction_id: str, code: str) -> None:
        self._write("fail", reference, transaction_id, code)
        self._fail(self.records[reference], transaction_id, code)

    def unfinished(self) -> Iterator[tuple[str, Record]]:
        for reference, record in self.records.items():
            if record.status is Status.PROCESSING:
                yield reference, record

    def view(self) -> dict[str, Any]:
        """`deliveries`: reference → how many times it was really delivered (absent: never)."""
        return {
            "deliveries": {ref: record.deliveries for ref, record in self.records.items() if record.deliveries},
            "calls": {"sends": self.sends, "queries": self.queries, "deliveries": self.delivered},
            "balance": {"available_mb": self.balance_mb, "reserved_mb": self.reserved_mb},
            "balance_asked_at": self.balance_asked_at,
            "references": {
                ref: {
                    "phone": record.phone,
                    "size_mb": record.size_mb,
                    "network": record.network,
                    "status": record.status,
                    "code": record.code,
                    "transaction_id": record.transaction_id,
                    "deliveries": record.deliveries,
                    "sends": record.sends,
                    "queries": record.queries,
                    "max_in_flight": record.max_in_flight,
                    "sent_at": record.sent_at,
                    "lag_s": record.lag_s,
                }
                for ref, record in self.records.items()
            },
        }

    def _receive(self, purchase: Purchase, now: float, lag_s: float = 0.0) -> Record:
        record = self.records.get(purchase.reference)
        if record is None:
            record = Record(purchase.phone_number, purchase.size_mb, purchase.network)
            self.records[purchase.reference] = record
        record.sends += 1
        record.sent_at.append(now)
        record.lag_s.append(lag_s)
        self.sends += 1
        return record

    def _take(self, purchase: Purchase, transaction_id: str, now: float, due_at: float | None, due_code: str) -> None:
        record = self.records[purchase.reference]
        record.phone, record.size_mb, record.network = (
            purchase.phone_number,
            purchase.size_mb,
            purchase.network,
        )
        record.status, record.code = Status.PROCESSING, Code.OK
        record.transaction_id, record.taken_at = transaction_id, now
        record.due_at, record.due_code = due_at, due_code
        self.reserved_mb += purchase.size_mb

    def _deliver(self, record: Record, transaction_id: str) -> None:
        record.status, record.code, record.transaction_id = Status.SUCCESS, Code.OK, transaction_id
        record.deliveries += 1
        self.reserved_mb -= record.size_mb
        self.balance_mb -= record.size_mb
        self.delivered += 1

    def _fail(self, record: Record, transaction_id: str, code: str) -> None:
        record.status, record.code, record.transaction_id = Status.FAILED, code, transaction_id
        self.reserved_mb -= record.size_mb

    def _write(self, *line: object) -> None:
        if self._journal is not None:
            self._journal.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))

    def _replay(self, journal: Path) -> None:
        journal.parent.mkdir(parents=True, exist_ok=True)
        journal.touch()
        content = journal.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            # The sandbox was killed in the middle of its last line: what that line says never happened.
            with journal.open("r+b") as file:
                file.truncate(whole)
        for line in content[:whole].splitlines():
            match orjson.loads(line):
                case ["send", *fields]:
                    self._receive(Purchase(*fields[:4]), *fields[4:])
                case ["take", *fields]:
                    self._take(Purchase(*fields[:4]), *fields[4:])
                case ["deliver", reference, transaction_id]:
                    self._deliver(self.records[reference], transaction_id)
                case ["fail", reference, transaction_id, code]:
                    self._fail(self.records[reference], transaction_id, code)
                case strange:
                    raise ValueError(f"{journal.name}: no ledger has a line like {strange!r}")


def _line(purchase: Purchase) -> tuple[str, str, str, int]:
    return purchase.reference, purchase.phone_number, purchase.network, purchase.size_mb
