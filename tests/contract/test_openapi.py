"""The OpenAPI document is what the routes say, valid, and breaks nobody who knows an earlier release."""

import copy
import hashlib
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from schemas.contract import text
from schemas.http_compatibility import http_breaks
from services.gateway.documentation import PAGE
from services.gateway.openapi import openapi
from services.gateway.published import OPENAPI, released, routes
from tests.contract.conformance import calls, has_example

ROUTES = routes()
DOCUMENT = openapi(ROUTES)


def test_the_committed_document_is_what_the_routes_say() -> None:
    assert OPENAPI.read_text(encoding="utf-8") == text(DOCUMENT), "run `make schemas`"


def test_it_is_openapi() -> None:
    assert DOCUMENT["openapi"].startswith("3.1")
    OpenAPIV31SpecValidator(DOCUMENT).validate()


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_every_route_describes_itself(route: Any) -> None:
    assert route.description is not None, "give the route a Description (services/gateway/description.py)"
    assert route.method.lower() in DOCUMENT["paths"][route.path]


def test_every_call_has_a_name_of_its_own() -> None:
    names = [call.operation["operationId"] for call in calls(DOCUMENT)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", DOCUMENT["components"]["schemas"])
def test_every_example_is_one(name: str) -> None:
    schemas = DOCUMENT["components"]["schemas"]
    for example in schemas[name].get("examples", ()):
        Draft202012Validator({**schemas[name], "components": {"schemas": schemas}}).validate(example)


@pytest.mark.parametrize("call", calls(DOCUMENT), ids=lambda call: call.name)
def test_whatever_must_be_sent_has_an_example(call: Any) -> None:
    if "requestBody" in call.operation:
        assert call.bodies, "give the body's model examples (json_schema_extra)"
    for where in ("path", "query", "header"):
        for parameter in call.parameters(where):
            assert has_example(parameter) or not parameter.get("required"), f"{parameter['name']} has no example"


@pytest.mark.parametrize("number", released())
def test_no_client_of_a_release_is_broken(number: int) -> None:
    assert http_breaks(released()[number], DOCUMENT) == []


# --- the check itself -------------------------------------------------------------------------------------------------

_PURCHASE = ("paths", "/api/orders/purchase", "post")
_STATUS = ("paths", "/api/orders/fulfillment", "get")


def _at(document: Any, *way: Any) -> Any:
    for step in way:
        document = document[step]
    return document


BREAKS: list[tuple[str, Callable[[Any], object], str]] = [
    ("a path is gone", lambda d: _at(d, "paths").pop("/api/orders/purchase"), "gone"),
    ("a method is gone", lambda d: _at(d, "paths", "/api/orders/fulfillment").pop("get"), "gone"),
    (
        "a parameter is gone",
        lambda d: _at(d, *_STATUS).update(parameters=_at(d, *_STATUS, "parameters")[1:]),
        "nobody reads it",
    ),
    ("a parameter is needed", lambda d: _at(d, *_STATUS, "parameters", 1).update(required=True), "needed now"),
    (
        "a parameter takes less",
        lambda d: _at(d, *_PURCHASE, "parameters", 0, "schema").update(pattern="^[a-z]+$"),
        "pattern",
    ),
    (
        "a field of the body is needed",
        lambda d: _at(d, "components", "schemas", "Purchase", "required").append("price"),
        "may be missing",
    ),
    (
        "a field of the body is gone",
        lambda d: _at(d, "components", "schemas", "Purchase", "properties").pop("packageId"),
        "nobody reads it",
    ),
    (
        "a field of an answer is gone",
        lambda d: _at(d, "components", "schemas", "AcceptedOrder", "required").remove("id"),
        "may be missing",
    ),
    (
        "a field of an answer has another type",
        lambda d: _at(d, "components", "schemas", "AcceptedOrder", "properties").update(size_mb={"type": "string"}),
        "string where integer",
    ),
    ("another success", lambda d: _at(d, *_PURCHASE, "responses").update({"200": {"description": ""}}), "unknown"),
    ("a header is gone", lambda d: _at(d, *_PURCHASE, "responses", "202", "headers").pop("Location"), "no Location"),
    ("a key is needed", lambda d: _at(d, "paths", "/livez", "get").update(security=[{"bearer": []}]), "a key"),
]


@pytest.mark.parametrize(("change", "line"), [pytest.param(*case[1:], id=case[0]) for case in BREAKS])
def test_every_kind_of_break_is_seen(change: Callable[[Any], object], line: str) -> None:
    changed = copy.deepcopy(DOCUMENT)
    change(changed)
    found = http_breaks(DOCUMENT, changed)
    assert found
    assert any(line in said for said in found), found


def test_what_is_only_added_breaks_nothing() -> None:
    more = copy.deepcopy(DOCUMENT)
    more["paths"]["/new"] = {"get": more["paths"]["/livez"]["get"]}
    more["components"]["schemas"]["AcceptedOrder"]["properties"]["new"] = {"type": "string"}
    more["components"]["schemas"]["Purchase"]["properties"]["new"] = {"type": "string"}
    assert http_breaks(DOCUMENT, more) == []


# --- the page ---------------------------------------------------------------------------------------------------------


def test_the_page_runs_no_script_but_the_vendored_one_and_loads_nothing_from_elsewhere() -> None:
    page = (PAGE / "index.html").read_text()
    assert re.findall(r"<script[^>]*>", page) == ['<script type="module" src="/docs/rapidoc-min.js">']
    assert page.count("></script>") == 1
    assert not re.search(r"https?:|\son\w+=|\sstyle=|javascript:", page)


def test_what_is_vendored_is_what_was_taken() -> None:
    vendored = json.loads((PAGE / "vendored.json").read_text())
    assert vendored["licence"] == "MIT"
    for name, sha256 in vendored["sha256"].items():
        assert hashlib.sha256((PAGE / name).read_bytes()).hexdigest() == sha256
    assert {path.name for path in PAGE.iterdir()} == {*vendored["sha256"], "index.html", "vendored.json"}
