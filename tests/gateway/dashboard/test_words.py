"""What the dashboard says of orders and events."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest

from schemas.fulfillment import EVENT_TYPES
from services.gateway.dashboard import words
from services.gateway.reads.questions import STATUS_OF

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def row(state: str, **said: Any) -> dict[str, Any]:
    known = {
        "order_id": "00000000-0000-4000-8000-000000000001",
        "phone_number": "+233241234567",
        "size_mb": 1500,
        "price": Decimal("4.50"),
        "state": state,
        "status": STATUS_OF[state],
        "attempt_number": 1,
        "max_attempts": 3,
        "next_act": None,
    }
    return known | said


def allowed(state: str, **said: Any) -> set[str]:
    return {offer.name for offer in words.offers(row(state, **said)) if not offer.refused_because}


def test_every_state_has_a_name_and_a_tone() -> None:
    assert words.STATES.keys() == STATUS_OF.keys()


@pytest.mark.parametrize(
    ("state", "attempt", "acts"),
    [
        ("received", 0, set()),
        ("created", 0, {"cancel"}),
        ("held", 0, {"trigger", "cancel"}),
        ("attempting", 1, set()),
        ("accepted", 1, set()),
        ("unknown", 1, set()),
        ("review", 1, {"resolve-delivered", "resolve-failed"}),
        ("waiting", 1, {"retry"}),
        ("settling", 3, set()),
        ("delivered", 1, set()),
        ("failed", 2, {"retry"}),
        ("failed", 3, {"override"}),
        ("cancelled", 0, set()),
        ("rejected", 0, set()),
    ],
)
def test_an_act_is_offered_in_the_states_that_allow_it(state: str, attempt: int, acts: set[str]) -> None:
    """docs/order-life.md."""
    assert allowed(state, attempt_number=attempt) == acts


def test_an_act_that_is_refused_says_why() -> None:
    assert "used up" in words.offers(row("failed", attempt_number=3))[0].refused_because
    assert "delivered" in words.offers(row("delivered"))[0].refused_because


def test_each_event_is_told_in_words_of_its_own() -> None:
    golden = Path(__file__).parents[2] / "schemas" / "golden"
    told = {
        kind.__name__: words.happened(orjson.loads((golden / f"{kind.__name__}.json").read_bytes())["value"])
        for kind in EVENT_TYPES
    }
    assert all(one.title and one.text.endswith(".") for one in told.values())
    assert not any("no words" in one.text for one in told.values())


def test_an_event_of_a_later_version_is_shown_all_the_same() -> None:
    assert words.happened({"type": "SomethingNew"}).title == "SomethingNew"


def test_phones_are_masked_for_those_who_only_look() -> None:
    assert words.phone(row("created"), whole=True) == "+233241234567"
    assert words.phone(row("created"), whole=False) == "+2332412•••67"


def test_money_at_risk_is_that_of_orders_in_doubt() -> None:
    rows = [row("review"), row("unknown", price=None), row("delivered"), row("unknown")]
    assert words.at_risk(rows) == Decimal("9.00")


def test_what_comes_next() -> None:
    assert words.next_act(row("waiting", next_act="attempt")) == "next attempt"
    assert words.next_act(row("held")) == "a person triggers it"
    assert words.next_act(row("delivered")) == ""
    assert words.iso(NOW) == "2026-01-31T12:00:00+00:00"
    assert words.iso(None) == ""


@pytest.mark.parametrize(
    "said",
    [
        "233241234567",
        "+233 24 123 4567",
        "0241-234-567",
        "(024) 123-4567",
        "024.123.4567",
        "24\u00a01234567",
        "2 4 1 2 3 4 5 6 7",
        {"msisdn": ["+233-24-123-45-67"]},
        233241234567,
    ],
)
def test_a_number_in_a_provider_s_words_is_masked_however_it_is_written(said: Any) -> None:
    hidden = str(words.without_number(said, row("failed")))
    digits = "".join(character for character in hidden if character.isdigit())
    assert "•••" in hidden
    assert digits.endswith("241267"), "of nine digits four and two are left"


@pytest.mark.parametrize("said", ["NO_0241234567", "FAILED +233 20 999 9999"])
def test_a_failure_s_code_holds_no_number_for_viewers(said: str) -> None:
    failed = row("failed") | {"error_code": said}
    assert words.code(failed, whole=True) == said
    assert "•••" in words.code(failed, whole=False)


def test_what_is_not_its_number_is_left_alone() -> None:
    said = {"transaction_id": "AT-241234", "at": "2026-01-31T12:00:00Z", "amount": 24123456}
    assert words.without_number(said, row("failed")) == said


@pytest.mark.parametrize(
    ("state", "by", "said"),
    [("up", "operator", "closed"), ("suspended", "provider", "open, probing"), ("suspended", "operator", "held open")],
)
def test_a_breaker_is_open_while_its_provider_is_suspended(state: str, by: str, said: str) -> None:
    assert words.breaker({"state": state, "by": by}) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-3, ""),
        (0.4, ""),
        (2, "2 s later"),
        (61, "1 min 1 s later"),
        (3600, "1 h 0 min later"),
        (172_800, "2 days later"),
    ],
)
def test_a_step_says_how_long_after_the_one_before_it_came(seconds: float, said: str) -> None:
    at = NOW + timedelta(seconds=seconds)
    assert words.later(NOW, at) == words.later(NOW.isoformat(), at.isoformat().replace("+00:00", "Z")) == said
