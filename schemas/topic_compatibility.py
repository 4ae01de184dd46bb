"""Whether those who know one AsyncAPI document get on with the topics of another. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from schemas.compatibility import breaks

Document = Mapping[str, Any]

_REFS: Final = "#/components/"


def topic_breaks(before: Document, now: Document) -> list[str]:
    """What a writer or a reader of `before` meets in `now` and cannot take, a line each; none: nothing is broken.

    Payloads are compared by their own schemas. A topic without messages is nobody's contract; messages may be added.
    """
    found = []
    for name, channel in before["channels"].items():
        today = now["channels"].get(name)
        if not channel["messages"]:
            continue
        if today is None:
            found.append(f"{name}: gone")
            continue
        found += [f"{name}: {line}" for line in _topic_breaks(channel, today)]
        for message, reference in channel["messages"].items():
            if message not in today["messages"]:
                found.append(f"{name}: {message} is gone")
            else:
                said = _resolved(reference, before), _resolved(today["messages"][message], now)
                found += [f"{name}: {message}: {line}" for line in _message_breaks(*said, before, now)]
    return found


def _topic_breaks(before: Document, now: Document) -> Iterator[str]:
    if before["address"] != now["address"]:
        yield f"its address is {now['address']}"
    known, today = before["bindings"]["kafka"], now["bindings"]["kafka"]
    if known["partitions"] != today["partitions"]:
        yield f"{today['partitions']} partitions where {known['partitions']} are: a key has another home"
    settings, others = known["topicConfiguration"], today["topicConfiguration"]
    if settings["cleanup.policy"] != others["cleanup.policy"]:
        yield f"cleanup.policy {others['cleanup.policy']}"
    for name in ("retention.ms", "max.message.bytes"):
        if name in settings and _bound(others, name) < _bound(settings, name):
            yield f"{name} {others[name]} where it was {settings[name]}"


def _bound(settings: Document, name: str) -> float:
    """-1 is none, of a retention."""
    said: float = settings.get(name, -1)
    return float("inf") if said == -1 else said


def _message_breaks(before: Document, now: Document, known: Document, today: Document) -> Iterator[str]:
    keys = [{**_kafka(message).get("key", {}), "description": None} for message in (before, now)]
    if keys[0] != keys[1]:
        yield "another key"
    if before.get("contentType") != now.get("contentType"):
        yield f"it is {now.get('contentType')}"
    if before["payload"] != now["payload"]:
        yield "another payload"
    headers = [_resolved(message["headers"], document) for message, document in ((before, known), (now, today))]
    if all("$ref" not in said for said in headers):  # those in a file of their own are compared as schemas are
        yield from (f"headers: {line}" for line in breaks(headers[1], headers[0]))


def _kafka(message: Document) -> Document:
    said: Document = message.get("bindings", {}).get("kafka", {})
    return said


def _resolved(said: Document, document: Document) -> Document:
    reference = said.get("$ref", "")
    if not reference.startswith(_REFS):
        return said
    kind, _, name = reference.removeprefix(_REFS).partition("/")
    found: Document = document["components"][kind][name]
    return found
