"""The committed contract is what the models say, and nobody who relies on an earlier release is broken."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from schemas.alerts import read_alert
from schemas.asyncapi import DELAYS_S, PARTITIONS, asyncapi
from schemas.cloudevents import decode_command, decode_order, json_value
from schemas.compatibility import breaks
from schemas.contract import DEAD_LETTER, MODELS, SCHEMAS, TAKEN, documents, released, schema_of, schemas
from schemas.fulfillment import EVENT_TYPES, DelayedAct, FulfillmentEvent, read_event
from schemas.ids import delayed_id, event_id
from schemas.poison import PoisonError, PoisonKind, dead_letter_headers
from schemas.providers import read_provider
from schemas.statistics import read_statistics
from schemas.topics import table
from services.settings import Settings

GOLDEN = sorted(Path(__file__).with_name("golden").glob("*.json"))
TAKEN_NAMES = {model.__name__ for model in TAKEN}
EVENT_NAMES = {model.__name__ for model in EVENT_TYPES}
RELEASES = [(number, name) for number, contract in released().items() for name in contract]


def test_the_committed_documents_are_what_the_models_say() -> None:
    stale = [path.name for path, text in documents().items() if not path.exists() or path.read_text() != text]
    assert stale == [], "run `make schemas`"


def test_nothing_else_is_committed_as_a_schema() -> None:
    assert set(SCHEMAS.glob("*.json")) == {path for path in documents() if path.parent == SCHEMAS}


def test_every_schema_is_one_and_says_that_it_is_generated() -> None:
    for schema in schemas().values():
        Draft202012Validator.check_schema(schema)
        assert "Do not edit" in schema["$comment"]


@pytest.mark.parametrize(("number", "name"), RELEASES)
def test_what_was_released_can_be_read(number: int, name: str) -> None:
    before = released()[number][name]
    reads = schemas()[name] if name == DEAD_LETTER else schema_of(MODELS[name], "validation")
    assert breaks(before, reads, keep_all=True) == []


@pytest.mark.parametrize(("number", "name"), [(n, name) for n, name in RELEASES if name not in TAKEN_NAMES])
def test_what_is_written_can_be_read_by_those_who_know_a_release(number: int, name: str) -> None:
    assert breaks(schemas()[name], released()[number][name]) == []


def test_nothing_that_was_released_is_gone() -> None:
    for contract in released().values():
        assert contract.keys() <= schemas().keys()


# --- golden records: as first released, to be read for ever -----------------------------------------------------------


def golden(name: str) -> tuple[dict[str, Any], bytes, list[tuple[str, bytes]]]:
    record = json.loads((Path(__file__).with_name("golden") / f"{name}.json").read_text())
    headers = [(key, value.encode()) for key, value in record["headers"].items()]
    return record, json.dumps(record["value"]).encode(), headers


def test_there_is_a_golden_record_of_everything() -> None:
    assert {path.name.split(".")[0] for path in GOLDEN} == MODELS.keys() | {"DeadLetter"}


@pytest.mark.parametrize("name", sorted(EVENT_NAMES))
def test_a_golden_event_is_read_whole(name: str) -> None:
    record, value, headers = golden(name)
    event: FulfillmentEvent = read_event(value)
    assert event.type == name
    assert json.loads(json_value(event)) == record["value"]
    assert dict(headers)["ce_id"] == event_id(event.order_id, event.sequence).encode()
    Draft202012Validator(released()[1][name]).validate(record["value"])


def test_a_golden_delayed_act_is_read_whole() -> None:
    record, value, headers = golden("DelayedAct")
    act = DelayedAct.model_validate_json(value)
    assert json.loads(json_value(act)) == record["value"]
    assert dict(headers)["ce_id"] == delayed_id(act.order_id, act.schedule_id).encode()


def test_golden_statistics_are_read_whole() -> None:
    record, value, _ = golden("Statistics")
    assert json.loads(read_statistics(value).model_dump_json(exclude_unset=True)) == record["value"]
    Draft202012Validator(released()[1]["Statistics"]).validate(record["value"])


def test_a_golden_alert_is_read_whole() -> None:
    record, value, headers = golden("Alert")
    alert = read_alert(value)
    assert json.loads(alert.model_dump_json(exclude_none=True)) == record["value"]
    assert dict(headers)["ce_id"] == alert.id.encode()
    over = json.loads(
        alert.model_copy(update={"type": "AlertCleared", "figure": None}).model_dump_json(exclude_none=True)
    )
    for value in (record["value"], over):
        Draft202012Validator(released()[1]["Alert"]).validate(value)


def test_a_golden_state_of_a_provider_is_read_whole() -> None:
    record, value, _ = golden("ProviderChanged")
    changed = read_provider(value)
    assert json.loads(json_value(changed)) == record["value"]
    assert changed.provider == record["key"]
    Draft202012Validator(released()[1]["ProviderChanged"]).validate(record["value"])


@pytest.mark.parametrize("name", sorted(TAKEN_NAMES - {"OrderCreated"}))
def test_a_golden_command_is_read_whole(name: str) -> None:
    record, value, headers = golden(name)
    command = decode_command(value, headers)
    assert command.type == name
    assert json.loads(json_value(command)) == record["value"]
    Draft202012Validator(released()[1][name]).validate(record["value"])


@pytest.mark.parametrize("mode", ["OrderCreated", "OrderCreated.bare", "OrderCreated.structured"])
def test_a_golden_order_is_read_in_every_mode(mode: str) -> None:
    record, value, headers = golden(mode)
    created = decode_order(value, headers)
    assert created.order_id == "0b0c2f4e-6a52-4a9c-9d1e-8f1f64f2a001"
    assert (
        created.bundle
        == {
            "OrderCreated": ("+233123456789", 1000, "AT-iShare"),
            "OrderCreated.bare": ("+233233123456", 1500, "AT-iShare"),
            "OrderCreated.structured": ("+233233123456", 500, "MTN"),
        }[mode]
    )
    written = json.loads(json_value(created))
    if mode == "OrderCreated":
        assert written == record["value"]
    if mode == "OrderCreated.bare":
        assert written["campaign"] == "harmattan", "a stranger's field is kept"
    Draft202012Validator(released()[1]["OrderCreated"]).validate(written)


def test_a_dead_letter_is_written_as_the_golden_one() -> None:
    record, _, _ = golden("DeadLetter")
    said = PoisonError(PoisonKind.NOT_JSON, "the value is not JSON: unexpected character")
    headers = dead_letter_headers(
        [("shop", b"accra")], said, topic="orders.events", partition=1, offset=41, timestamp_ms=1769860800123
    )
    assert {name: value.decode() for name, value in headers if value is not None} == record["headers"]
    Draft202012Validator(released()[1][DEAD_LETTER]).validate(record["headers"])


# --- AsyncAPI ---------------------------------------------------------------------------------------------------------


def test_every_topic_is_a_channel() -> None:
    topics = {topic.name for topic in table(4, (15, 300, 900, 3600))}
    assert asyncapi()["channels"].keys() == topics


def test_the_document_is_of_the_settings_defaults() -> None:
    assert (Settings.model_construct().partitions, Settings.model_construct().delays_s) == (PARTITIONS, DELAYS_S)


def test_every_reference_leads_somewhere() -> None:
    document = asyncapi()

    def follow(part: Any) -> None:
        if isinstance(part, dict):
            reference = part.get("$ref")
            if isinstance(reference, str) and reference.startswith("#/"):
                target: Any = document
                for step in reference.removeprefix("#/").split("/"):
                    target = target[step]
            elif isinstance(reference, str):
                assert (SCHEMAS.parent / reference).exists()
            for value in part.values():
                follow(value)
        elif isinstance(part, list):
            for value in part:
                follow(value)

    follow(document)
