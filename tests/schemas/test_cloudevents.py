"""CloudEvents in and out: one meaning in three modes, and poison for whatever has none."""

import base64
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import hypothesis.strategies as st
import orjson
import pytest
from hypothesis import given, settings
from pydantic import AwareDatetime

from schemas.cloudevents import binary_headers, decode_command, decode_order, json_value
from schemas.commands import COMMAND_TYPES, ResolveFulfillment
from schemas.fulfillment import EVENT_TYPES, read_event
from schemas.orders import OrderCreated
from schemas.poison import MESSAGE_HEADER, PoisonError, PoisonKind, dead_letter_headers

AT = datetime(2026, 1, 31, 12, tzinfo=UTC)
ORDER: dict[str, Any] = {
    "order_id": "11111111-1111-4111-8111-111111111111",
    "phone_number": "0244123456",
    "network": "at ishare",
    "size": "1.5GB",
    "created_at": "2026-01-31T12:00:00Z",
}
SPOKEN_AS = ["1.5GB", 1.5, "1500MB", "1.5"]
Headers = list[tuple[str, bytes | None]]


def binary(data: Mapping[str, Any]) -> tuple[bytes, Headers]:
    return orjson.dumps(data), list(binary_headers("OrderCreated", "id-1", b"/shop", AT))


def structured(data: Mapping[str, Any]) -> tuple[bytes, Headers]:
    envelope = {"specversion": "1.0", "id": "id-1", "source": "/shop", "type": "OrderCreated", "data": data}
    return orjson.dumps(envelope), [("content-type", b"application/cloudevents+json; charset=utf-8")]


def structured_in_base64(data: Mapping[str, Any]) -> tuple[bytes, Headers]:
    content = base64.b64encode(orjson.dumps(data)).decode()
    envelope = {"specversion": "1.0", "id": "id-1", "source": "/shop", "type": "OrderCreated", "data_base64": content}
    return orjson.dumps(envelope), []


def bare(data: Mapping[str, Any]) -> tuple[bytes, Headers]:
    return orjson.dumps(data), []


MODES: list[Callable[[Mapping[str, Any]], tuple[bytes, Headers]]] = [binary, structured, structured_in_base64, bare]


@given(
    st.sampled_from(SPOKEN_AS),
    st.sampled_from(["order_id", "orderId"]),
    st.sampled_from([None, "4.50", 4.5, "0"]),
    st.dictionaries(st.text(min_size=1).map("x".__add__), st.one_of(st.booleans(), st.text())),
)
def test_an_order_means_the_same_in_every_mode(size: Any, id_name: str, price: Any, extra: dict[str, Any]) -> None:
    data = {**ORDER, **extra, "size": size, "price": price}
    data[id_name] = data.pop("order_id")
    first, *others = [decode_order(*mode(data)) for mode in MODES]
    assert first.bundle == ("+233244123456", 1500, "AT-iShare")
    assert first.model_extra == extra, "what other producers say beside it is kept"
    assert all(other == first for other in others)
    assert decode_order(json_value(first), []) == first, "and is read back from what we write"


def test_the_envelope_s_time_stands_in_for_created_at() -> None:
    undated = {name: value for name, value in ORDER.items() if name != "created_at"}
    assert decode_order(*binary(undated)).created_at == AT
    with pytest.raises(PoisonError, match="created_at"):
        decode_order(*bare(undated))


def test_upper_case_ids_are_one_with_lower_case_ones() -> None:
    data = ORDER | {"order_id": "AAAAAAAA-1111-4111-8111-111111111111"}
    assert decode_order(*bare(data)).order_id == "aaaaaaaa-1111-4111-8111-111111111111"


def changed(**fields: Any) -> bytes:
    return orjson.dumps(ORDER | fields)


def without(*names: str) -> bytes:
    return orjson.dumps({name: value for name, value in ORDER.items() if name not in names})


def enveloped(**attributes: Any) -> bytes:
    return orjson.dumps(
        {"specversion": "1.0", "id": "1", "source": "/s", "type": "OrderCreated", "data": ORDER} | attributes
    )


