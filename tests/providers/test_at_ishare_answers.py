"""What answers mean: by example, and for any bytes whatever."""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.at_ishare_contract import Code, Status
from services.fulfiller.providers.at_ishare_answers import Answer, AnswerReader, retry_after_s
from services.fulfiller.providers.port import Balance, Outcome, OutcomeClass

Fields = dict[str, Any]

KEY, SECRET = "the-key-of-the-dealer", "the-sécret/of the dealer"
READER = AnswerReader((KEY, SECRET))
REFERENCE = "0d6bbd1c-6d0b-4e0e-8f3e-1d1f7e0a3c55"

GOOD = {
    "status": "success",
    "code": "OK",
    "message": "Delivered",
    "reference": REFERENCE,
    "transaction_id": "AT-1",
    "duplicate": False,
}
FAILED = {**GOOD, "status": "failed", "message": "No"}
DECLINED = {OutcomeClass.DECLINED_PERMANENT, OutcomeClass.DECLINED_TRANSIENT}


def without(fields: Fields, *names: str) -> Fields:
    return {name: value for name, value in fields.items() if name not in names}


def answer(fields: object, http_status: int = 200, retry_after: str | None = None) -> Answer:
    return Answer(http_status, orjson.dumps(fields), retry_after)


SENDS = [
    (GOOD, 200, "delivered", False),
    ({**GOOD, "status": "processing"}, 200, "accepted", False),
    # Success is believed only whole.
    (GOOD, 500, "unknown", True),
    (GOOD, 404, "unknown", True),
    (without(GOOD, "transaction_id"), 200, "unknown", True),
    ({**GOOD, "transaction_id": ""}, 200, "unknown", True),
    ({**GOOD, "transaction_id": 7}, 200, "unknown", True),
    (without(GOOD, "reference"), 200, "unknown", True),
    ({**GOOD, "reference": REFERENCE.upper()}, 200, "unknown", True),
    ({**GOOD, "reference": [REFERENCE]}, 200, "unknown", True),
    ({**GOOD, "status": "SUCCESS"}, 200, "unknown", True),
    ({**GOOD, "code": "BUSY"}, 200, "unknown", True),
    ({**GOOD, "code": ["OK"]}, 200, "unknown", True),
    ({**GOOD, "status": "failed"}, 200, "unknown", True),
    # The code decides, whatever the HTTP status.
    *(({**FAILED, "code": "INSUFFICIENT_BALANCE"}, status, "suspended", False) for status in (200, 402, 500)),
    *(({**FAILED, "code": "BUSY"}, status, "declined_transient", False) for status in (200, 404, 503)),
    ({**FAILED, "code": "TRY_AGAIN"}, 500, "declined_transient", False),
    *(
        ({**FAILED, "code": code}, 200, "declined_permanent", False)
        for code in ("INVALID_MSISDN", "NO_SUCH_SUBSCRIBER", "NOT_ELIGIBLE", "UNKNOWN_BUNDLE", "BARRED")
    ),
    ({**FAILED, "code": "BAD_CREDENTIALS"}, 401, "suspended", False),
    ({**FAILED, "code": "ACCOUNT_SUSPENDED"}, 403, "suspended", False),
    ({**FAILED, "code": "RATE_LIMITED"}, 200, "turned_away", False),
    ({**FAILED, "code": "DUPLICATE_REFERENCE"}, 409, "unknown", False),
    ({**FAILED, "code": "INTERNAL"}, 500, "unknown", False),
    ({**FAILED, "code": "NEVER_HEARD_OF"}, 200, "unknown", True),
    ({**FAILED, "code": "NOT_FOUND"}, 404, "unknown", True),
    # A refusal may leave the reference out, but not name another.
    (without({**FAILED, "code": "BUSY"}, "reference", "transaction_id"), 503, "declined_transient", False),
    ({"code": "INVALID_MSISDN"}, 422, "declined_permanent", False),
    ({**FAILED, "code": "BUSY", "reference": "another"}, 503, "unknown", True),
    # Redirects prove nothing.
    (GOOD, 303, "unknown", True),
    ({**FAILED, "code": "BUSY"}, 302, "unknown", True),
]


@pytest.mark.parametrize(("fields", "http_status", "kind", "alert"), SENDS)
def test_a_send(fields: Fields, http_status: int, kind: str, *, alert: bool) -> None:
    outcome = READER.delivery(answer(fields, http_status), REFERENCE)
    assert (outcome.kind, outcome.alert) == (kind, alert)


