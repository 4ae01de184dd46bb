"""Whether a client that knows one OpenAPI document is served by another. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from schemas.compatibility import breaks

Document = Mapping[str, Any]

_REFS: Final = "#/components/schemas/"


def http_breaks(before: Document, now: Document) -> list[str]:
    """What a client of `before` meets in `now` and cannot take, a line each; none: nothing is broken.

    Errors may be added and need not be told apart, so they are not compared.
    """
    found = []
    for path, methods in before["paths"].items():
        for method, operation in methods.items():
            call = f"{method.upper()} {path}"
            today = now["paths"].get(path, {}).get(method)
            if today is None:
                found.append(f"{call}: gone")
            else:
                found += [f"{call}: {line}" for line in _breaks(operation, before, today, now)]
    return found


def _breaks(operation: Document, before: Document, today: Document, now: Document) -> Iterator[str]:
    yield from _parameter_breaks(_parameters(operation, before), _parameters(today, now))
    said, read = _schema(operation.get("requestBody"), before), _schema(today.get("requestBody"), now)
    if read is not None:
        yield from (
            ["a body is needed"] if said is None else [f"body: {line}" for line in breaks(said, read, keep_all=True)]
        )
    if operation.get("security") == [] and today.get("security"):
        yield "a key is needed"
    for status, reply in today["responses"].items():
        if status >= "400":
            continue
        known = operation["responses"].get(status)
        if known is None:
            yield f"{status}: unknown to it"
            continue
        if media := known.get("content", {}).keys() - reply.get("content", {}).keys():
            yield f"{status}: no {', '.join(sorted(media))}"
        yield from (
            f"{status}: no {name}" for name in known.get("headers", {}).keys() - reply.get("headers", {}).keys()
        )
        said, read = _schema(reply, now), _schema(known, before)
        if said is not None and read is not None:
            yield from (f"{status}: {line}" for line in breaks(said, read))


def _parameter_breaks(before: Mapping[tuple[str, str], Any], now: Mapping[tuple[str, str], Any]) -> Iterator[str]:
    for (where, name), parameter in now.items():
        known = before.get((where, name))
        if known is None:
            if parameter.get("required"):
                yield f"{where} {name}: needed now"
            continue
        if parameter.get("required") and not known.get("required"):
            yield f"{where} {name}: needed now"
        yield from (f"{where} {name}: {line}" for line in breaks(known["schema"], parameter["schema"]))
    yield from (f"{where} {name}: nobody reads it any more" for where, name in before.keys() - now.keys())


def _parameters(operation: Document, document: Document) -> dict[tuple[str, str], Any]:
    return {
        (said["in"], said["name"]): said | {"schema": _standalone(said["schema"], document)}
        for said in operation.get("parameters", ())
    }


def _schema(holder: Document | None, document: Document) -> dict[str, Any] | None:
    """Of the JSON body that a request or an answer has."""
    content = (holder or {}).get("content", {}).get("application/json")
    return None if content is None else _standalone(content["schema"], document)


def _standalone(schema: Any, document: Document) -> dict[str, Any]:
    """With the definitions that it refers to within it."""
    return dict(_moved(schema)) | {"$defs": _moved(document["components"]["schemas"])}


def _moved(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: "#/$defs/" + said.removeprefix(_REFS) if key == "$ref" else _moved(said) for key, said in value.items()
        }
    return [_moved(part) for part in value] if isinstance(value, list) else value