GOOD = orjson.dumps(ORDER)
POISON: dict[str, tuple[PoisonKind, bytes | None, Headers]] = {
    "no value": (PoisonKind.NO_VALUE, None, []),
    "empty": (PoisonKind.NO_VALUE, b"", []),
    "not JSON": (PoisonKind.NOT_JSON, b"hello", []),
    "half of it": (PoisonKind.NOT_JSON, GOOD[:-5], []),
    "trailing junk": (PoisonKind.NOT_JSON, GOOD + b"}", []),
    "two objects": (PoisonKind.NOT_JSON, GOOD + GOOD, []),
    "a BOM": (PoisonKind.NOT_JSON, b"\xef\xbb\xbf" + GOOD, []),
    "UTF-16": (PoisonKind.NOT_JSON, GOOD.decode().encode("utf-16"), []),
    "Latin-1": (PoisonKind.NOT_JSON, b'{"order_id": "caf\xe9"}', []),
    "a lone surrogate": (PoisonKind.NOT_JSON, b'{"order_id": "\\ud800"}', []),
    "a lone surrogate in UTF-8": (PoisonKind.NOT_JSON, b'{"order_id": "\xed\xa0\x80"}', []),
    "NaN": (PoisonKind.NOT_JSON, b'{"size": NaN}', []),
    "single quotes": (PoisonKind.NOT_JSON, b"{'order_id': 1}", []),
    "a comment": (PoisonKind.NOT_JSON, b"{/* */}", []),
    "a NUL": (PoisonKind.NOT_JSON, b"\x00", []),
    "10,000 deep": (PoisonKind.NOT_JSON, b"[" * 10_000 + b"]" * 10_000, []),
    "10,000 deep in an object": (PoisonKind.NOT_JSON, b'{"a":' * 10_000 + b"1" + b"}" * 10_000, []),
    "a number of 5,000 digits": (PoisonKind.NOT_JSON, b'{"size": ' + b"9" * 5000 + b', "x": [1]}', []),
    "duplicate keys": (PoisonKind.DUPLICATE_KEYS, GOOD[:-1] + b',"size":"2GB"}', []),
    "duplicate keys by an escape": (PoisonKind.DUPLICATE_KEYS, GOOD[:-1] + b',"\\u0073ize":"2GB"}', []),
    "duplicate keys inside": (PoisonKind.DUPLICATE_KEYS, GOOD[:-1] + b',"x":{"a":1,"a":1}}', []),
    "a list": (PoisonKind.SCHEMA, b"[" + GOOD + b"]", []),
    "a text": (PoisonKind.SCHEMA, b'"OrderCreated"', []),
    "null": (PoisonKind.SCHEMA, b"null", []),
    "a missing id": (PoisonKind.SCHEMA, without("order_id"), []),
    "an id that is no UUID": (PoisonKind.SCHEMA, changed(order_id="42"), []),
    "an id in braces": (PoisonKind.SCHEMA, changed(order_id="{" + ORDER["order_id"] + "}"), []),
    "an id that is a number": (PoisonKind.SCHEMA, changed(order_id=42), []),
    "a phone that is a number": (PoisonKind.SCHEMA, changed(phone_number=244123456), []),
    "a phone of elsewhere": (PoisonKind.SCHEMA, changed(phone_number="+44244123456"), []),
    "a comma in the size": (PoisonKind.SCHEMA, changed(size="1,5GB"), []),
    "a negative size": (PoisonKind.SCHEMA, changed(size=-1), []),
    "a size of true": (PoisonKind.SCHEMA, changed(size=True), []),
    "an endless size": (PoisonKind.SCHEMA, changed(size=1e308), []),
    "no size": (PoisonKind.SCHEMA, without("size"), []),
    "two sizes that disagree": (PoisonKind.SCHEMA, changed(size_mb=2), []),
    "an unknown network": (PoisonKind.SCHEMA, changed(network="Glo"), []),
    "a time without a zone": (PoisonKind.SCHEMA, changed(created_at="2026-01-31T12:00:00"), []),
    "a time that is a number": (PoisonKind.SCHEMA, changed(created_at=1769860800), []),
    "a month 13": (PoisonKind.SCHEMA, changed(created_at="2026-13-31T12:00:00Z"), []),
    "a negative price": (PoisonKind.SCHEMA, changed(price=-1), []),
    "a price of NaN": (PoisonKind.SCHEMA, changed(price="NaN"), []),
    "an account that is a list": (PoisonKind.SCHEMA, changed(account=[]), []),
    "another type": (PoisonKind.UNKNOWN_TYPE, changed(type="OrderDeleted"), []),
    "a type that is a list": (PoisonKind.UNKNOWN_TYPE, changed(type=["OrderCreated"]), []),
    "a type that is an object": (PoisonKind.UNKNOWN_TYPE, changed(type={"a": 1}), []),
    "version 2": (PoisonKind.UNKNOWN_VERSION, changed(version=2), []),
    "version true": (PoisonKind.UNKNOWN_VERSION, changed(version=True), []),
    "version of text": (PoisonKind.UNKNOWN_VERSION, changed(version="1"), []),
    "version that is a list": (PoisonKind.UNKNOWN_VERSION, changed(version=[1]), []),
    "binary: another type": (PoisonKind.UNKNOWN_TYPE, GOOD, [("ce_specversion", b"1.0"), ("ce_type", b"Other")]),
    "binary: no type": (PoisonKind.UNKNOWN_TYPE, GOOD, [("ce_specversion", b"1.0")]),
    "binary: type not UTF-8": (PoisonKind.UNKNOWN_TYPE, GOOD, [("ce_specversion", b"1.0"), ("ce_type", b"\xff")]),
    "binary: specversion 0.3": (
        PoisonKind.NOT_CLOUDEVENT, GOOD, [("ce_specversion", b"0.3"), ("ce_type", b"OrderCreated")]
    ),
    "binary: types that disagree": (
        PoisonKind.SCHEMA, changed(type="Other"), [("ce_specversion", b"1.0"), ("ce_type", b"OrderCreated")]
    ),
    "binary: a time that is none": (
        PoisonKind.SCHEMA, without("created_at"),
        [("ce_specversion", b"1.0"), ("ce_type", b"OrderCreated"), ("ce_time", b"yesterday")],
    ),
    "structured: specversion 2.0": (PoisonKind.NOT_CLOUDEVENT, enveloped(specversion="2.0"), []),
    "structured: specversion is a number": (PoisonKind.NOT_CLOUDEVENT, enveloped(specversion=1.0), []),
    "structured: another type": (PoisonKind.UNKNOWN_TYPE, enveloped(type="Other"), []),
    "structured: data is a text": (PoisonKind.NOT_CLOUDEVENT, enveloped(data="hello"), []),
    "structured: no data": (
        PoisonKind.NOT_CLOUDEVENT,
        orjson.dumps({"specversion": "1.0", "type": "OrderCreated"}),
        [("content-type", b"application/cloudevents+json")],
    ),
    "structured: not base64": (PoisonKind.NOT_CLOUDEVENT, enveloped(data_base64="!!!"), []),
    "structured: base64 that is not ASCII": (PoisonKind.NOT_CLOUDEVENT, enveloped(data_base64="é"), []),
    "structured: base64 of junk": (PoisonKind.NOT_JSON, enveloped(data_base64="AAAA"), []),
    "structured by header, bare by value": (
        PoisonKind.NOT_CLOUDEVENT, GOOD, [("content-type", b"application/cloudevents+json")]
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", POISON)
def test_poison_says_why(what: str) -> None:
    kind, value, headers = POISON[what]
    with pytest.raises(PoisonError) as caught:
        decode_order(value, headers)
    assert caught.value.kind is kind
    assert str(caught.value).isprintable()
    assert ORDER["phone_number"] not in str(caught.value), "a reason repeats nothing of what was sent"


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


NAMES = st.sampled_from([*ORDER, "type", "specversion", "data", "version"])
SCALARS = st.one_of(st.none(), st.booleans(), st.floats(), st.text(), st.integers(-(2**63), 2**63))
NESTED = st.recursive(SCALARS, lambda inner: st.one_of(st.lists(inner), st.dictionaries(NAMES, inner)))
HEADER_NAMES = st.sampled_from(["ce_specversion", "ce_type", "content-type", "ce_time"])


@given(
    st.one_of(st.binary(), st.text().map(lambda text: text.encode("utf-8", "surrogatepass")), NESTED.map(as_json)),
    st.lists(st.tuples(HEADER_NAMES, st.none() | st.binary())),
)
def test_whatever_comes_is_an_event_or_poison(value: bytes, headers: Headers) -> None:
    for decode in (decode_order, decode_command):
        try:
            decode(value, headers)
        except PoisonError:
            continue


@pytest.mark.parametrize("kind", COMMAND_TYPES)
def test_a_command_is_read_back(kind: Any) -> None:
    said = {"command_id": ORDER["order_id"], "order_id": ORDER["order_id"], "actor": "ama", "at": AT}
    if kind is ResolveFulfillment:
        said["delivered"] = False
    command = kind(**said)
    assert decode_command(json_value(command), binary_headers(kind.__name__, "1", b"/gateway", AT)) == command
    assert decode_command(json_value(command), []) == command


def test_a_command_without_its_type_is_none() -> None:
    with pytest.raises(PoisonError) as caught:
        decode_command(b"{}", [])
    assert caught.value.kind is PoisonKind.UNKNOWN_TYPE


@pytest.mark.parametrize("kind", EVENT_TYPES)
@given(data=st.data())
@settings(max_examples=20, deadline=None)
def test_an_event_is_read_back(kind: Any, data: st.DataObject) -> None:
    event = data.draw(events(kind))
    assert read_event(json_value(event)) == event


TEXT = st.text(st.characters(exclude_categories=["Cs"]))
TIMES = st.integers(0, 4_000_000_000_000_000).map(
    lambda us: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=5,
)


def events(kind: Any) -> st.SearchStrategy[Any]:
    """Any event of a type: each field from its own type, as pydantic's own schema has it."""
    st.register_type_strategy(AwareDatetime, TIMES)
    fields = {
        name: JSON.map(lambda value: {"said": value}) if name == "api_response" else st.from_type(field.annotation)
        for name, field in kind.model_fields.items()
        if name not in {"type", "version", "sequence", "next"}
    }
    return st.builds(kind, sequence=st.integers(1, 10**6), **fields)


def test_orders_are_read_as_strictly_by_the_model() -> None:
    with pytest.raises(ValueError, match="valid string"):
        OrderCreated.model_validate(ORDER | {"order_id": 1})


def test_what_is_wrong_is_said_field_by_field_without_what_was_sent() -> None:
    with pytest.raises(PoisonError) as told:
        decode_order(orjson.dumps({**ORDER, "order_id": "x-secret", "phone_number": 5, "price": {"a": "x-secret"}}), [])
    said = str(told.value).split("; ")
    assert [fault.partition(": ")[0] for fault in said] == ["order_id", "phone_number", "price"]
    assert "secret" not in str(told.value)
    assert "Value error" not in str(told.value)


def test_of_many_faults_five_are_said() -> None:
    with pytest.raises(PoisonError) as told:
        decode_order(
            orjson.dumps({name: 1 if name == "size" else [] for name in [*ORDER, "price", "package_id", "account"]}), []
        )
    assert len(str(told.value).split("; ")) == 5


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (enveloped(data_base64="!!!"), "data_base64 is not base64"),
        (enveloped(data="hello"), "the CloudEvent has no data object"),
        (b'{"a": 1, "a": 2}', "an object names a key twice"),
        (b"", "the record has no value"),
        (b"[]", "the value is not a JSON object"),
        (enveloped(specversion="2.0"), "CloudEvents specversion '2.0' is not 1.0"),
        (enveloped(type="Other"), "unknown type 'Other': expected OrderCreated"),
        (changed(version=2), "unknown version 2 of OrderCreated: expected 1"),
    ],
)
def test_poison_is_told_in_words(value: bytes, why: str) -> None:
    with pytest.raises(PoisonError) as told:
        decode_order(value, [])
    assert str(told.value) == why