QUERIES = [
    (GOOD, 200, "delivered", False),
    ({**GOOD, "status": "processing"}, 200, "accepted", False),
    ({**GOOD, "status": "processing", "transaction_id": None}, 200, "accepted", False),
    ({**FAILED, "code": "BUSY"}, 200, "declined_transient", False),
    ({**FAILED, "code": "INSUFFICIENT_BALANCE"}, 200, "declined_transient", False),
    ({**FAILED, "code": "BARRED"}, 200, "declined_permanent", False),
    ({**FAILED, "code": "BARRED"}, 422, "declined_permanent", False),
    ({**FAILED, "code": "NOT_FOUND", "transaction_id": None}, 404, "not_found", False),
    ({"code": "NOT_FOUND"}, 404, "not_found", False),
    # About another purchase, or about the query alone.
    ({**GOOD, "reference": "another"}, 200, "no_answer", True),
    ({**FAILED, "code": "NOT_FOUND", "reference": "another"}, 404, "no_answer", True),
    (without(GOOD, "transaction_id"), 200, "no_answer", True),
    ({**FAILED, "code": "BUSY", "transaction_id": None}, 200, "no_answer", True),
    ({**FAILED, "code": "BUSY"}, 503, "no_answer", False),
    ({**FAILED, "code": "NOT_FOUND"}, 500, "no_answer", False),
    (GOOD, 500, "no_answer", False),
    (GOOD, 301, "no_answer", True),
    *(
        ({**FAILED, "code": code}, status, "no_answer", False)
        for code, status in (("BAD_CREDENTIALS", 401), ("RATE_LIMITED", 429), ("INTERNAL", 200))
    ),
    ({**FAILED, "code": "NEVER_HEARD_OF"}, 200, "no_answer", True),
    ({}, 404, "no_answer", True),
]


@pytest.mark.parametrize(("fields", "http_status", "kind", "alert"), QUERIES)
def test_a_status_query(fields: Fields, http_status: int, kind: str, *, alert: bool) -> None:
    outcome = READER.status(answer(fields, http_status), REFERENCE)
    assert (outcome.kind, outcome.alert) == (kind, alert)


@pytest.mark.parametrize(("duplicate", "flag"), [(True, True), ("yes", True), (1, True), ([], True), (None, False)])
def test_any_hint_of_an_earlier_use_is_reported(duplicate: object, *, flag: bool) -> None:
    assert READER.delivery(answer({**GOOD, "duplicate": duplicate}), REFERENCE).duplicate is flag


def test_a_gateways_bare_429_is_a_refusal_only_with_its_header() -> None:
    page = b"<h1>429</h1>"
    turned_away = READER.delivery(Answer(429, page, "7"), REFERENCE)
    assert (turned_away.kind, turned_away.retry_after_s) == ("turned_away", 7.0)
    assert READER.delivery(Answer(429, page, None), REFERENCE).kind == "unknown"
    assert READER.delivery(answer({"code": "E1"}, 429, "7"), REFERENCE).kind == "unknown"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("0", 0.0),
        (" 120 ", 120.0),
        ("3601", 3600.0),
        ("9" * 400, 3600.0),
        ("-5", None),
        ("1.5", None),
        ("1e9", None),
        ("٣", None),
        ("soon", None),
        ("", None),
        ("Thu, 01 Jan 1970 00:16:50 GMT", 10.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 3600.0),
        ("Fri, 31 Dec 99999 23:59:59 GMT", None),
    ],
)
def test_retry_after(header: str | None, seconds: float | None) -> None:
    assert retry_after_s(header, now=1000.0) == seconds


def test_balance() -> None:
    assert READER.balance(answer({"available_mb": 5, "reserved_mb": 1})) == Balance(5, 1)
    for fields in ({"available_mb": "5", "reserved_mb": 1}, {"available_mb": True, "reserved_mb": 1}, {}, [1]):
        assert READER.balance(answer(fields)) is None
    assert READER.balance(answer({"available_mb": 5, "reserved_mb": 1}, 500)) is None


def test_the_usual_answer_is_kept_as_it_came() -> None:
    assert READER.delivery(answer(GOOD), REFERENCE).raw == GOOD


def test_what_is_kept_has_no_secret_and_fits_the_database() -> None:
    strange = {
        **FAILED,
        "code": "E1",
        "message": f"bad key {KEY} \x00 {SECRET}",
        "X-Api-Key": "abc",
        "nested": {"password": "abc", "deep": [[[[[[1]]]]]], "secret_echo": [SECRET]},
        KEY: 1,
        "infinite": 1.0,
    }
    outcome = READER.delivery(answer(strange), REFERENCE)
    kept = orjson.dumps(outcome.raw).decode()
    for hidden in (KEY, SECRET, "abc", "\\u0000"):
        assert hidden not in kept
        assert hidden not in (outcome.message or "")
    assert _raw(outcome)["nested"]["deep"]


