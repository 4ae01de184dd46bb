"""What AT-iShare's answers mean. Pure; whatever the bytes are, there is an outcome and never an exception.

The body's code decides, never the HTTP status alone: providers send "insufficient balance" as a 500 and errors
as a 200. The status can only make a good answer doubtful: success is believed with 2xx alone.
"""

import math
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

import orjson

from services.at_ishare_contract import Code, Status
from services.fulfiller.providers.port import Balance, Outcome, OutcomeClass

MAX_RETRY_AFTER_S = 3600.0
_MAX_RAW_BYTES = 4096
_MAX_CODE = 64
_MAX_TEXT = 500
_MAX_ID = 128
_MAX_DEPTH = 4
_MAX_ITEMS = 32
_SECRET_NAMES = ("key", "secret", "password", "token", "authorization", "signature", "credential", "pin")
_REMOVED = "[removed]"
_FIELDS = frozenset({"status", "code", "message", "reference", "transaction_id", "duplicate"})
_PLAIN = frozenset({str, int, bool, type(None)})

_REFUSALS: Mapping[str, OutcomeClass] = {
    Code.INVALID_MSISDN: OutcomeClass.DECLINED_PERMANENT,
    Code.NO_SUCH_SUBSCRIBER: OutcomeClass.DECLINED_PERMANENT,
    Code.NOT_ELIGIBLE: OutcomeClass.DECLINED_PERMANENT,
    Code.UNKNOWN_BUNDLE: OutcomeClass.DECLINED_PERMANENT,
    Code.BARRED: OutcomeClass.DECLINED_PERMANENT,
    Code.BUSY: OutcomeClass.DECLINED_TRANSIENT,
    Code.TRY_AGAIN: OutcomeClass.DECLINED_TRANSIENT,
    Code.RATE_LIMITED: OutcomeClass.TURNED_AWAY,
    Code.INSUFFICIENT_BALANCE: OutcomeClass.SUSPENDED,
    Code.BAD_CREDENTIALS: OutcomeClass.SUSPENDED,
    Code.ACCOUNT_SUSPENDED: OutcomeClass.SUSPENDED,
    Code.DUPLICATE_REFERENCE: OutcomeClass.UNKNOWN,
    Code.INTERNAL: OutcomeClass.UNKNOWN,
}

_FAILURES: Mapping[str, OutcomeClass] = {
    # A purchase that ran out of balance under way has failed like any other: it may be tried again.
    Code.INSUFFICIENT_BALANCE: OutcomeClass.DECLINED_TRANSIENT,
    **{
        code: kind
        for code, kind in _REFUSALS.items()
        if kind in (OutcomeClass.DECLINED_PERMANENT, OutcomeClass.DECLINED_TRANSIENT)
    },
}
"""What a status query may say of a failed purchase. Any other code speaks of the query, not of the purchase."""

_ABOUT_THE_QUERY = (
    Code.RATE_LIMITED,
    Code.BAD_CREDENTIALS,
    Code.ACCOUNT_SUSPENDED,
    Code.INTERNAL,
    Code.DUPLICATE_REFERENCE,
)


class Answer(NamedTuple):
    http_status: int
    body: bytes | None
    """None: larger than an answer may be."""
    retry_after: str | None


class _Said(NamedTuple):
    """An answer's fields, each of the type that it should have or None."""

    status: str | None
    code: str | None
    message: str | None
    reference: object
    transaction_id: str | None
    duplicate: bool
    raw: Mapping[str, Any]


