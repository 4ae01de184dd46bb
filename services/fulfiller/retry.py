"""When the next act is due. Pure: the rules are values and the time is passed in."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from schemas.fulfillment import Act
from services.fulfiller.providers.port import Profile

REVIEW_INTERVAL: Final = timedelta(days=1)
"""How often the provider is asked about an order that waits for a person."""
UNANSWERED_LIMIT: Final = timedelta(days=1)
"""A question that went unanswered for so long goes to a person."""
TURNED_AWAY_LIMIT: Final = timedelta(hours=1)
"""Attempts that never left, or were turned away, for so long count as a failed one."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What the settings and the providers' profiles say."""

    retry_delays_s: tuple[float, ...]
    max_attempts: int
    verify_delays_s: tuple[float, ...]
    providers: Mapping[str, Profile]

    def provider_of(self, network: str) -> Profile | None:
        return next((profile for profile in self.providers.values() if network in profile.networks), None)


def after_failure(rules: Rules, attempt: int) -> tuple[Act, timedelta]:
    """What follows the failed attempt n, and after how long: another, or the settlement check after the last."""
    delays_s = rules.retry_delays_s
    delay = timedelta(seconds=delays_s[min(attempt, len(delays_s)) - 1])
    return (Act.ATTEMPT if attempt < rules.max_attempts else Act.SETTLE), delay


def after_check(rules: Rules, steps_done: int) -> timedelta | None:
    """How long until the next question; None: the ladder is used up."""
    delays_s = rules.verify_delays_s
    return timedelta(seconds=delays_s[steps_done]) if steps_done < len(delays_s) else None


def unanswered_too_long(due: datetime | None, now: datetime) -> bool:
    return due is not None and now - due >= UNANSWERED_LIMIT


def turned_away_too_long(since: datetime | None, now: datetime) -> bool:
    return since is not None and now - since >= TURNED_AWAY_LIMIT
