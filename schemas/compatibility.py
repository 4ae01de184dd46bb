"""Whether what one schema describes can be read by whoever knows another. Pure, over JSON Schema as we generate it."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

Schema = Mapping[str, Any]

_IGNORED: Final = frozenset(
    {"$schema", "$comment", "$defs", "title", "description", "default", "examples", "readOnly", "writeOnly"}
)
_LOWER_BOUNDS: Final = ("minimum", "minLength", "minItems")
_UPPER_BOUNDS: Final = ("maximum", "maxLength", "maxItems")
_EXACT: Final = ("pattern", "format", "multipleOf")
_KNOWN: Final = _IGNORED | {
    *("type", "const", "enum", "anyOf", "$ref", "items", "properties", "required", "additionalProperties"),
    *_LOWER_BOUNDS,
    *_UPPER_BOUNDS,
    *_EXACT,
}


def breaks(said: Schema, reader: Schema, *, keep_all: bool = False) -> list[str]:
    """What a reader of `reader` may meet in an instance of `said` and cannot take, a line each; none: it can read all.

    `keep_all`: a field that `said` names must be named by the reader too, or it would be passed over in silence.
    ValueError for a keyword that this does not understand: nothing is waved through.
    """
    return list(_breaks(_Node(said, said), _Node(reader, reader), "", keep_all))


class _Node:
    """A schema within the document that holds its definitions."""

    def __init__(self, schema: Any, document: Schema) -> None:
        if isinstance(schema, bool):
            schema = {} if schema else {"enum": []}
        while "$ref" in schema:
            schema = document["$defs"][schema["$ref"].removeprefix("#/$defs/")]
        unknown = schema.keys() - _KNOWN
        if unknown:
            raise ValueError(f"schema keyword {', '.join(sorted(unknown))} is not understood")
        self.schema: Schema = schema
        self.document = document

    def at(self, schema: Any) -> "_Node":
        return _Node(schema, self.document)

    @property
    def branches(self) -> list["_Node"]:
        if "anyOf" not in self.schema:
            return [self]
        rest = {keyword: value for keyword, value in self.schema.items() if keyword != "anyOf"}
        return [self.at({**rest, **self.at(branch).schema}) for branch in self.schema["anyOf"]]

    @property
    def values(self) -> list[Any] | None:
        """The only values allowed, or None: any."""
        return [self.schema["const"]] if "const" in self.schema else self.schema.get("enum")

    @property
    def properties(self) -> Mapping[str, Any]:
        properties: Mapping[str, Any] = self.schema.get("properties", {})
        return properties


def _breaks(said: _Node, reader: _Node, path: str, keep_all: bool) -> Iterator[str]:  # noqa: FBT001 - recursion
    for branch in said.branches:
        attempts = [list(_branch_breaks(branch, option, path, keep_all)) for option in reader.branches]
        if all(attempts):
            yield from min(attempts, key=len)


def _branch_breaks(said: _Node, reader: _Node, path: str, keep_all: bool) -> Iterator[str]:  # noqa: FBT001 - as above
    here = path or "the object"
    kind, wanted = said.schema.get("type"), reader.schema.get("type")
    if wanted is not None and kind != wanted and (kind, wanted) != ("integer", "number"):
        yield f"{here}: {kind or 'anything'} where {wanted} is expected"
        return
    if reader.values is not None:
        if said.values is None:
            yield f"{here}: any value where only {reader.values} are known"
        elif unknown := [value for value in said.values if value not in reader.values]:
            yield f"{here}: {unknown} where only {reader.values} are known"
    yield from _bound_breaks(said.schema, reader.schema, here)
    if "items" in reader.schema:
        items = said.at(said.schema.get("items", True))
        yield from _breaks(items, reader.at(reader.schema["items"]), path + "[]", keep_all)
    yield from _object_breaks(said, reader, path, keep_all)


def _bound_breaks(said: Schema, reader: Schema, here: str) -> Iterator[str]:
    for keyword in _LOWER_BOUNDS:
        if keyword in reader and said.get(keyword, float("-inf")) < reader[keyword]:
            yield f"{here}: below the {keyword} {reader[keyword]}"
    for keyword in _UPPER_BOUNDS:
        if keyword in reader and said.get(keyword, float("inf")) > reader[keyword]:
            yield f"{here}: above the {keyword} {reader[keyword]}"
    for keyword in _EXACT:
        if keyword in reader and said.get(keyword) != reader[keyword] and "const" not in said and "enum" not in said:
            yield f"{here}: {keyword} {said.get(keyword)} where {reader[keyword]} is expected"


def _object_breaks(said: _Node, reader: _Node, path: str, keep_all: bool) -> Iterator[str]:  # noqa: FBT001 - as above
    dot = path + "." if path else ""
    for name in reader.schema.get("required", ()):
        if name not in said.schema.get("required", ()):
            yield f"{dot}{name}: may be missing where it is required"
    extra = reader.schema.get("additionalProperties", True)
    for name, schema in said.properties.items():
        if name in reader.properties:
            yield from _breaks(said.at(schema), reader.at(reader.properties[name]), dot + name, keep_all)
        elif keep_all and reader.properties:
            yield f"{dot}{name}: nobody reads it any more"
        else:
            yield from _breaks(said.at(schema), reader.at(extra), dot + name, keep_all)
    if extra is not True and said.schema.get("type") == "object":
        unnamed = said.schema.get("additionalProperties", True)
        yield from _breaks(said.at(unnamed), reader.at(extra), dot + "*", keep_all) if unnamed is not False else ()
