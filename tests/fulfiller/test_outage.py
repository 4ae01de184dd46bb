"""What suspends a provider, and what ends that: the pure part."""

from datetime import timedelta

import pytest

from schemas.commands import ResumeProvider, SuspendProvider
from schemas.providers import By, ProviderBalance, ProviderChanged, ProviderState, read_provider
from services.fulfiller.outage import (
    FAULTS_TO_SUSPEND,
    TRY_ANYWAY,
    Standing,
    Verdict,
    commanded,
    is_over,
    polled,
    probed,
    suspension,
)
from services.fulfiller.providers.port import Balance, Outcome, OutcomeClass
from tests.virtual_time import BEGIN

REFUSED = Outcome(OutcomeClass.SUSPENDED, code="INSUFFICIENT_BALANCE")
COMMAND_ID = "11111111-1111-4111-8111-111111111111"


def later(seconds: float) -> ProviderChanged:
    return ProviderChanged(
        provider="memory",
        state=ProviderState.UP,
        by=By.PROVIDER,
        since=BEGIN + timedelta(seconds=seconds),
        at=BEGIN + timedelta(seconds=seconds),
    )


def suspended(seconds: float, why: str = "INSUFFICIENT_BALANCE", needs_mb: int | None = None) -> ProviderChanged:
    return suspension(Standing("memory"), Verdict(why, needs_mb), BEGIN + timedelta(seconds=seconds), 5.0)


def operator(
    kind: type[SuspendProvider | ResumeProvider], said: ProviderChanged | None, at_s: float = 0.0
) -> ProviderChanged:
    at = BEGIN + timedelta(seconds=at_s)
    command = kind(command_id=COMMAND_ID, provider="memory", actor="ama", reason="ticket", at=at)
    return commanded("memory", said, command, at)


def test_a_late_reply_of_an_outage_that_is_over_suspends_nobody() -> None:
    standing = Standing("memory")
    standing.observe(REFUSED, 0, 1000)
    standing.hear(suspended(0))
    standing.hear(later(5))
    assert (standing.suspended_because, standing.epoch) == (None, 1)
    standing.observe(REFUSED, 0, 1000)
    for _ in range(FAULTS_TO_SUSPEND * 2):
        standing.observe(Outcome(OutcomeClass.UNKNOWN), 0)
    assert standing.suspended_because is None
    standing.observe(REFUSED, 1, 1000)
    assert standing.suspended_because == "INSUFFICIENT_BALANCE", "one of a call that began since does"


def test_an_outage_that_compaction_has_removed_makes_an_epoch_too() -> None:
    standing = Standing("memory")
    standing.hear(later(0))
    standing.hear(later(60))
    assert standing.epoch == 1
    standing.hear(later(60).model_copy(update={"at": BEGIN + timedelta(seconds=90)}))
    assert standing.epoch == 1, "and one that is said once more makes none"


def test_a_verdict_holds_until_the_log_has_it() -> None:
    standing = Standing("memory")
    standing.hear(later(0))
    standing.observe(REFUSED, 0, 1000)
    standing.hear(later(0).model_copy(update={"at": BEGIN + timedelta(seconds=1)}))
    assert standing.verdict == Verdict("INSUFFICIENT_BALANCE", 1000), "a new balance does not end it"
    standing.hear(suspended(2))
    assert standing.verdict is None
    assert standing.suspended_because == "INSUFFICIENT_BALANCE"


def test_a_balance_by_who_had_not_heard_of_the_outage_does_not_end_it() -> None:
    standing = Standing("memory")
    standing.hear(later(0))
    standing.hear(suspended(10))
    standing.hear(later(0).model_copy(update={"at": BEGIN + timedelta(seconds=11)}))
    assert (standing.suspended_because, standing.overruled) == ("INSUFFICIENT_BALANCE", True), (
        "what holds is said again"
    )
    standing.hear(suspended(10))
    assert (standing.suspended_because, standing.overruled) == ("INSUFFICIENT_BALANCE", False)
    # Whoever says that it is over may have a clock that is behind.
    standing.hear(later(9))
    assert (standing.suspended_because, standing.epoch) == (None, 1)


