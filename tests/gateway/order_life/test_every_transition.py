"""Every transition of docs/order-life.md, over HTTP: orders live through all of them, and the log has them."""

import asyncio
from collections.abc import Coroutine, Iterator, Sequence
from typing import cast

import asyncpg
import pytest

from schemas.fulfillment import CommandRejected, FulfillmentEvent, FulfillmentResolved, read_event
from schemas.topics import FULFILLMENT_COMMANDS, FULFILLMENT_DEAD_LETTER, FULFILLMENT_EVENTS
from services.at_ishare_contract import NAME
from services.fulfiller.evolution import evolve
from services.fulfiller.order import Order as Folded
from services.fulfiller.order import State
from tests.conftest import new_prefix, remove_topics
from tests.evidence import Logged, read_topics
from tests.fulfiller.test_order_life import Transition, rejections, said_by_the_code, said_by_the_page
from tests.gateway.conftest import View
from tests.gateway.order_life import stories
from tests.gateway.order_life.orders import ALLOWED, CONFLICT, KINDS, REASON, REST, TWICE, Order
from tests.gateway.order_life.stories import Story
from tests.gateway.order_life.world import LATER, RESTART, TAKEOVER, World, world
from tests.waiting import until

WEEKS_S = 1e6
AT_FIRST = {
    NAME: {},
    "slow": {"not_found_final_s": WEEKS_S},
    "forgetful": {"idempotent_references": False, "not_found_final_s": WEEKS_S},
}
THEN = {
    NAME: {},
    "slow": {},
    "forgetful": {"idempotent_references": False},
    "blind": {"status_query": False},
    "shut": {},
    "limited": {},
}


def expected() -> set[Transition]:
    """What the core says; of what is refused at once, and of orders that nobody knows, by the kind of command alone."""
    code = said_by_the_code()
    refused = rejections(code) - said_by_the_page()
    unknown = {row for row in code if row.events == ("dead letter: unknown_order",)}
    by_kind = {row._replace(given=row.given.split(maxsplit=1)[0].rstrip(",")) for row in refused | unknown}
    return (code - refused - unknown) | by_kind


def steps(events: Sequence[FulfillmentEvent]) -> Iterator[tuple[str, tuple[str, ...], str]]:
    """State, events that were written together, and the state that followed."""
    order: Folded | None = None
    at = 0
    while at < len(events):
        before = str(order.state) if order else "no order"
        many = 2 if is_pair(events[at : at + 2]) else 1
        for event in events[at : at + many]:
            order = evolve(order, event)
        assert order is not None
        yield before, tuple(type(event).__name__ for event in events[at : at + many]), str(order.state)
        at += many


def is_pair(events: Sequence[FulfillmentEvent]) -> bool:
    if len(events) < 2 or events[0].at != events[1].at:
        return False
    return isinstance(events[0], FulfillmentResolved | CommandRejected) and not isinstance(events[1], CommandRejected)


def seen(orders: Sequence[Order], topics: dict[str, list[Logged]]) -> Iterator[Transition]:
    events: dict[str, list[FulfillmentEvent]] = {}
    for record in topics[FULFILLMENT_EVENTS]:
        event = read_event(record.value or b"")
        events.setdefault(event.order_id, []).append(event)
    for order in orders:
        lived = list(steps(events[order.order_id]))
        assert len(lived) >= len(order.given), (order.order_id, order.given, lived)
        for given, (before, names, then) in zip(order.given, lived, strict=False):
            yield Transition(before, given, names, then)
        for state in order.conflicts:
            yield Transition(state, CONFLICT, ("dead letter: conflict",), state)


def told_apart(rows: set[Transition]) -> str:
    return "\n".join(" | ".join((state, given, "+".join(events), then)) for state, given, events, then in sorted(rows))


async def line(made: World, network: str, told: Sequence[Story], orders: list[Order], *, after: bool = False) -> None:
    """Stories, one after the other."""
    async with made.barrier.story():
        if after:
            await made.barrier.wait(RESTART)
        for story in told:
            order = Order(made, network)
            orders.append(order)
            await order.live(story)


async def tell(made: World, lines: Sequence[Coroutine[None, None, None]]) -> None:
    async with asyncio.TaskGroup() as group:
        for one in lines:
            group.create_task(one)
        group.create_task(time_passes(made))


async def in_the_hand(made: World, orders: list[Order]) -> None:
    """Orders that nobody has begun: an operator has suspended their provider."""

    async def provider(act: str) -> None:
        answer = await made.client.request(
            "POST", f"/api/admin/providers/{NAME}/{act}", json={"reason": REASON},
            headers={**made.operators[0], "Prefer": "wait=20"},
        )  # fmt: skip
        assert answer.status == 200, answer.content

    await provider("suspend")
    for story in (("OrderCreated", REST, TWICE), ("OrderCreated", "CancelFulfillment", REST)):
        order = Order(made, stories.ORDINARY)
        orders.append(order)
        await order.live(story)
    await provider("resume")