def test_a_reason_fits_into_its_header_whatever_is_in_it() -> None:
    error = PoisonError(PoisonKind.SCHEMA, "\ud800" + "x" * 3000)
    headers = dict(dead_letter_headers((), error, topic="t", partition=1, offset=2, timestamp_ms=3))
    assert headers[MESSAGE_HEADER] == b"?" + b"x" * 1999


def test_an_event_s_headers_are_those_of_the_binary_mode() -> None:
    headers = (
        ("ce_specversion", b"1.0"),
        ("ce_id", b"id-1"),
        ("ce_type", b"OrderCreated"),
        ("ce_source", b"/shop"),
        ("ce_time", b"2026-01-31T12:00:00+00:00"),
        ("content-type", b"application/json"),
    )
    assert sorted(binary_headers("OrderCreated", "id-1", b"/shop", AT)) == sorted(headers)
    traced = binary_headers("OrderCreated", "id-1", b"/shop", AT, traceparent=b"00-1-2-01")
    assert sorted(traced) == sorted((*headers, ("traceparent", b"00-1-2-01")))


def test_a_bare_object_that_names_a_specversion_is_bare() -> None:
    assert decode_order(orjson.dumps(ORDER | {"specversion": "1.0"}), []).order_id == ORDER["order_id"]


