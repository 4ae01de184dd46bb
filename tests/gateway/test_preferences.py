import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway import preferences


@pytest.mark.parametrize(
    ("values", "wait_s"),
    [
        ([], None),
        (["wait=10"], 10),
        (['wait="10"'], 10),
        (["WAIT = 0"], 0),
        (["wait=31"], 30),
        (["wait=999999999"], 30),
        (["respond-async, wait=7; x=y"], 7),
        (["respond-async", "wait=7"], 7),
        (["wait=7, wait=9"], 7),
        (["wait=-1"], None),
        (["wait=1.5"], None),
        (["wait=soon"], None),
        (["wait=" + "9" * 1000], None),
        (["wait=\u0661"], None),
    ],
)
def test_the_wait_preference(values: list[str], wait_s: int | None) -> None:
    assert preferences.wait_s(values) == wait_s


@given(st.lists(st.text(), max_size=3))
def test_no_preference_is_an_error(values: list[str]) -> None:
    assert preferences.wait_s(values) in {None, *range(31)}


@pytest.mark.parametrize(
    ("said", "matches"),
    [(None, False), ('"5"', True), ('W/"5"', True), ('"4", "5"', True), ("*", True), ('"55"', False), ("5", False)],
)
def test_if_none_match(said: str | None, matches: bool) -> None:  # noqa: FBT001 - a column of the table
    assert preferences.matches('"5"', said) is matches


@pytest.mark.parametrize("values", [[""], ["a b"], ["ключ"], ["a" * 256], ["a", "a"], ["a\x00"], ["a\n"]])
def test_what_is_no_idempotency_key(values: list[str]) -> None:
    with pytest.raises(ValueError, match="Idempotency-Key"):
        preferences.idempotency_key(values)
