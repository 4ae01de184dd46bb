"""A morning at the desk, the same each time: orders in every state, dead letters, an alert."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from schemas.alerts import Alert
from schemas.poison import PoisonKind
from schemas.topics import FULFILLMENT_ALERTS, FULFILLMENT_COMMANDS
from services.at_ishare_contract import NAME
from tests.gateway.alerts.test_alerts import said, write
from tests.gateway.conftest import Stand
from tests.gateway.dead_letters.conftest import Desk
from tests.gateway.providers.conftest import Fulfiller
from tests.gateway.reads.conftest import Hand
from tests.projector.events import NOON, Story
from tests.waiting import until

SINCE: Final = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
"""The charts are of the last day: the morning is today's."""
NOW: Final = SINCE + timedelta(minutes=4)
"""What the pictures' clocks show."""
FOUND_OUT: Final = str(uuid.uuid5(uuid.NAMESPACE_URL, "found out"))
"""The order whose story is shown."""
_NETWORKS: Final = ("AT-iShare", "AT-iShare", "MTN", "AT-BigTime", "Telecel")
_SIZES_MB: Final = (1000, 500, 2000, 5000, 10_000, 250)


def stories() -> list[Story]:
    """The oldest first."""

    def story(n: int) -> Story:
        return Story(str(uuid.uuid5(uuid.NAMESPACE_URL, f"scene {n}")))

    told = [story(n).requested().attempted().succeeded(transaction_id=f"AT{90_211 + n}") for n in range(9)]
    told += [
        story(20).requested().attempted().failed(),
        story(21).requested().attempted().uncertain().checked().reviewed(),
        story(22)
        .requested()
        .attempted()
        .failed()
        .attempted()
        .failed(None, error_code="BARRED", error_message="Barred"),
        story(23).requested().attempted().uncertain(),
        story(24).requested(provider=None),
        story(25).requested().attempted().uncertain().checked().reviewed(),
        story(26).requested().attempted().accepted(),
        Story(FOUND_OUT)
        .requested()
        .attempted()
        .failed(error_code="TIMEOUT", error_message="The provider was slow")
        .attempted()
        .uncertain()
        .checked()
        .succeeded(transaction_id="AT90388"),
        story(28).requested().cancelled(),
        story(29).requested().attempted(),
        story(30).requested(),
    ]
    return told


async def set_up(hand: Hand, stand: Stand) -> None:
    for n, story in enumerate(stories()):
        made = SINCE - timedelta(seconds=97 * (20 - n))
        story.events = [_moved(event, made, made + timedelta(seconds=2 * k)) for k, event in enumerate(story.events)]
        await hand.tell(
            story,
            order_created_at=made,
            **({} if story.events[0].next is None else {"provider": NAME}),
            network=_NETWORKS[n % len(_NETWORKS)],
            size_mb=_SIZES_MB[n % len(_SIZES_MB)],
            phone_number=f"+23324{4_100_000 + 7919 * n}",
        )
    behind_s = (SINCE - NOON).total_seconds()
    desk = Desk(hand.connection, stand.settings)
    await desk.place()
    for n in range(3):
        await desk.letter(
            b'{"phone_number": "12', PoisonKind.NOT_JSON, message=f"the value is not JSON: line 1 column {20 + n}"
        )
    await desk.letter(b'{"size_mb": -1}', PoisonKind.SCHEMA, message="size_mb: greater than or equal to 1")
    await hand.connection.execute("TRUNCATE providers, provider_balances")
    fulfiller = Fulfiller(hand.connection, stand.settings)
    await fulfiller.place()
    await desk.letter(b"{}", PoisonKind.UNKNOWN_ORDER, topic=FULFILLMENT_COMMANDS, message="no such order")
    # The helpers' own time is another day's noon.
    await hand.connection.execute("UPDATE dead_letters SET at = at + $1", SINCE - NOON)
    for n in range(60):
        await fulfiller.says(behind_s + 600 * (n - 60), 400_000 - 5_100 * n - 37 * n * (n % 5))


def _moved(event: Any, made: datetime, at: datetime) -> Any:
    """To this morning. What is next at once stays so, what is soon is after the pictures were taken."""
    then: dict[str, Any] = {"at": at}
    if hasattr(event, "deadline"):
        then["deadline"] = at + (event.deadline - event.at)
    plan = getattr(event, "next", None)
    if plan is not None:
        delay = plan.at - event.at
        due = at if delay <= timedelta() else made + timedelta(minutes=45) if delay < timedelta(hours=1) else at + delay
        then["next"] = plan.model_copy(update={"at": due})
    return event.model_copy(update=then)


@asynccontextmanager
async def alerted(stand: Stand, **other: str) -> AsyncIterator[None]:
    """While it lasts, said as usual or otherwise; then it is not even shown as over."""
    raised = {
        "name": "reviews",
        "subject": "AT-iShare",
        "since": SINCE,
        "severity": "warning",
        "figure": 2,
        "bound": 1,
        "unit": "orders",
        "advice": "ask the provider about each, then resolve it",
        "link": "docs/alerts.md#reviews",
    } | other
    following = stand.gateway.alerts.following

    def stands() -> bool:
        """The gateway may have raised one of its own meanwhile."""
        return any(alert.name == raised["name"] for alert in following.firing())

    for kind, at, standing in (("AlertRaised", SINCE, True), ("AlertCleared", SINCE - timedelta(days=2), False)):
        await write(
            stand.settings,
            FULFILLMENT_ALERTS,
            [said(Alert.model_validate({"type": kind, "id": str(uuid.uuid4()), **raised, "at": at}))],
        )
        await until(lambda standing=standing: stands() == standing, kind)
        if standing:
            yield