def test_what_a_provider_said_does_not_end_an_operator_s_suspension() -> None:
    standing = Standing("memory")
    standing.hear(operator(SuspendProvider, None))
    for changed in (suspended(1), later(2)):
        standing.hear(changed)
        assert standing.suspended_because == "ticket"
        assert standing.overruled, "and what holds is to be said again"
    standing.hear(operator(SuspendProvider, standing.said, 3))
    assert not standing.overruled
    standing.hear(operator(ResumeProvider, standing.said, 4))
    assert standing.suspended_because is None


@pytest.mark.parametrize(
    ("available_mb", "needs_mb", "after_s", "over"),
    [
        (0, None, 5, False),
        (-5, None, 5, False),
        (1, None, 5, True),
        (999, 1000, 5, False),
        (1000, 1000, 5, True),
        (999, 1000, TRY_ANYWAY.total_seconds(), True),
        (0, 1000, TRY_ANYWAY.total_seconds(), False),
    ],
)
def test_a_probe_ends_it_where_the_balance_is_enough(
    available_mb: int, needs_mb: int | None, after_s: float, *, over: bool
) -> None:
    now = BEGIN + timedelta(seconds=after_s)
    said = suspended(0, needs_mb=needs_mb)
    balance = Balance(available_mb, 0)
    assert is_over(said, balance, now) is over
    found = probed(said, balance, now, 5.0)
    assert found.state == ("up" if over else "suspended")
    assert found.since == (now if over else BEGIN)
    assert found.next_probe_at == (None if over else now + timedelta(seconds=5))
    assert found.balance is not None
    assert found.balance.available_mb == available_mb


def test_a_probe_that_nobody_answers_ends_nothing() -> None:
    found = probed(suspended(0, "unreachable"), None, BEGIN + timedelta(hours=1), 5.0)
    assert (found.state, found.why, found.since) == ("suspended", "unreachable", BEGIN)


def test_a_balance_is_said_where_it_changed() -> None:
    first = polled("memory", None, Balance(500, 0), BEGIN)
    assert first is not None
    assert (first.state, first.by) == ("up", None)
    assert polled("memory", first, Balance(500, 0), BEGIN + timedelta(minutes=1)) is None
    again = polled("memory", first, Balance(400, 100), BEGIN + timedelta(minutes=2))
    assert again is not None
    assert again.since == BEGIN


def test_a_command_that_asks_for_what_is_so_leaves_who_brought_it_about() -> None:
    first = operator(SuspendProvider, None)
    again = SuspendProvider(command_id=COMMAND_ID[:-1] + "2", provider="memory", actor="kofi", at=BEGIN)
    assert commanded("memory", first, again, BEGIN) == first
    taken_over = operator(SuspendProvider, suspended(0), 9)
    assert (taken_over.by, taken_over.next_probe_at) == ("operator", None), (
        "a provider's own suspension is no operator's"
    )


def test_what_is_written_is_read_back() -> None:
    for changed in (suspended(0, needs_mb=5), later(1), operator(SuspendProvider, None)):
        assert read_provider(changed.model_dump_json(exclude_none=True).encode()) == changed


SILENT = Outcome(OutcomeClass.UNKNOWN)


def test_of_whom_nothing_is_known_nothing_is_to_be_said() -> None:
    standing = Standing("memory")
    assert (standing.suspended_because, standing.is_being_said, standing.overruled) == (None, False, False)
    assert not standing.is_said_suspended


def test_so_many_calls_in_a_row_that_met_nobody_suspend_and_not_one_fewer() -> None:
    standing = Standing("memory")
    for _ in range(FAULTS_TO_SUSPEND - 1):
        assert not standing.observe(SILENT, 0)
    assert standing.verdict is None
    assert not standing.observe(Outcome(OutcomeClass.NOT_SENT), 0), "what could not be sent met nobody either"
    assert standing.verdict == Verdict("unreachable")


@pytest.mark.parametrize(
    ("outcome", "speaks", "begins_anew"),
    [
        (Outcome(OutcomeClass.DELIVERED), True, True),
        (Outcome(OutcomeClass.DECLINED_TRANSIENT, code="BUSY"), True, True),
        # A code is somebody's.
        (Outcome(OutcomeClass.UNKNOWN, code="ODD"), True, True),
        (Outcome(OutcomeClass.TURNED_AWAY), False, False),
    ],
)
def test_a_provider_that_speaks_is_there(outcome: Outcome, *, speaks: bool, begins_anew: bool) -> None:
    standing = Standing("memory")
    for _ in range(FAULTS_TO_SUSPEND - 1):
        standing.observe(SILENT, 0)
    assert standing.observe(outcome, 0) is speaks
    standing.observe(SILENT, 0)
    assert (standing.verdict is None) is begins_anew
    for _ in range(FAULTS_TO_SUSPEND - 2):
        standing.observe(SILENT, 0)
    assert (standing.verdict is None) is begins_anew
    standing.observe(SILENT, 0)
    assert standing.verdict == Verdict("unreachable")


