"""Stories that together have every transition of docs/order-life.md in them, by the provider that they need."""

from collections.abc import Sequence
from typing import Final

from tests.gateway.order_life.orders import DUE, REST, TWICE
from tests.gateway.order_life.world import LATER, RESTART, TAKEOVER

Story = tuple[str, ...]

BEGUN: Final[Story] = ("OrderCreated", DUE)
BUSY, QUEUED, LOST = "reply: declined for now", "reply: accepted", "reply: unknown"
RETRY: Final = "RetryFulfillment, a slot"
TRIGGER: Final = "TriggerFulfillment, a slot"
WAITING: Final[Story] = (*BEGUN, BUSY)
LAST: Final[Story] = (*WAITING, RETRY, BUSY, TRIGGER)
"""The last attempt is under way."""
SETTLING: Final[Story] = (*LAST, BUSY)
ACCEPTED: Final[Story] = (*BEGUN, QUEUED)
UNKNOWN: Final[Story] = (*BEGUN, LOST)
STILL: Final = "query: queued"
EARLY: Final = "query: not found, too early"
THIS, EARLIER = "query: this attempt failed", "query: an earlier attempt failed"
ABSENT: Final = "query: not found, as proof"
FORGOTTEN: Final = "query: not found, as proof, references not idempotent"
DELIVERED: Final = "query: delivered"
SILENT: Final = "query: no answer for a day"
REVIEW: Final[Story] = (*UNKNOWN, STILL, STILL)
LAST_REVIEW: Final[Story] = (*LAST, LOST, STILL, STILL)
SETTLED_IN_DOUBT: Final[Story] = (*SETTLING, STILL)
SETTLED_REVIEW: Final[Story] = (*SETTLED_IN_DOUBT, STILL, STILL)
FAILED: Final[Story] = (*SETTLING, THIS)
RESOLVED: Final = "ResolveFulfillment delivered, not contradicted"
NO_DELIVERY: Final = "ResolveFulfillment delivered, proven undelivered"
NOT_DELIVERED: Final = "ResolveFulfillment not delivered, not contradicted"
OVERRIDE: Final = "OverrideFulfillment, proven undelivered, a slot"

ORDINARY: Final = "AT-iShare"
ORDINARY_STORIES: Final[tuple[Story, ...]] = (
    # What rests in each state, with all that is not allowed there.
    (*ACCEPTED, REST),
    (*UNKNOWN, REST),
    (*REVIEW, REST, TWICE),
    (*WAITING, REST, TWICE),
    (*SETTLING, REST),
    (*BEGUN, "reply: delivered", REST),
    (*BEGUN, "reply: declined for good", REST, TWICE),
    (*FAILED, REST, TWICE),
    # Attempts, and what is said of them.
    (*WAITING, DUE, "reply: delivered"),
    (*BEGUN, "reply: declined for good", RETRY, "reply: delivered"),
    (*BEGUN, "reply: declined for good", TRIGGER, "reply: delivered"),
    (*BEGUN, "reply: duplicate, on a first send"),
    (*ACCEPTED, DELIVERED),
    (*ACCEPTED, STILL, STILL),
    (*ACCEPTED, ABSENT, ABSENT),
    (*ACCEPTED, THIS),
    (*LAST, QUEUED, THIS),
    (*ACCEPTED, SILENT),
    (*UNKNOWN, DELIVERED),
    (*UNKNOWN, THIS),
    (*LAST, LOST, THIS),
    (*UNKNOWN, ABSENT),
    (*LAST, LOST, ABSENT),
    (*UNKNOWN, SILENT),
    (*SETTLED_IN_DOUBT, THIS),
    (*SETTLING, DELIVERED),
    (*SETTLING, ABSENT),
    (*SETTLING, EARLIER),
    (*SETTLING, SILENT),
    (*REVIEW, DELIVERED),
    (*REVIEW, STILL),
    (*REVIEW, THIS),
    (*LAST_REVIEW, THIS),
    (*SETTLED_REVIEW, THIS),
    # A person's word.
    (*REVIEW, RESOLVED),
    (*REVIEW, NO_DELIVERY),
    (*LAST_REVIEW, NO_DELIVERY),
    (*SETTLED_REVIEW, NO_DELIVERY),
    (*REVIEW, NOT_DELIVERED),
    (*LAST_REVIEW, NOT_DELIVERED),
    (*REVIEW, "ResolveFulfillment not delivered, still queued"),
    (*REVIEW, "ResolveFulfillment not delivered, delivered after all"),
    (*FAILED, OVERRIDE, "reply: delivered"),
    (*FAILED, "OverrideFulfillment, not proven"),
    (*FAILED, "OverrideFulfillment, delivered after all"),
)

