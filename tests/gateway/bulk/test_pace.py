"""When a bulk retry sends, waits, halts and ends."""

from typing import Any

from services.gateway.bulk.pace import Finish, GoOn, Halt, Pace, Progress, Send, Step, next_step


def step(state: str, allowance: int = 100, *, canary: int = 5, tolerate: int = 1, per_s: int = 20, **said: Any) -> Step:
    nothing: dict[str, Any] = dict.fromkeys(("unsent", "unanswered", "in_doubt", "delivered", "failed", "failing"), 0)
    job = {"state": state, "canary": canary, "tolerate": tolerate, "per_s": per_s}
    return next_step(job, Progress(**nothing | {"waited": False} | said), allowance)


def test_the_canary_goes_at_once_and_is_waited_for() -> None:
    assert step("canary", allowance=0, unsent=100) == Send(5)
    assert step("canary", unsent=95, unanswered=5) == Send(0)
    assert step("canary", unsent=95, unanswered=1, delivered=4) == Send(0)
    assert step("canary", unsent=95, in_doubt=1, delivered=4) == Send(0)
    assert step("canary", unsent=95, delivered=4, failed=1) == GoOn()


def test_a_canary_that_fails_waits_for_a_person() -> None:
    assert step("canary", unsent=95, unanswered=3, failed=2) == Halt("2 of the first 5 orders failed again")
    assert step("canary", tolerate=2, unsent=95, delivered=3, failed=2) == GoOn()
    halted = step("canary", unsent=95, in_doubt=2, unanswered=1, delivered=2, waited=True)
    assert halted == Halt("3 of the first 5 orders have no outcome after 120 s")


def test_one_that_was_refused_is_no_canary() -> None:
    assert step("canary", unsent=93, delivered=3) == Send(2)


def test_where_all_are_canary_nothing_is_held_back() -> None:
    assert step("canary", unsent=2) == Send(2)
    assert step("canary", failed=3) == GoOn()
    assert step("canary", unanswered=1, waited=True) == GoOn()


def test_the_rest_goes_at_its_pace() -> None:
    assert step("running", allowance=7, unsent=90) == Send(7)
    assert step("running", allowance=7, unsent=3) == Send(3)
    assert step("running", unsent=1000, unanswered=195) == Send(5)
    assert step("running", unsent=1000, unanswered=200) == Send(0)
    assert step("running", unsent=1000, unanswered=210) == Send(0)


def test_it_stops_where_half_of_the_latest_fail() -> None:
    assert step("running", unsent=1, failing=24) == Send(1)
    assert step("running", unsent=1, failing=25) == Halt("25 of the latest 50 orders were not delivered")
    assert step("running", failing=50) == Finish()


def test_it_ends_when_all_are_answered() -> None:
    assert step("running", unanswered=1) == Send(0)
    assert step("running", in_doubt=1, delivered=9) == Finish()


def test_a_pause_earns_a_seconds_worth_at_most() -> None:
    pace = Pace(100.0)
    assert pace.allowance(20, 100.0) == 1
    assert pace.allowance(20, 100.5) == 11
    pace.sent(11)
    assert pace.allowance(20, 100.5) == 0
    assert pace.allowance(20, 3600.0) == 20
