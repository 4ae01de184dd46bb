"""JSON as RFC 8259 has it, and no more: strangers' bytes either mean one thing or are refused."""

import json
from typing import Any, Final

import orjson

MAX_DEPTH: Final = 64
"""Of arrays and objects in each other. Where parsers and writers give up, from 250 on, depends on their versions."""


class DuplicateKeyError(ValueError):
    """An object names a key twice: which value is meant?"""


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise DuplicateKeyError("an object names a key twice")
    return result


_EXACT: Final = frozenset({int, bool, type(None)})


def _says_each_once(parsed: Any, data: bytes) -> bool:
    """Whether a flat object accounts for every quotation mark sent: a key that stood twice would have brought more."""
    if type(parsed) is not dict:
        return False
    marks = 2 * len(parsed)
    for value in parsed.values():
        if type(value) is str:
            marks += 2
        elif type(value) not in _EXACT:
            return False
    return data.count(b'"') == marks


def _is_deeper(parsed: Any, depth: int) -> bool:
    level = [parsed]
    for _ in range(depth + 1):
        level = [value for value in level if isinstance(value, dict | list)]
        if not level:
            return False
        level = [item for value in level for item in (value.values() if isinstance(value, dict) else value)]
    return True


def loads(data: bytes) -> Any:
    """Parse UTF-8 JSON. ValueError for anything else: NaN, a BOM, UTF-16, lone surrogates, trailing junk,
    more than MAX_DEPTH arrays and objects in each other; DuplicateKeyError for a key that stands twice.
    """
    parsed = orjson.loads(data)  # the stricter grammar, and the faster refusal
    if _says_each_once(parsed, data):
        return parsed
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH and _is_deeper(parsed, MAX_DEPTH):
        raise ValueError(f"arrays and objects are nested more than {MAX_DEPTH} deep")
    return json.loads(data, object_pairs_hook=_pairs)


def dumps(value: Any) -> bytes:
    return orjson.dumps(value)