class AnswerReader:
    def __init__(self, secrets: tuple[str, ...]) -> None:
        self._secrets = tuple(secret for secret in secrets if secret)
        self._secret_bytes = tuple(secret.encode() for secret in self._secrets)

    def delivery(self, answer: Answer, reference: str) -> Outcome:
        """What the answer to a purchase means."""
        said = self._said(answer)
        if 300 <= answer.http_status < 400:
            # Refused, and no proof of anything: some servers execute first and then send the caller elsewhere.
            return _outcome(OutcomeClass.UNKNOWN, said, alert=True)
        refusal = _REFUSALS.get(said.code or "") if said.status in (None, Status.FAILED) else None
        if refusal is not None and said.reference in (None, reference):
            return _refusal(refusal, said, answer)
        about_us = said.code == Code.OK and said.reference == reference and said.transaction_id is not None
        if about_us and _is_ok(answer):
            if said.status == Status.SUCCESS:
                return _outcome(OutcomeClass.DELIVERED, said)
            if said.status == Status.PROCESSING:
                return _outcome(OutcomeClass.ACCEPTED, said)
        nothing_said = said.status is None and said.code is None and said.reference is None
        if nothing_said and answer.http_status == 429 and answer.retry_after is not None:
            # A gateway's refusal in front of the provider: status and header agree, and the body says nothing.
            return _refusal(OutcomeClass.TURNED_AWAY, said, answer)
        return _outcome(OutcomeClass.UNKNOWN, said, alert=not (nothing_said and answer.http_status >= 500))

    def status(self, answer: Answer, reference: str) -> Outcome:
        """What the answer to a status query means."""
        said = self._said(answer)
        ok = _is_ok(answer)
        refused = said.status in (None, Status.FAILED) and said.reference in (None, reference)
        if refused and said.code == Code.NOT_FOUND and (ok or answer.http_status == 404):
            return _outcome(OutcomeClass.NOT_FOUND, said)
        if said.reference == reference and said.transaction_id is not None:
            if ok and said.code == Code.OK and said.status == Status.SUCCESS:
                return _outcome(OutcomeClass.DELIVERED, said)
            failure = _FAILURES.get(said.code or "") if answer.http_status < 500 else None
            if failure is not None and said.status == Status.FAILED:
                return _outcome(failure, said)
        if said.reference == reference and ok and said.code == Code.OK and said.status == Status.PROCESSING:
            return _outcome(OutcomeClass.ACCEPTED, said)
        alert = not (said.code in _ABOUT_THE_QUERY or answer.http_status >= 500)
        return _outcome(OutcomeClass.NO_ANSWER, said, alert=alert)

    def balance(self, answer: Answer) -> Balance | None:
        fields = _object(answer.body)
        if not _is_ok(answer) or fields is None:
            return None
        available_mb, reserved_mb = fields.get("available_mb"), fields.get("reserved_mb")
        if type(available_mb) is not int or type(reserved_mb) is not int:
            return None
        return Balance(available_mb, reserved_mb)

    def _said(self, answer: Answer) -> _Said:
        body, fields = answer.body, _object(answer.body)
        if body is None or fields is None:
            return _Said(None, None, None, None, None, duplicate=False, raw=self._raw_text(answer))
        # Without escapes, what is not among the bytes is not in the text.
        clean = b"\\" not in body and not any(secret in body for secret in self._secret_bytes)
        text = _clipped if clean else self._cleaned_text
        return _Said(
            status=text(fields.get("status"), _MAX_CODE),
            code=text(fields.get("code"), _MAX_CODE),
            message=text(fields.get("message"), _MAX_TEXT),
            reference=fields.get("reference"),
            transaction_id=text(fields.get("transaction_id"), _MAX_ID) or None,
            # Anything but a clear no: a provider that hints at an earlier use is to be asked, not believed.
            duplicate=fields.get("duplicate") not in (None, False),
            raw=fields if clean and _is_usual(fields, body) else self._raw(fields),
        )

    def _cleaned_text(self, value: object, length: int) -> str | None:
        return self._without_secrets(value)[:length] if isinstance(value, str) else None

    def _raw(self, fields: dict[str, Any]) -> Mapping[str, Any]:
        cleaned: dict[str, Any] = self._cleaned(fields, _MAX_DEPTH)
        if len(orjson.dumps(cleaned)) <= _MAX_RAW_BYTES:
            return cleaned
        few = {name: self._cleaned(fields.get(name), 0) for name in sorted(_FIELDS)}
        short = {name: value[:_MAX_CODE] if isinstance(value, str) else value for name, value in few.items()}
        return {**short, "truncated": True}

    def _raw_text(self, answer: Answer) -> Mapping[str, Any]:
        if answer.body is None:
            return {"http_status": answer.http_status, "body": "larger than an answer may be"}
        text = self._without_secrets(answer.body.decode(errors="replace"))
        return {"http_status": answer.http_status, "body": text[:_MAX_TEXT]}

    def _without_secrets(self, text: str) -> str:
        """NUL goes too: PostgreSQL keeps it in no text."""
        for secret in self._secrets:
            text = text.replace(secret, _REMOVED)
        return text.replace("\x00", "�")

    def _cleaned(self, value: Any, depth: int) -> Any:
        match value:
            case str():
                return self._without_secrets(value)[:_MAX_TEXT]
            case dict() if depth:
                return {
                    self._without_secrets(name)[:_MAX_CODE]: (
                        _REMOVED if _names_a_secret(name) else self._cleaned(item, depth - 1)
                    )
                    for name, item in list(value.items())[:_MAX_ITEMS]
                }
            case list() if depth:
                return [self._cleaned(item, depth - 1) for item in value[:_MAX_ITEMS]]
            case dict() | list():
                return "…"
            case float() if not math.isfinite(value):
                return str(value)  # no JSON knows it
            case _:
                return value


