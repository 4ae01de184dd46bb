"""Every call of the document on a running system: its examples are real, and whatever is sent, the answer conforms."""

import asyncio
import itertools
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import quote

import pytest
from yarl import URL

from services.gateway.access import Role
from services.gateway.openapi import openapi
from services.gateway.published import routes
from tests.contract.conformance import Call, calls, example, has_example
from tests.contract.conftest import STRANGER, Figures, System

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(900)]

CALLS: Final = [call for call in calls(openapi(routes())) if not call.endless]
AT_ONCE: Final = 24
"""An order that is not there is waited for a second: many such questions go together."""
STRIDE: Final = 1 if "CONTRACT_EXAMPLES" in os.environ else 9
"""In CI each place is tried with every sixth value; with MUSTS wherever it is."""
MUSTS: Final = ("\x00", "a\x00b", "")

TEXTS: Final = (
    "", " ", "\t", "\x00", "a\x00b", "\r\nX-Injected: 1", "a" * 10_000, "../../etc/passwd", "%00",
    "%ff%fe", "..%2f..%2f",
    "'; DROP TABLE orders; --", "' OR 1=1 --", "%", "_", "\\", "<script>alert(1)</script>", "{{7*7}}",
    "${jndi:ldap://x}",
    "٠١٢٣٤٥٦٧٨٩", "\u200b", "\u202e", "\ufeff", "e\u0301", "💥", "null", "None", "true", "NaN", "Infinity", "-Infinity",
    "0", "-1", "-0", "1.5", "1e308", "9" * 400, "9223372036854775808", "2147483648", "0x10", "1,5GB", "[]", "{}", "*",
    "2026-13-45T99:99:99Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59-14:00", "2026-01-31",
    "-infinity", "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff", "+00123456789", "911",
)  # fmt: skip
VALUES: Final[tuple[Any, ...]] = (
    *TEXTS, None, True, False, 0, -1, 1, 1.5, 0.1 + 0.2, 10**30, -(10**18), 1e308, [], [None], {}, {"$ne": 1}, [[[[]]]],
    {"a": {"b": {"c": [1, 2, 3]}}}, ["a"] * 1000,
)  # fmt: skip
HEADERS: Final = (
    "", " ", "a" * 4000, "é", "💥", "%00", "null", "0", "-1", "1e308", "wait=-1", "wait=1e9", "wait=0, wait=0", 'W/"',
    '"', "*", "Basic Og==", "Bearer", "Bearer  ", "Bearer a.b", "Bearer " + "a" * 40 + "." + "b" * 40, "text/plain",
    "*/*;q=x", "multipart/form-data", "application/json; charset=latin-1", "gzip", "=", ";", ",,,,", "a=b; c=d; e",
    "bytes=0-", "Thu, 01 Jan 1970 00:00:00 GMT", "' OR 1=1 --", "../..", "<script>",
)  # fmt: skip
STANDARD: Final = (
    "Authorization", "X-API-Key", "Cookie", "Accept", "Accept-Encoding", "Content-Encoding", "Content-Type", "Origin",
    "Prefer", "If-None-Match", "If-Modified-Since", "Range", "Last-Event-ID", "traceparent", "X-CSRF-Token",
    "X-HTTP-Method-Override", "X-Forwarded-For", "Idempotency-Key", "Referer",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Request:
    call: Call
    path: str
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None


def real(call: Call, body: Any = None) -> Request:
    """As the document's examples have it."""
    headers = {said["name"]: example(said) for said in call.parameters("header") if has_example(said)}
    query = tuple((said["name"], example(said)) for said in call.parameters("query") if said["required"])
    if body is None and call.bodies:
        body = call.bodies[0]
    if body is not None:
        headers["Content-Type"] = "application/json"
    return Request(call, call.url(), query, headers, None if body is None else json.dumps(body).encode())


def varied(call: Call) -> Iterator[Request]:
    """A right request with one thing wrong, or strange, in every place."""
    right = real(call)
    plain = {name: value for name, value in right.headers.items() if name == "Content-Type"}

    def but(**changes: Any) -> Request:
        said = {"path": right.path, "query": right.query, "headers": plain, "body": right.body}
        return Request(call, **(said | changes))

    for said in call.parameters("path"):
        yield from (but(path=call.url(**{said["name"]: quote(text, safe="")})) for text in _some(TEXTS) if text)
    for said in call.parameters("query"):
        others = tuple(pair for pair in right.query if pair[0] != said["name"])
        yield but(query=others)
        yield but(query=(*right.query, *((said["name"], text) for text in ("1", "2"))))
        yield from (but(query=(*others, (said["name"], text))) for text in _some(TEXTS))
    yield but(query=(*right.query, ("unknown", "1"), ("a[b]", "1"), ("", "")))
    for name in STANDARD:
        yield from (but(headers={**plain, name: text}) for text in _some(HEADERS, 1 if STRIDE == 1 else 3))
    for body in call.bodies[:1]:
        for name in body:
            yield but(body=_json({key: value for key, value in body.items() if key != name}))
            yield from (but(body=_json({**body, name: value})) for value in _some(VALUES))
        yield from (but(body=_json(value)) for value in _some(VALUES))
        yield from (but(body=content) for content in _BYTES)


_BYTES: Final = (
    b"", b"{", b"}", b"hello", b"\xff\xfe", b"\xef\xbb\xbf{}", "{}".encode("utf-16"), b"{}{}", b"{'a': 1}",
    b'{"a":NaN}',
    b'{"a":1,"a":2}', b'{"a":"\\ud800"}', b"[" * 10_000 + b"]" * 10_000, b'{"a":' * 900 + b"1" + b"}" * 900,
    b'{"a":' + b"9" * 10_000 + b"}", b"{" + b" " * 65_535 + b"}",
)  # fmt: skip


_turns: Final = itertools.count()


def _some(values: Sequence[Any], further: int = 1) -> Sequence[Any]:
    """Others each time."""
    return [*values[next(_turns) % STRIDE :: STRIDE][::further], *(value for value in values if value in MUSTS)]


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


async def answered(system: System, request: Request, key: str | None) -> tuple[int, list[str]]:
    """Its status, and what in the answer does not conform."""
    headers = {name: value.replace("\r", "").replace("\n", "") for name, value in request.headers.items()}
    if key is not None:
        headers = STRANGER | {"Authorization": f"Bearer {key}"} | headers
    query = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in request.query)
    url = URL(f"{system.url}{request.path}{'?' + query if query else ''}", encoded=True)
    async with system.session.request(
        request.call.method, url, headers=headers, data=request.body, allow_redirects=False
    ) as response:
        content = await response.read()
        return response.status, request.call.faults(response.status, response.headers, content)


