"""The check sees each kind of break, and lets through what breaks nobody."""

import copy
from typing import Any

import pytest

from schemas.compatibility import breaks

BASE: dict[str, Any] = {
    "type": "object",
    "additionalProperties": True,
    "properties": {
        "order_id": {"type": "string"},
        "act": {"$ref": "#/$defs/Act"},
        "attempt": {"type": "integer", "minimum": 1},
        "reason": {"type": "string", "maxLength": 100},
        "price": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "next": {"$ref": "#/$defs/Next"},
    },
    "required": ["order_id", "act", "attempt"],
    "$defs": {
        "Act": {"enum": ["attempt", "verify"], "type": "string"},
        "Next": {"type": "object", "properties": {"at": {"type": "string", "format": "date-time"}}, "required": ["at"]},
    },
}


def changed(**changes: Any) -> dict[str, Any]:
    """BASE with `properties__order_id={…}` and the like set; None takes away."""
    schema = copy.deepcopy(BASE)
    for path, value in changes.items():
        *parents, last = path.split("__")
        target = schema
        for parent in parents:
            target = target[parent]
        if value is None:
            del target[last]
        else:
            target[last] = value
    return schema


HARMLESS = [
    pytest.param(BASE, id="no change"),
    pytest.param(changed(properties__note={"type": "string"}), id="an optional field more"),
    pytest.param(changed(required=["order_id", "act"]), id="a field no longer required of the writer"),
    pytest.param(changed(properties__attempt={"type": "number"}), id="a number where it was an integer"),
    pytest.param(changed(properties__reason={"type": "string"}), id="a bound lifted"),
    pytest.param(changed(properties__reason={"type": "string", "maxLength": 200}), id="a bound widened"),
    pytest.param(changed(**{"$defs__Act__enum": ["attempt", "verify", "settle"]}), id="a value more"),
    pytest.param(changed(properties__attempt={"anyOf": [{"type": "integer"}, {"type": "null"}]}), id="null as well"),
    pytest.param(changed(properties__order_id={"type": "string", "description": "words"}), id="words"),
]

BREAKING = [
    pytest.param(changed(properties__reason=None), "reason: nobody reads it any more", id="a field removed"),
    pytest.param(
        changed(properties__reason=None, properties__why={"type": "string"}),
        "reason: nobody reads it any more",
        id="a field renamed",
    ),
    pytest.param(
        changed(properties__attempt={"type": "string"}), "attempt: integer where string is expected", id="retyped"
    ),
    pytest.param(
        changed(properties__price={"type": "string"}), "price: null where string is expected", id="null no longer"
    ),
    pytest.param(
        changed(required=["order_id", "act", "attempt", "reason"]),
        "reason: may be missing where it is required",
        id="an optional field made required",
    ),
    pytest.param(
        changed(properties__note={"type": "string"}, required=["order_id", "act", "attempt", "note"]),
        "note: may be missing where it is required",
        id="a required field more",
    ),
    pytest.param(
        changed(**{"$defs__Act__enum": ["attempt"]}),
        "act: ['verify'] where only ['attempt'] are known",
        id="a value removed",
    ),
    pytest.param(
        changed(properties__order_id={"enum": ["a"], "type": "string"}),
        "order_id: any value where only ['a'] are known",
        id="an enum where anything went",
    ),
    pytest.param(
        changed(properties__order_id={"const": "a", "type": "string"}),
        "order_id: any value where only ['a'] are known",
        id="a constant where anything went",
    ),
    pytest.param(
        changed(properties__attempt={"type": "integer", "minimum": 2}),
        "attempt: below the minimum 2",
        id="a bound narrowed",
    ),
    pytest.param(
        changed(properties__reason={"type": "string", "maxLength": 10}),
        "reason: above the maxLength 10",
        id="a length narrowed",
    ),
    pytest.param(
        changed(properties__order_id={"type": "string", "pattern": "^[0-9]+$"}),
        "order_id: pattern None where ^[0-9]+$ is expected",
        id="a pattern more",
    ),
    pytest.param(
        changed(**{"$defs__Next__properties__at": {"type": "string", "format": "date"}}),
        "next.at: format date-time where date is expected",
        id="another format, below",
    ),
    pytest.param(
        changed(additionalProperties=False), "*: any value where only [] are known", id="unknown fields refused"
    ),
]


@pytest.mark.parametrize("reader", HARMLESS)
def test_what_breaks_nobody_passes(reader: dict[str, Any]) -> None:
    assert breaks(BASE, reader, keep_all=True) == []


