import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.strict_json import MAX_DEPTH, DuplicateKeyError, loads

_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
_scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _texts
_values = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3), max_leaves=6
)


@given(st.dictionaries(_texts, _values, max_size=5), st.booleans())
def test_what_is_said_once_is_read_as_python_reads_it(value: dict[str, Any], ascii_only: bool) -> None:  # noqa: FBT001 - hypothesis passes it
    text = json.dumps(value, ensure_ascii=ascii_only)
    assert loads(text.encode()) == json.loads(text)


@given(st.dictionaries(_texts, _values, min_size=1, max_size=4), _scalars, st.booleans(), st.data())
def test_a_key_that_stands_twice_is_refused(
    value: dict[str, Any],
    again: object,
    ascii_only: bool,  # noqa: FBT001 - hypothesis passes it
    data: st.DataObject,
) -> None:
    name = data.draw(st.sampled_from(sorted(value)))
    once = json.dumps(value, ensure_ascii=False)
    twice = f"{once[:-1]}, {json.dumps(name, ensure_ascii=ascii_only)}: {json.dumps(again)}}}"
    with pytest.raises(DuplicateKeyError):
        loads(twice.encode())


@pytest.mark.parametrize("data", [b'[{"a": 1, "a": 2}]', b'{"a": {"b": 1, "b": 2}}', b'{"a": [{"b": 1, "b": 2}]}'])
def test_a_key_that_is_named_twice_is_seen_at_any_depth(data: bytes) -> None:
    with pytest.raises(DuplicateKeyError):
        loads(data)


@pytest.mark.parametrize("wrap", ["[%s]", '{"a": %s}', '[1, {"b": "]", "c": %s}]'])
def test_how_deep_it_may_go_does_not_depend_on_the_parser(wrap: str) -> None:
    before, behind = wrap.split("%s")

    def nested(times: int) -> bytes:
        return (before * times + "1" + behind * times).encode()

    each = wrap.replace('"]"', "").count("[") + wrap.count("{")
    most = MAX_DEPTH // each
    assert loads(nested(most)) == json.loads(nested(most))
    for times in (most + 1, 1000, 100_000):
        with pytest.raises(ValueError, match=r"deep|depth"):
            loads(nested(times))


def test_what_is_wide_is_not_deep() -> None:
    wide = [[number, {"a": []}] for number in range(1000)]
    assert loads(json.dumps(wide).encode()) == wide