async def of_nobody(made: World) -> set[Transition]:
    """Commands for orders that the view has and the fulfiller has not: of a log that was lost, say."""
    rows = {
        "RetryFulfillment": ("waiting", "failed", 1),
        "TriggerFulfillment": ("waiting", "failed", 1),
        "ResolveFulfillment": ("review", "processing", 1),
        "OverrideFulfillment": ("failed", "failed", 3),
        "CancelFulfillment": ("created", "pending", 0),
    }
    for kind in KINDS:
        order = Order(made, stories.ORDINARY)
        state, status, attempts = rows[kind]
        async with made.database.acquire() as connection:
            order.order_id = await View(cast("asyncpg.Connection", connection)).add(
                state=state, status=status, attempt_number=attempts
            )
        assert (await order.act(kind)).status == 202

        async def set_aside(order_id: str = order.order_id) -> bool:
            params = {"error": "unknown_order", "orderId": order_id}
            path = "/api/admin/dead-letters"
            answer = await made.request("GET", path, made.operators[0], params=params)
            return len(answer.json["letters"]) == 1

        await until(set_aside, f"a dead letter for {kind}")
    return {Transition("no order", kind, ("dead letter: unknown_order",), "no order") for kind in KINDS}


async def time_passes(made: World) -> None:
    """Until every story is told."""
    networks = {stories.SHUT: "shut", stories.LIMITED: "limited", stories.NOBODY_S: "blind", stories.ORDINARY: NAME}
    while what := await made.barrier.all_wait():
        if what == LATER:
            made.later()
        elif what == TAKEOVER:
            await made.take_over()
            await Order(made, stories.ORDINARY).buy()  # writing it, the last owner learns that it is none
        else:
            await made.stop()
            await made.start(networks, THEN)
        await made.barrier.done(what)


def unanswered(topics: dict[str, list[Logged]]) -> set[str]:
    """Commands about orders that Kafka has and nothing followed from."""
    headers = [dict(record.headers) for record in topics[FULFILLMENT_COMMANDS]]
    sent = {said["ce_id"] for said in headers if not (said["ce_type"] or b"").endswith(b"Provider")}
    events = [read_event(record.value or b"") for record in topics[FULFILLMENT_EVENTS]]
    answered = {event.command.command_id.encode() for event in events if event.command}
    set_aside = {dict(record.headers).get("ce_id") for record in topics[FULFILLMENT_DEAD_LETTER]}
    return {(one or b"").decode() for one in sent - answered - set_aside}


@pytest.mark.timeout(240)
async def test_every_transition_is_reached_over_http(kafka: str, database_url: str) -> None:
    orders: list[Order] = []
    async with world(kafka, database_url, new_prefix()) as made:
        await made.start({stories.ORDINARY: NAME, stories.SLOW: "slow", stories.FORGETFUL: "forgetful"}, AT_FIRST)
        await in_the_hand(made, orders)
        await tell(
            made,
            [line(made, stories.ORDINARY, [story], orders) for story in stories.ORDINARY_STORIES]
            + [line(made, stories.SLOW, [story], orders) for story in stories.SLOW_STORIES]
            + [line(made, stories.NOBODY_S, [story], orders) for story in stories.NOBODY_S_STORIES],
        )
        slow, forgetful = stories.SLOW_STORIES_LATER, stories.FORGETFUL_STORIES_LATER
        at_once = stories.at_once([*slow, *forgetful])
        await tell(
            made,
            [line(made, stories.SLOW, [story], orders) for story in at_once[: len(slow)]]
            + [line(made, stories.FORGETFUL, [story], orders) for story in at_once[len(slow) :]]
            + [line(made, stories.NOBODY_S, [stories.HELD_STORY_LATER], orders)]
            + [line(made, stories.NOBODY_S, stories.BLIND_STORIES, orders, after=True)]
            + [line(made, stories.SHUT, stories.SHUT_STORIES, orders, after=True)]
            + [line(made, stories.LIMITED, [stories.LIMITED_STORY], orders, after=True)],
        )
        found = await of_nobody(made)
        topics = await read_topics(made.settings)
    await remove_topics(made.settings)
    found |= set(seen(orders, topics))
    assert told_apart(found - expected()) == "", "an order lived it, and the core does not say it"
    assert told_apart(expected() - found) == "", "the core says it, and no order lived it"
    assert unanswered(topics) == set()
    assert {state for state, _ in ALLOWED} <= set(State)
