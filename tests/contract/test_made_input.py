"""Bodies that Hypothesis makes, out of the document's examples: each is answered, and as the document says."""

import json
import os
from collections import Counter
from typing import Any, Final

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.gateway.access import Role
from tests.contract.conformance import Call
from tests.contract.conftest import STRANGER, Figures, System
from tests.contract.test_answers import CALLS, TEXTS

MADE: Final = int(os.environ.get("CONTRACT_EXAMPLES", "15"))
"""How many for each call."""

_JSON: Final = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=50)
    | st.sampled_from(TEXTS),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20), inner, max_size=4),
    max_leaves=10,
)


@pytest.mark.parametrize("call", [call for call in CALLS if call.bodies], ids=lambda call: call.name)
def test_what_hypothesis_makes_is_answered_as_the_document_says(system: System, figures: Figures, call: Call) -> None:
    bodies = call.bodies
    names = sorted({name for body in bodies for name in body})
    statuses: Counter[int] = Counter()
    session = requests.Session()
    url = system.url + call.url()
    headers = STRANGER | {"Authorization": f"Bearer {system.keys[Role.ADMIN]}", "Content-Type": "application/json"}

    @settings(max_examples=MADE, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(bodies), st.dictionaries(st.sampled_from(names), _JSON, min_size=1, max_size=2))
    def sent(body: dict[str, Any], changes: dict[str, Any]) -> None:
        content = json.dumps(body | changes).encode(errors="surrogatepass")
        answer = session.request(call.method, url, headers=headers, data=content, timeout=60)
        statuses[answer.status_code] += 1
        assert answer.status_code < 500
        assert call.faults(answer.status_code, answer.headers, answer.content) == []

    with session:
        sent()
    figures.add(f"made bodies for {call.name}", statuses)
