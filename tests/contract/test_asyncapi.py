"""The committed AsyncAPI document is valid by the specification's own JSON Schema, and its examples are real."""

import copy
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator, Draft202012Validator, FormatChecker

from schemas.asyncapi import GOLDEN
from schemas.contract import ASYNCAPI, FOLDER, MODELS, released, released_topics
from schemas.topic_compatibility import topic_breaks

VENDORED = Path(__file__).with_name("vendored")
SPECIFICATION = json.loads((VENDORED / "asyncapi-3.0.0.schema.json").read_text(encoding="utf-8"))
DOCUMENT: dict[str, Any] = json.loads(ASYNCAPI.read_text(encoding="utf-8"))
MESSAGES: dict[str, Any] = DOCUMENT["components"]["messages"]


def faults(document: object) -> list[str]:
    return [error.message for error in Draft7Validator(SPECIFICATION).iter_errors(document)]


def test_it_is_asyncapi() -> None:
    assert DOCUMENT["asyncapi"] == "3.0.0"
    assert faults(DOCUMENT) == []


@pytest.mark.parametrize(
    "broken",
    [
        {"asyncapi": "2.6.0"},
        {"info": {"title": "without a version"}},
        {"channels": {"a": {"address": 1}}},
        {"operations": {"a": {"action": "publish", "channel": {"$ref": "#/channels/a"}}}},
    ],
    ids=lambda broken: next(iter(broken)),
)
def test_the_specification_would_say_so(broken: dict[str, Any]) -> None:
    assert faults(copy.deepcopy(DOCUMENT) | broken)


def test_every_reference_leads_somewhere() -> None:
    for reference in _references(DOCUMENT):
        if reference.startswith("#/"):
            found: Any = DOCUMENT
            for step in reference[2:].split("/"):
                found = found[step]
        else:
            assert (FOLDER / reference).is_file(), reference


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [reference for part in value.values() for reference in _references(part)]
    return [reference for part in value for reference in _references(part)] if isinstance(value, list) else []


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_message_has_an_example_which_its_schemas_take(name: str) -> None:
    [example] = MESSAGES[name]["examples"]
    assert example["payload"] == json.loads((GOLDEN / f"{name}.json").read_text())["value"]
    schema = json.loads((FOLDER / MESSAGES[name]["payload"]["$ref"]).read_text())
    Draft202012Validator(schema, format_checker=FormatChecker()).validate(example["payload"])
    MODELS[name].model_validate_json(json.dumps(example["payload"]))
    Draft202012Validator(DOCUMENT["components"]["schemas"]["CloudEventHeaders"]).validate(example["headers"])
    assert example["headers"]["ce_type"] == example["payload"].get("type", name)


def test_the_example_of_a_dead_letter_has_its_headers() -> None:
    [example] = MESSAGES["DeadLetter"]["examples"]
    schema = json.loads((FOLDER / MESSAGES["DeadLetter"]["headers"]["$ref"]).read_text())
    Draft202012Validator(schema).validate(example["headers"])


def test_what_is_vendored_is_what_was_taken() -> None:
    vendored = json.loads((VENDORED / "vendored.json").read_text())
    assert vendored["licence"] == "Apache-2.0"
    for name, sha256 in vendored["sha256"].items():
        assert hashlib.sha256((VENDORED / name).read_bytes()).hexdigest() == sha256
    assert {path.name for path in VENDORED.iterdir()} == {*vendored["sha256"], "vendored.json"}


# --- nobody who knows a release is broken -----------------------------------------------------------------------------


def test_every_release_has_its_topics() -> None:
    assert released_topics().keys() == released().keys()


@pytest.mark.parametrize("number", released_topics())
def test_nobody_who_knows_a_release_is_broken(number: int) -> None:
    assert topic_breaks(released_topics()[number], DOCUMENT) == []


def _at(document: Any, *way: Any) -> Any:
    for step in way:
        document = document[step]
    return document


_EVENTS = ("channels", "fulfillment.events")
_KAFKA = ("bindings", "kafka")
_SUCCEEDED = ("components", "messages", "FulfillmentSucceeded")
BREAKS: list[tuple[str, Callable[[Any], object], str]] = [
    ("a topic is gone", lambda d: _at(d, "channels").pop("orders.events"), "orders.events: gone"),
    ("another address", lambda d: _at(d, *_EVENTS).update(address="events"), "address"),
    ("a message is gone", lambda d: _at(d, *_EVENTS, "messages").pop("StatusChecked"), "StatusChecked is gone"),
    ("other partitions", lambda d: _at(d, *_EVENTS, *_KAFKA).update(partitions=8), "another home"),
    ("compacted", lambda d: _conf(d).update({"cleanup.policy": ["compact"]}), "cleanup.policy"),
    ("kept for less long", lambda d: _conf(d).update({"retention.ms": 1000}), "retention.ms"),
    ("another key", lambda d: _at(d, *_SUCCEEDED, *_KAFKA).update(key={"type": "null"}), "another key"),
    ("no key", lambda d: _at(d, *_SUCCEEDED, *_KAFKA).pop("key"), "another key"),
    ("other bytes", lambda d: _at(d, *_SUCCEEDED).update(contentType="application/avro"), "avro"),
    ("another payload", lambda d: _at(d, *_SUCCEEDED).update(payload={"$ref": "json/Alert.schema.json"}), "payload"),
    ("a header may be missing", lambda d: _headers(d)["required"].remove("ce_id"), "may be missing"),
    ("a header is another", lambda d: _headers(d)["properties"].update(ce_specversion={"const": "2.0"}), "2.0"),
]


def _conf(document: Any) -> Any:
    return _at(document, *_EVENTS, *_KAFKA, "topicConfiguration")


def _headers(document: Any) -> Any:
    return _at(document, "components", "schemas", "CloudEventHeaders")


@pytest.mark.parametrize(("change", "line"), [pytest.param(*case[1:], id=case[0]) for case in BREAKS])
def test_every_kind_of_break_is_seen(change: Callable[[Any], object], line: str) -> None:
    changed = copy.deepcopy(DOCUMENT)
    change(changed)
    assert any(line in said for said in topic_breaks(DOCUMENT, changed)), topic_breaks(DOCUMENT, changed)


def test_what_is_only_added_breaks_nothing() -> None:
    more = copy.deepcopy(DOCUMENT)
    more["channels"]["new"] = more["channels"]["fulfillment.events"]
    more["channels"]["fulfillment.events"]["messages"]["OrderCreated"] = {"$ref": "#/components/messages/OrderCreated"}
    _conf(more)["retention.ms"] = -1
    _headers(more)["properties"]["new"] = {"type": "string"}
    more["channels"].pop("fulfillment.state")
    assert topic_breaks(DOCUMENT, more) == []