async def all_answered(
    system: System, requests: Iterable[tuple[Request, str | None]]
) -> tuple[Counter[int], list[str]]:
    """How often each status was answered, and every fault."""
    statuses: Counter[int] = Counter()
    faults: list[str] = []
    left = iter(requests)

    async def some() -> None:
        for request, key in left:
            status, found = await answered(system, request, key)
            statuses[status] += 1
            if status >= 500:
                found = [f"{request.call.name}: {status}", *found]
            faults.extend(f"{line} <- {str(request)[-300:]}" for line in found)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(some())
    return statuses, faults


def _first(call: Call) -> tuple[bool, bool]:
    """The purchase, then what only looks."""
    return (call.path != "/api/orders/purchase", call.method != "GET")


OF_OTHER_STATES = {
    *(f"POST /api/admin/fulfillment/{{id}}/{act}" for act in ("resolve", "override", "cancel")),
    *(f"POST /api/admin/fulfillment/retry/{{job}}/{act}" for act in ("pause", "resume", "cancel")),
}
"""The examples' order is delivered, their bulk retry over: these are refused, as the document says that they may be."""
OF_PEOPLE = {"POST /api/account/password"}
"""A key has no password."""


async def test_every_example_is_answered_as_the_document_says(system: System) -> None:
    refused = []
    for call in sorted(CALLS, key=_first):
        statuses = []
        for body in call.bodies or [None]:
            # The examples' order is of a caller on this machine; what that one may not do, an admin may.
            status, faults = await answered(system, real(call, body), None)
            if status == 401:
                status, faults = await answered(system, real(call, body), system.keys[Role.ADMIN])
            assert faults == []
            statuses.append(status)
        as_said = (call.name in OF_OTHER_STATES and statuses == [409]) or (call.name in OF_PEOPLE and statuses == [400])
        # Forms are for pages alone, whose fields the document does not say.
        as_said = as_said or (call.name.startswith("POST /dashboard/") and statuses == [415])
        if min(statuses) >= 400 and not as_said:
            refused.append(f"{call.name}: {statuses}")
        for said in call.parameters("query"):
            if has_example(said) and not said["required"]:
                asked = replace(real(call), query=(*real(call).query, (said["name"], example(said))))
                _, faults = await answered(system, asked, system.keys[Role.ADMIN])
                assert faults == []
    assert refused == []


async def test_what_is_strange_is_answered_as_the_document_says(system: System, figures: Figures) -> None:
    sent = [(request, system.keys[Role.ADMIN]) for call in CALLS for request in varied(call)]
    statuses, faults = await all_answered(system, sent)
    figures.add(f"picked inputs over {len(CALLS)} calls", statuses)
    assert faults == []


async def test_whoever_calls_is_answered_as_the_document_says(system: System, figures: Figures) -> None:
    """Right requests by callers of every kind."""
    keys = [*system.keys.values(), "nobody0000000000." + "x" * 43, "no key at all"]
    logged_in = [system.logged_in.headers, *system.over.values()]
    requests = [(real(call), key) for call in CALLS for key in keys]
    requests += [
        (replace(real(call), headers={**real(call).headers, **headers}), None)
        for call in CALLS
        for headers in logged_in
        if "logout" not in call.path
    ]
    statuses, faults = await all_answered(system, requests)
    figures.add(f"right requests by {len(keys) + len(logged_in)} kinds of callers", statuses)
    assert faults == []
