"""What is kept of a storm that was not sound: topics as JSON lines, tables, ledger; logs and timeline lie beside."""

import base64
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from tests.evidence import Evidence, Logged


def keep(directory: Path, evidence: Evidence, said: str) -> None:
    """Below `directory`; `said` is the report, with what is wrong."""
    (directory / "report.txt").write_text(said + "\n")
    topics, tables = directory / "topics", directory / "tables"
    topics.mkdir()
    tables.mkdir()
    for name, records in evidence.topics.items():
        _lines(topics / f"{name}.jsonl", map(_record, records))
    _lines(tables / "fulfillment_logs.jsonl", (row._asdict() for row in evidence.rows.values()))
    _lines(tables / "orders.jsonl", ([order_id, *row] for order_id, row in evidence.orders.items()))
    _lines(tables / "quarantine.jsonl", evidence.quarantined)
    _lines(directory / "ledger.jsonl", ({"reference": ref, **asdict(known)} for ref, known in evidence.ledger.items()))
    _lines(directory / "accepted.jsonl", evidence.clients.accepted)
    _lines(directory / "answers.jsonl", (answer._asdict() for answer in evidence.clients.answers))


def _record(record: Logged) -> dict[str, Any]:
    said = {name: getattr(record, name) for name in ("partition", "offset", "timestamp")}
    said |= {"key": _text(record.key), "headers": [[name, _text(value)] for name, value in record.headers]}
    try:
        return said | {"value": orjson.loads(record.value or b"null")}
    except ValueError:
        return said | {"value": _text(record.value)}


def _text(value: bytes | None) -> str | None:
    """As it is, where it is text; else in Base64, saying so."""
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return f"base64:{base64.b64encode(value or b'').decode()}"


def _lines(path: Path, items: Iterable[Any]) -> None:
    with path.open("wb") as file:
        for item in items:
            file.write(orjson.dumps(item, option=orjson.OPT_APPEND_NEWLINE, default=str))