def retry_after_s(header: str | None, now: float) -> float | None:
    """Seconds from a `Retry-After` header in either of its forms, at most an hour; None when it makes no sense."""
    if header is None:
        return None
    header = header.strip()
    if header.isascii() and header.isdigit():
        return MAX_RETRY_AFTER_S if len(header) > 9 else min(float(header), MAX_RETRY_AFTER_S)
    try:
        wait_s = parsedate_to_datetime(header).timestamp() - now
    except (ValueError, OverflowError, TypeError):
        return None
    return max(0.0, min(wait_s, MAX_RETRY_AFTER_S)) if math.isfinite(wait_s) else None


def _refusal(kind: OutcomeClass, said: _Said, answer: Answer) -> Outcome:
    wait_s = retry_after_s(answer.retry_after, time.time()) if kind is OutcomeClass.TURNED_AWAY else None
    return _outcome(
        kind,
        said,
        wait_s=wait_s,
        duplicate=said.duplicate or said.code == Code.DUPLICATE_REFERENCE,
    )


def _outcome(
    kind: OutcomeClass,
    said: _Said,
    *,
    wait_s: float | None = None,
    duplicate: bool | None = None,
    alert: bool = False,
) -> Outcome:
    return Outcome(
        kind,
        code=said.code,
        message=said.message,
        transaction_id=said.transaction_id,
        duplicate=said.duplicate if duplicate is None else duplicate,
        retry_after_s=wait_s,
        raw=said.raw,
        alert=alert,
    )


def _object(body: bytes | None) -> dict[str, Any] | None:
    try:
        value = orjson.loads(body or b"")
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def _clipped(value: object, length: int) -> str | None:
    return value[:length] if isinstance(value, str) else None


def _is_usual(fields: dict[str, Any], body: bytes) -> bool:
    """Only what the contract names, flat and short: kept as it came."""
    return (
        len(body) <= _MAX_RAW_BYTES
        and fields.keys() <= _FIELDS
        and all(type(value) in _PLAIN for value in fields.values())
    )


def _is_ok(answer: Answer) -> bool:
    return 200 <= answer.http_status < 300


def _names_a_secret(name: str) -> bool:
    lowered = name.lower()
    return any(part in lowered for part in _SECRET_NAMES)
