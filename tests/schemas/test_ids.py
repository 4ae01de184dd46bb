import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import ids


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_derived_id_is_the_uuid5_of_its_name(name: str) -> None:
    assert ids.derived(name) == str(uuid.uuid5(ids.NAMESPACE, name))


def test_ids_are_what_they_were_when_they_were_released() -> None:
    """Orders, rows and repeated requests are found by them again."""
    order_id = ids.order_id("acme", "key-1")
    assert order_id == str(uuid.uuid5(uuid.UUID("6f1c1a53-9a44-5d0e-8f6d-2b8f3f6f0a51"), "order:acme:key-1"))
    assert ids.log_id(order_id) == ids.derived(f"log:{order_id}")
    assert ids.event_id(order_id, 3) == ids.derived(f"event:{order_id}:3")
    assert ids.delayed_id(order_id, 3) == ids.derived(f"delayed:{order_id}:3")
    assert ids.retry_command_id("job-1", order_id) == ids.derived(f"retry:job-1:{order_id}")
    assert (ids.reference(order_id, 0), ids.reference(order_id, 1)) == (order_id, f"{order_id}-r2")


@pytest.mark.parametrize("text", ["", "x", "1" * 36, "{11111111-1111-4111-8111-111111111111}"])
def test_what_is_no_uuid_is_told_how_one_is_written(text: str) -> None:
    with pytest.raises(ValueError, match=r"^not a UUID of the form xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx$"):
        ids.canonical_uuid(text)