@pytest.mark.parametrize(("reader", "finding"), BREAKING)
def test_every_kind_of_break_is_seen(reader: dict[str, Any], finding: str) -> None:
    assert finding in breaks(BASE, reader, keep_all=True)


def test_a_field_that_is_not_written_any_more_breaks_those_who_require_it() -> None:
    now = changed(properties__attempt=None, required=["order_id", "act"])
    assert breaks(now, BASE) == ["attempt: may be missing where it is required"]


def test_a_value_that_is_new_breaks_those_who_know_only_the_old_ones() -> None:
    now = changed(**{"$defs__Act__enum": ["attempt", "verify", "settle"]})
    assert breaks(now, BASE) == ["act: ['settle'] where only ['attempt', 'verify'] are known"]


def test_a_field_that_is_new_breaks_nobody_who_passes_it_over() -> None:
    assert breaks(changed(properties__note={"type": "string"}), BASE) == []


def test_what_is_not_understood_is_not_waved_through() -> None:
    with pytest.raises(ValueError, match="patternProperties is not understood"):
        breaks(changed(patternProperties={"^x": True}), BASE)


def listing(items: dict[str, Any] | None) -> dict[str, Any]:
    return {"type": "array"} if items is None else {"type": "array", "items": items}


@pytest.mark.parametrize(
    ("said", "reader", "found"),
    [
        (listing({"type": "string"}), listing({"type": "string"}), []),
        (listing({"type": "string"}), listing(None), []),
        (listing({"type": "string"}), listing({"type": "integer"}), ["[]: string where integer is expected"]),
        (listing(None), listing({"type": "integer"}), ["[]: anything where integer is expected"]),
        ({"type": "integer"}, {"type": "string"}, ["the object: integer where string is expected"]),
        ({"type": "integer"}, {"type": "integer", "minimum": 2}, ["the object: below the minimum 2"]),
        ({"type": "integer"}, {"type": "integer", "maximum": 2}, ["the object: above the maximum 2"]),
    ],
)
def test_lists_and_bare_values_are_compared_too(said: dict[str, Any], reader: dict[str, Any], found: list[str]) -> None:
    assert breaks(said, reader) == found


def test_what_nobody_reads_any_more_is_seen_at_any_depth() -> None:
    def nested(*names: str) -> dict[str, Any]:
        inner = {"type": "object", "properties": {name: {"type": "string"} for name in names}}
        listed = {"type": "array", "items": inner}
        return {
            "type": "object",
            "properties": {"one": inner, "many": listed},
            "additionalProperties": inner,
        }

    assert breaks(nested("a", "b"), nested("a"), keep_all=True) == [
        "one.b: nobody reads it any more",
        "many[].b: nobody reads it any more",
        "*.b: nobody reads it any more",
    ]
    assert breaks(nested("a", "b"), nested("a")) == []


def test_a_field_that_only_the_extra_ones_cover_must_be_of_their_kind() -> None:
    said = {"type": "object", "properties": {"named": {"type": "integer"}}, "additionalProperties": False}
    reader = {"type": "object", "additionalProperties": {"type": "string"}}
    assert breaks(said, reader) == ["named: integer where string is expected"]


def test_of_several_ways_to_read_it_the_one_that_fits_best_is_told() -> None:
    both = {"type": "object", "required": ["a", "b"]}
    one = {"type": "object", "required": ["c"]}
    assert breaks({"type": "object"}, {"anyOf": [both, one]}) == ["c: may be missing where it is required"]


def test_what_is_not_understood_is_named() -> None:
    with pytest.raises(ValueError, match=r"^schema keyword deeper, other is not understood$"):
        breaks({"other": 1, "deeper": 2}, {})


@pytest.mark.parametrize(
    ("said", "reader", "what"),
    [
        ({"type": "array"}, {"type": "array", "items": {"type": "string"}}, "the object[]: anything where string"),
        (
            {"type": "object"},
            {"type": "object", "additionalProperties": {"type": "string"}},
            "*: anything where string",
        ),
    ],
)
def test_what_may_be_anything_breaks_who_expects_something(
    said: dict[str, Any], reader: dict[str, Any], what: str
) -> None:
    assert breaks(said, reader) == [f"{what.removeprefix('the object')} is expected"]


@pytest.mark.parametrize("said", [{"const": "abc"}, {"enum": ["abc"]}])
def test_a_value_that_is_known_need_not_say_its_pattern(said: dict[str, Any]) -> None:
    assert breaks(said, {"pattern": "^abc$"}) == []
    assert breaks({}, {"pattern": "^abc$"}) == ["the object: pattern None where ^abc$ is expected"]