def test_faults_of_before_do_not_count_once_it_is_said_how_it_stands() -> None:
    standing = Standing("memory")
    for _ in range(FAULTS_TO_SUSPEND - 1):
        standing.observe(SILENT, 0)
    standing.is_being_said = True
    standing.hear(suspended(0))
    assert not standing.is_being_said
    standing.hear(later(5))
    for _ in range(FAULTS_TO_SUSPEND - 1):
        standing.observe(SILENT, 1)
    assert standing.verdict is None
    standing.observe(SILENT, 1)
    assert standing.verdict == Verdict("unreachable")


def test_each_time_that_it_is_up_anew_is_an_epoch_of_its_own() -> None:
    standing = Standing("memory")
    for number in range(3):
        standing.hear(suspended(number * 10))
        standing.hear(later(number * 10 + 5))
        assert standing.epoch == number + 1


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        (None, Verdict("suspended")),
        ("BAD_CREDENTIALS", Verdict("BAD_CREDENTIALS")),
        (REFUSED.code, Verdict("INSUFFICIENT_BALANCE", 1000)),
    ],
)
def test_a_refusal_is_of_the_bundle_only_where_the_balance_is_too_small(code: str | None, verdict: Verdict) -> None:
    standing = Standing("memory")
    assert not standing.observe(Outcome(OutcomeClass.SUSPENDED, code=code), 0, 1000)
    assert standing.verdict == verdict


def test_a_suspension_says_all_that_is_known() -> None:
    standing = Standing("memory")
    known = polled("memory", None, Balance(500, 20), BEGIN)
    assert known is not None
    standing.hear(known)
    now = BEGIN + timedelta(seconds=9)
    assert suspension(standing, Verdict("INSUFFICIENT_BALANCE", 1000), now, 5.0) == ProviderChanged(
        provider="memory",
        state=ProviderState.SUSPENDED,
        why="INSUFFICIENT_BALANCE",
        by=By.PROVIDER,
        since=now,
        next_probe_at=now + timedelta(seconds=5),
        needs_mb=1000,
        balance=ProviderBalance(available_mb=500, reserved_mb=20, at=BEGIN),
        at=now,
    )


def test_what_a_probe_and_a_look_at_the_balance_found_is_dated() -> None:
    now = BEGIN + timedelta(seconds=9)
    off = probed(suspended(0, needs_mb=1000), Balance(7, 3), now, 5.0)
    assert (off.at, off.by, off.balance) == (now, "provider", ProviderBalance(available_mb=7, reserved_mb=3, at=now))
    over = probed(suspended(0), Balance(7, 3), now, 5.0)
    assert over == ProviderChanged(
        provider="memory",
        state=ProviderState.UP,
        by=By.PROVIDER,
        since=now,
        balance=ProviderBalance(available_mb=7, reserved_mb=3, at=now),
        at=now,
    )
    again = polled("memory", over, Balance(6, 3), now + timedelta(seconds=1))
    assert again is not None
    assert again == over.model_copy(update={"at": again.at, "balance": again.balance})
    assert (again.at, again.balance) == (
        now + timedelta(seconds=1),
        ProviderBalance(available_mb=6, reserved_mb=3, at=again.at),
    )


def test_an_operator_s_word_says_whose_it_is_and_keeps_the_balance() -> None:
    known = polled("memory", None, Balance(500, 20), BEGIN)
    changed = operator(SuspendProvider, known, 9)
    assert known is not None
    assert changed == ProviderChanged(
        provider="memory",
        state=ProviderState.SUSPENDED,
        why="ticket",
        by=By.OPERATOR,
        actor="ama",
        command_id=COMMAND_ID,
        since=BEGIN + timedelta(seconds=9),
        balance=known.balance,
        at=BEGIN + timedelta(seconds=9),
    )
    once_more = operator(SuspendProvider, changed, 12)
    assert once_more == changed.model_copy(update={"at": BEGIN + timedelta(seconds=12)})
