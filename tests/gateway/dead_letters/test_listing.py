"""What could not be acted on: by error, one by one, without phone numbers for those who only look."""

import base64
from typing import Any

import pytest

from schemas.poison import PoisonKind
from schemas.topics import FULFILLMENT_COMMANDS
from services.gateway.dead_letters.listing import SHOWN_BYTES
from services.gateway.dead_letters.masking import masked
from tests.gateway.dead_letters.conftest import Desk, Staff, binary, order, retry

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_page_leads_to_the_next_and_errors_are_counted(desk: Desk, operator: Staff, ids: Any) -> None:
    schema = [await desk.letter(b"{}", PoisonKind.SCHEMA, message="size: missing") for _ in range(3)]
    not_json = await desk.letter(b"?", PoisonKind.NOT_JSON)
    first = (await operator.get(limit="3")).json
    assert [letter["id"] for letter in first["letters"]] == [not_json, schema[2], schema[1]]
    second = (await operator.get(limit="3", cursor=first["next"])).json
    assert ([letter["id"] for letter in second["letters"]], second["next"]) == ([schema[0]], None)
    groups = [(group["error"], group["letters"], group["example"]) for group in first["groups"]]
    assert groups == [("schema", 3, schema[2]), ("not_json", 1, not_json)]
    assert first["groups"][0]["firstSeen"] < first["groups"][0]["lastSeen"]
    assert first["letters"][1]["message"] == "size: missing"
    assert (await operator.get(error="not_json")).json["groups"] == first["groups"]


async def test_letters_are_found_by_error_topic_order_and_time(desk: Desk, ids: Any, operator: Staff) -> None:
    made = order()
    value, headers = binary(made)
    ours = await desk.letter(value, headers=headers)
    command, headers = binary(retry(made.order_id))
    asked = await desk.letter(
        command, PoisonKind.UNKNOWN_ORDER, key=made.order_id.encode(), headers=headers, topic=FULFILLMENT_COMMANDS
    )
    other = await desk.letter(b"?", PoisonKind.NOT_JSON)
    at = {letter["id"]: letter["at"] for letter in (await operator.get()).json["letters"]}
    assert await ids(error="not_json") == [other]
    assert await ids(topic=FULFILLMENT_COMMANDS) == [asked]
    assert await ids(orderId=made.order_id) == [asked, ours]
    assert await ids(from_=at[asked], to=at[other]) == [asked]
    assert await ids(error="conflict") == []
    assert await ids(replayed="false") == [other, asked, ours]
    assert await ids(replayed="true") == []


BAD: tuple[dict[str, str], ...] = (
    {"error": "a b"},
    {"error": "nul\0"},
    {"topic": ""},
    {"orderId": "4711"},
    {"from_": "yesterday"},
    {"from_": "2026-02-01", "to": "2026-01-01"},
    {"cursor": "1"},
    {"cursor": "99999999999999999.1.1"},
    {"limit": "201"},
    {"replayed": "perhaps"},
    {"state": "x"},
)


async def test_what_cannot_be_asked_is_refused(desk: Desk, operator: Staff) -> None:
    for params in BAD:
        assert (await operator.get(**params)).is_problem(400), params


async def test_one_letter_is_shown_whole(desk: Desk, operator: Staff) -> None:
    value, headers = binary(order())
    strange = (*headers, ("odd", b"\xff"), ("empty", None), ("nul", b"a\0b"))
    letter_id = await desk.letter(value, PoisonKind.SCHEMA, key=b"\xfe", headers=strange)
    letter = (await operator.get(f"/{letter_id}")).json["letter"]
    assert base64.b64decode(letter["value"]["base64"]) == value
    assert letter["value"]["text"].encode() == value
    assert (letter["value"]["sizeBytes"], letter["value"]["shownBytes"]) == (len(value), len(value))
    assert (letter["key"]["text"], letter["key"]["base64"]) == (None, "/g==")
    shown = {header["name"]: (header["value"], header["base64"]) for header in letter["headers"]}
    assert shown["odd"] == (None, "/w==")
    assert shown["empty"] == (None, None)
    assert shown["nul"] == (None, base64.b64encode(b"a\0b").decode())
    assert shown["dead_letter_reason"] == ("schema", None)
    assert (letter["topic"], letter["partition"], letter["offset"]) == ("orders.events", 1, 7)
    assert (letter["replayed"], letter["replayOf"]) == (None, None)


async def test_of_a_large_one_its_beginning_is_shown(desk: Desk, operator: Staff) -> None:
    letter_id = await desk.letter("x€".encode() * 100_000)
    value = (await operator.get(f"/{letter_id}")).json["letter"]["value"]
    assert (value["sizeBytes"], value["shownBytes"]) == (400_000, SHOWN_BYTES)
    assert value["text"] == "x€" * (SHOWN_BYTES // 4)


async def test_one_without_a_value(desk: Desk, operator: Staff, viewer: Staff) -> None:
    letter_id = await desk.letter(None, PoisonKind.NO_VALUE)
    for staff in (operator, viewer):
        letter = (await staff.get(f"/{letter_id}")).json["letter"]
        assert (letter["value"], letter["key"], letter["sizeBytes"]) == (None, None, None)


async def test_a_viewer_sees_no_phone_number(desk: Desk, operator: Staff, viewer: Staff) -> None:
    made = order()
    value, headers = binary(made)
    letter_id = await desk.letter(
        value, key=b"0244123456", headers=(*headers, ("caller", b"+233 24 412 3456")), message="of 0244123456"
    )
    whole = await operator.get(f"/{letter_id}")
    assert b"0244123456" in whole.content
    for answer in (await viewer.get(f"/{letter_id}"), await viewer.get()):
        assert b"4123456" not in answer.content
        assert b"412 3456" not in answer.content
        assert base64.b64encode(value) not in answer.content
    letter = (await viewer.get(f"/{letter_id}")).json["letter"]
    assert made.order_id in letter["value"]["text"]
    assert {header["name"]: header["value"] for header in letter["headers"]}["dead_letter_timestamp"] == "1000"


async def test_a_letter_that_is_not_there(desk: Desk, operator: Staff) -> None:
    assert (await operator.get("/0-999")).is_problem(404)
    assert (await operator.get("/999999999-999999999999999999")).is_problem(404)
    for wrong in ("0-", "-1", "0-9999999999999999999", "1-2-3", "a-b"):
        assert (await operator.get(f"/{wrong}")).status in {400, 404}


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ('{"phone":"0244123456"}', '{"phone":"02441•••56"}'),
        ("+233 24 412 3456", "+233 24 41•••56"),
        ("024.412.34.56", "024.41•••56"),
        ("0\\u00324\\u003412345", "0244•••45"),
        ("٠٢٤٤١٢٣٤٥٦", "٠٢٤٤١•••٥٦"),
        ("9" * 400, "9" * 8 + "•••99"),
        ("0f0e0d0c-0b0a-4908-8706-050403020100", "0f0e0d0c-0b0a-4908-8706-050403020100"),
        ("2026-01-31T12:00:00.123456Z", "2026-01-31T12:00:00.123456Z"),
        ("size 1500, price 4.50", "size 1500, price 4.50"),
        ('{"data_base64":"' + "QUJD" * 20 + '"}', '{"data_base64":"•••"}'),
    ],
)
async def test_what_looks_like_a_number_is_hidden(text: str, seen: str) -> None:
    assert masked(text) == seen