def test_what_is_no_json_is_told_without_the_whole_of_it() -> None:
    with pytest.raises(PoisonError, match=r"^the value is not JSON: ") as told:
        decode_order(b"{" + b"x" * 5000, [])
    assert len(str(told.value)) <= len("the value is not JSON: ") + 200


def test_a_fault_inside_a_field_is_named_by_its_path() -> None:
    resolved = {"type": "ResolveFulfillment", "command_id": 1}
    with pytest.raises(PoisonError) as told:
        decode_command(orjson.dumps(resolved), [])
    assert "command_id: " in str(told.value)


@pytest.mark.parametrize("mark", ["T", "t", " "])
def test_a_date_and_its_time_are_parted_by_what_rfc_3339_allows(mark: str) -> None:
    said = changed(created_at=f"2026-01-31{mark}12:00:00Z")
    assert decode_order(said, []).created_at == AT


@pytest.mark.parametrize("said", [1769860800, "1769860800", "2026-01-31"])
def test_what_is_no_time_is_told_how_one_is_written(said: object) -> None:
    with pytest.raises(PoisonError, match=r"^created_at: not a time: write it as 2026-01-31T12:00:00Z$"):
        decode_order(changed(created_at=said), [])


def test_what_says_nothing_is_not_written() -> None:
    written = orjson.loads(json_value(decode_order(*bare(ORDER))))
    assert None not in written.values()


@pytest.mark.parametrize("name", ["created_at", "createdAt"])
@pytest.mark.parametrize("mode", [binary, structured])
def test_the_order_s_own_time_counts_before_the_envelope_s(
    name: str, mode: Callable[[Mapping[str, Any]], tuple[bytes, Headers]]
) -> None:
    data = {key: value for key, value in ORDER.items() if key != "created_at"} | {name: "2026-01-30T12:00:00Z"}
    assert decode_order(*mode(data)).created_at == AT - timedelta(days=1)


def test_the_time_of_a_structured_envelope_stands_in_too() -> None:
    data = {key: value for key, value in ORDER.items() if key != "created_at"}
    assert decode_order(enveloped(data=data, time="2026-01-31T12:00:00Z"), []).created_at == AT


def test_a_command_of_no_kind_is_told_which_there_are() -> None:
    with pytest.raises(PoisonError) as told:
        decode_command(b'{"type": "Other"}', [])
    assert str(told.value) == (
        "unknown type 'Other': expected CancelFulfillment, OverrideFulfillment, ResolveFulfillment, ResumeProvider, "
        "RetryFulfillment, SuspendProvider, TriggerFulfillment"
    )