def test_garbage_is_kept_as_text_without_secrets() -> None:
    body = b"\xff" * 480 + KEY.encode() + b"\x00" * 5000
    outcome = READER.delivery(Answer(502, body, None), REFERENCE)
    assert outcome.kind == "unknown"
    assert _raw(outcome)["http_status"] == 502
    assert KEY[:8] not in _raw(outcome)["body"]
    assert "\x00" not in _raw(outcome)["body"]


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=2000)
    | st.sampled_from([REFERENCE, KEY, SECRET, *Code, *Status, "x" * 5000, "\x00" * 3000])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=40) | st.dictionaries(st.text(max_size=100), inner, max_size=40),
    max_leaves=60,
)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "status": st.sampled_from(list(Status)) | VALUES,
        "code": st.sampled_from(list(Code)) | VALUES,
        "message": VALUES,
        "reference": st.just(REFERENCE) | VALUES,
        "transaction_id": st.just("AT-1") | VALUES,
        "duplicate": st.booleans() | VALUES,
        "token": VALUES,
    },
)
BODIES = (
    st.none()
    | st.binary(max_size=6000)
    | (FIELDS | VALUES).map(orjson.dumps)
    | st.integers(1, 5000).map(lambda depth: b"[" * depth + b"]" * depth)
    | st.integers(1, 900).map(lambda depth: b'{"message":' * depth + b"1" + b"}" * depth)
    | st.sampled_from([b'{"a":1e999}', b'{"a":' + b"9" * 400 + b"}", b'{"code":"OK","code":"BUSY"}', b"\xef\xbb\xbf{}"])
)
ANSWERS = st.builds(
    Answer, st.sampled_from([200, 201, 204, 302, 400, 401, 404, 429, 500, 503]), BODIES, st.none() | st.text()
)

SEND_KINDS = set(OutcomeClass) - {OutcomeClass.NOT_FOUND, OutcomeClass.NO_ANSWER, OutcomeClass.NOT_SENT}
QUERY_KINDS = {OutcomeClass.DELIVERED, OutcomeClass.ACCEPTED, OutcomeClass.NOT_FOUND, OutcomeClass.NO_ANSWER} | DECLINED


@given(ANSWERS)
def test_any_answer_to_a_send_has_a_meaning(given_answer: Answer) -> None:
    outcome = READER.delivery(given_answer, REFERENCE)
    assert outcome.kind in SEND_KINDS
    if outcome.kind in (OutcomeClass.DELIVERED, OutcomeClass.ACCEPTED):
        said = orjson.loads(given_answer.body or b"")
        assert 200 <= given_answer.http_status < 300
        assert (said["code"], said["reference"]) == ("OK", REFERENCE)
    _fits(outcome)


@given(ANSWERS)
def test_any_answer_to_a_status_query_has_a_meaning(given_answer: Answer) -> None:
    outcome = READER.status(given_answer, REFERENCE)
    assert outcome.kind in QUERY_KINDS
    if outcome.kind in (OutcomeClass.DELIVERED, *DECLINED):
        assert orjson.loads(given_answer.body or b"")["reference"] == REFERENCE
        assert outcome.transaction_id
    _fits(outcome)


@given(ANSWERS)
def test_any_answer_about_the_balance_has_a_meaning(given_answer: Answer) -> None:
    assert READER.balance(given_answer) is None


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for item in (*value, *value.values()):
                yield from _texts(item)
        case list():
            for item in value:
                yield from _texts(item)


def _raw(outcome: Outcome) -> Mapping[str, Any]:
    assert outcome.raw is not None
    return outcome.raw


def _fits(outcome: Outcome) -> None:
    kept = orjson.dumps(outcome.raw)
    assert len(kept) <= 4096
    assert not any("\x00" in text for text in _texts(outcome.raw))
    assert KEY.encode() not in kept
    assert len(outcome.code or "") <= 64
    assert len(outcome.transaction_id or "") <= 128
    for text in (outcome.code, outcome.message, outcome.transaction_id):
        assert KEY not in (text or "")
        assert SECRET not in (text or "")
    assert outcome.retry_after_s is None or 0 <= outcome.retry_after_s <= 3600