SLOW: Final = "Telecel"
"""Not found is no proof for weeks; after the restart it soon is."""
SLOW_STORIES: Final[tuple[Story, ...]] = (
    (*ACCEPTED, EARLY, EARLY),
    (*WAITING, RETRY, QUEUED, EARLIER, EARLIER),
    (*UNKNOWN, EARLY, EARLY, EARLY),
    (*WAITING, RETRY, LOST, EARLIER, EARLIER, EARLIER),
    (*BEGUN, REST),
    # What the next owner finds in doubt.
    (*BEGUN, TAKEOVER, DELIVERED),
    (*BEGUN, TAKEOVER, STILL),
    (*BEGUN, TAKEOVER, "in doubt after a takeover, deadline passed"),
)

FORGETFUL: Final = "AT-BigTime"
"""Its provider does not keep references apart."""
FORGETFUL_STORIES_LATER: Final[tuple[Story, ...]] = (
    (*ACCEPTED, RESTART, FORGOTTEN, FORGOTTEN),
    (*UNKNOWN, RESTART, FORGOTTEN, FORGOTTEN),
    (*SETTLING, EARLY, RESTART, FORGOTTEN),
    (*SETTLING, EARLY, EARLY, EARLY, RESTART, FORGOTTEN),
    (*SETTLING, RESTART, FORGOTTEN),
)

SLOW_STORIES_LATER: Final[tuple[Story, ...]] = (
    (*SETTLING, EARLY, RESTART, ABSENT),
    (*UNKNOWN, EARLY, EARLY, RESTART, ABSENT),
    (*LAST, LOST, EARLY, EARLY, RESTART, ABSENT),
    (*SETTLING, EARLY, EARLY, EARLY, RESTART, ABSENT),
)
NOBODY_S: Final = "MTN"
"""Nobody serves it; after the restart somebody does whom nobody can ask."""
HELD: Final[Story] = ("OrderCreated, nobody serves the network",)
NOBODY_S_STORIES: Final[tuple[Story, ...]] = (
    (*HELD, "TriggerFulfillment, nobody serves the network", REST),
    (*HELD, "CancelFulfillment", REST),
)
HELD_STORY_LATER: Final[Story] = (*HELD, RESTART, TRIGGER, "reply: delivered")
BLIND_STORIES: Final[tuple[Story, ...]] = (
    (*BEGUN, f"{LOST}, no status query"),
    (*BEGUN, f"{BUSY}, no status query", RETRY, f"{BUSY}, no status query", RETRY, f"{BUSY}, no status query"),
    (*BEGUN, f"{BUSY}, no status query", RETRY, "reply: provider suspended"),
    (*BEGUN, "reply: provider suspended"),
)
"""One after the other, when it is served: the last two stop everybody's."""


def at_once(stories: Sequence[Story]) -> list[Story]:
    """Of those with a restart: so that all come to it at the same time, for whatever waits for it is asked about."""
    rounds = [sum(given.startswith("query:") for given in story[: story.index(RESTART)]) for story in stories]
    return [(LATER,) * (max(rounds) - before) + story for before, story in zip(rounds, stories, strict=True)]


SHUT: Final = SLOW
SHUT_STORIES: Final[tuple[Story, ...]] = ((*WAITING, RETRY, "reply: never left"), (*BEGUN, "reply: never left"))
"""One after the other, after the restart: the provider's door stays shut."""
AWAY, LONG_AWAY = "reply: turned away", "reply: turned away, an hour of it"
LIMITED: Final = FORGETFUL
LIMITED_STORY: Final[Story] = (
    *(*BEGUN, AWAY, DUE, LONG_AWAY),
    *(DUE, AWAY, DUE, LONG_AWAY),
    *(DUE, AWAY, DUE, LONG_AWAY),
)
"""After the restart, by itself: a provider that turns one away is left alone."""
