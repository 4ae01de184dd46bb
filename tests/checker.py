"""What must hold, I1 to I10, judged from evidence alone. Pure; `tests/evidence.py` gathers what is judged here.

I1   every order that a client was told is accepted is in the log
I2   every order reaches one end: success, final failure, cancelled, a person's review; held and rejected ones stay so
I3   at most one delivery per order, over all its references; delivered means success, and success delivered
I4   an order's events are numbered without gap or repetition, in a legal order, at home; the state kept is their fold
I5   the rows are the fold of the events, field by field
I6   no scheduled attempt before its time; no more attempts than allowed
I7   the same Idempotency-Key and body give the same order and answer
I8   poison is in the dead letters once, as it was
I9   what became of a send is proven before another one; never two at once; none without its intent
I10  no log holds a secret or a whole phone number
"""

import re
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise, zip_longest
from typing import Any, Final

import orjson

from schemas import ids
from schemas.fulfillment import (
    AttemptVoided,
    CommandRejected,
    FulfillmentAccepted,
    FulfillmentAttempted,
    FulfillmentCancelled,
    FulfillmentEvent,
    FulfillmentFailed,
    FulfillmentRequested,
    FulfillmentResolved,
    FulfillmentSucceeded,
    FulfillmentUncertain,
    ReviewRequested,
    Source,
    StatusChecked,
    Trigger,
    VoidReason,
)
from schemas.poison import REASON_HEADER
from schemas.topics import (
    FULFILLMENT_COMMANDS,
    FULFILLMENT_DEAD_LETTER,
    FULFILLMENT_EVENTS,
    FULFILLMENT_STATE,
    ORDERS_EVENTS,
)
from services.fulfiller.order import ENDS, Order, State, load_order
from services.fulfiller.positions import RESERVED_KEYS
from services.partition import home_partition
from services.projector import projection
from services.projector.batch import sort
from tests.case import Case, Finding, Story
from tests.evidence import Evidence, Headers, Known, Logged, Poison


def assert_sound(evidence: Evidence) -> None:
    """AssertionError that names every breach."""
    found = findings(evidence)
    assert not found, "\n".join([f"{len(found)} breaches:", *map(str, found)])


def findings(evidence: Evidence) -> list[Finding]:
    """Every breach; none: all of I1 to I10 hold of this evidence."""
    case = Case(evidence)
    found = list(case.found)
    for check in (_i1, _i2, _i3, _i4, _i5, _i6, _i7, _i8, _i9, _i10):
        invariant = check.__name__[1:].upper()
        found += [Finding(invariant, what) for what in check(case)]
    return found


# --- the invariants ---------------------------------------------------------------------------------------------------


def _i1(case: Case) -> Iterator[str]:
    for order_id, bundle in case.evidence.clients.accepted:
        written = case.created.get(order_id)
        if not written:
            yield f"order {order_id} was accepted and is not in {ORDERS_EVENTS}"
        elif all(created.bundle != bundle for _, created in written):
            yield f"order {order_id} was accepted as {bundle}, and is not so in {ORDERS_EVENTS}"


_AT_REST: Final = ENDS | {State.REVIEW, State.HELD}


def _i2(case: Case) -> Iterator[str]:
    for order_id in case.created.keys() | {accepted.order_id for accepted in case.evidence.clients.accepted}:
        if order_id not in case.stories and not case.rejected(order_id):
            yield f"order {order_id} was never taken up"
    for story in case.stories.values():
        order = story.order
        if order is None or story.broken:
            continue
        if order.state not in _AT_REST:
            yield f"order {order.order_id} is {order.state}, with {order.next_act} due at {order.next_at}"
        ends = sum(isinstance(event, FulfillmentSucceeded | FulfillmentCancelled) for _, event in story.steps)
        if ends > 1:
            yield f"order {order.order_id} ended {ends} times"


def _i3(case: Case) -> Iterator[str]:
    for order_id, references in case.references.items():
        story = case.stories.get(order_id)
        if story is None or story.order is None:
            yield f"order {order_id} is in the provider's ledger, and not in {FULFILLMENT_EVENTS}"
            continue
        yield from _delivered_once(story.order, references)
    for order_id, story in case.stories.items():
        deliveries = sum(known.deliveries for known in case.references.get(order_id, {}).values())
        if story.order and story.order.state is State.DELIVERED and not deliveries and not _resolved_by_hand(story):
            yield f"order {order_id} is a success and was not delivered"


def _delivered_once(order: Order, references: Mapping[str, Known]) -> Iterator[str]:
    deliveries = {reference: known.deliveries for reference, known in references.items() if known.deliveries}
    if sum(deliveries.values()) > 1:
        yield f"order {order.order_id} was delivered more than once: {deliveries}"
    # Of an order that is still open, I2 speaks.
    if deliveries and order.state in _AT_REST - {State.DELIVERED, State.REVIEW}:
        yield f"order {order.order_id} was delivered and is {order.state}"
    for reference, known in references.items():
        if known.bundle != order.bundle:
            yield f"order {order.order_id} is {order.bundle}, the provider was asked for {known.bundle} ({reference})"


def _resolved_by_hand(story: Story) -> bool:
    return any(
        isinstance(event, FulfillmentSucceeded) and event.source is Source.RESOLUTION for _, event in story.steps
    )


_CLOSED: Final = (CommandRejected,)
_LEGAL: Final[Mapping[State | None, tuple[type[FulfillmentEvent], ...]]] = {
    None: (FulfillmentRequested,),
    State.CREATED: (FulfillmentAttempted, FulfillmentCancelled, CommandRejected),
    State.HELD: (FulfillmentAttempted, FulfillmentCancelled, CommandRejected),
    State.ATTEMPTING: (
        *(FulfillmentSucceeded, FulfillmentAccepted, FulfillmentFailed, AttemptVoided, FulfillmentUncertain),
        *(ReviewRequested, CommandRejected),
    ),
    State.ACCEPTED: (FulfillmentSucceeded, FulfillmentFailed, StatusChecked, ReviewRequested, CommandRejected),
    State.UNKNOWN: (FulfillmentSucceeded, FulfillmentFailed, StatusChecked, ReviewRequested, CommandRejected),
    State.REVIEW: (FulfillmentSucceeded, FulfillmentFailed, StatusChecked, FulfillmentResolved, CommandRejected),
    State.WAITING: (FulfillmentAttempted, CommandRejected),
    State.SETTLING: (FulfillmentSucceeded, FulfillmentFailed, FulfillmentUncertain, ReviewRequested, CommandRejected),
    State.DELIVERED: _CLOSED,
    State.CANCELLED: _CLOSED,
    # A person's retry or override; or an override's question that found it delivered after all.
    State.FAILED: (FulfillmentAttempted, FulfillmentSucceeded, CommandRejected),
}
_IN_DOUBT: Final = frozenset({State.ATTEMPTING, State.ACCEPTED, State.UNKNOWN, State.REVIEW, State.SETTLING})


def _i4(case: Case) -> Iterator[str]:
    for order_id, story in case.stories.items():
        home = home_partition(order_id, case.evidence.partitions)
        for record in story.records:
            if record.partition != home:
                yield f"order {order_id}: {record.place} is not in its home partition {home}"
        for before, event in story.steps:
            state = before.state if before else None
            if not isinstance(event, _LEGAL[state]) and not (isinstance(event, FulfillmentAttempted)):
                yield f"order {order_id}: {event.type} ({event.sequence}) when it was {state}"
            if before and (event.phone_number, event.size_mb, event.network) != before.bundle:
                yield f"order {order_id}: {event.type} ({event.sequence}) speaks of another bundle"
        for record, (_, event) in zip(story.records, story.steps, strict=False):
            said = dict(record.headers)
            if said.get("ce_id") != ids.event_id(order_id, event.sequence).encode():
                yield f"order {order_id}: {record.place} has not the id that its sequence {event.sequence} gives"
        yield from _caused(case, story)
    yield from _kept_states(case)


def _caused(case: Case, story: Story) -> Iterator[str]:
    """Its first event answers its OrderCreated, at home."""
    if not story.steps:
        return
    cause = story.steps[0][1].cause
    places = {(record.partition, record.offset) for record, _ in case.created.get(story.order_id, ())}
    if cause is None or cause.topic != ORDERS_EVENTS or (cause.partition, cause.offset) not in places:
        yield f"order {story.order_id}: its first event does not name its OrderCreated"


def _kept_states(case: Case) -> Iterator[str]:
    kept: dict[bytes, Logged] = {
        record.key: record
        for record in case.evidence.of(FULFILLMENT_STATE)
        if record.key is not None and record.key not in RESERVED_KEYS
    }
    for key, record in kept.items():
        story = case.stories.get(key.decode())
        if story is None or story.order is None:
            if record.value is not None:
                yield f"order {key.decode()} is in {FULFILLMENT_STATE} and has no event"
        elif record.value is not None and not story.broken:
            state = replace(load_order(record.value), pending=None, pending_cause=None)
            if state != story.order:
                yield f"order {story.order_id}: {FULFILLMENT_STATE} is not the fold: {_difference(state, story.order)}"
    for story in case.stories.values():
        if story.order_id.encode() not in kept:
            yield f"order {story.order_id} has events and is not in {FULFILLMENT_STATE}"


def _difference(one: Order, other: Order) -> str:
    names = [name for name in Order.__slots__ if getattr(one, name) != getattr(other, name)]
    return ", ".join(f"{name} {getattr(one, name)!s}, not {getattr(other, name)!s}" for name in names)


def _i5(case: Case) -> Iterator[str]:
    evidence = case.evidence
    events: Any = evidence.of(FULFILLMENT_EVENTS)  # frozen, where the projector's records need not be
    folded = projection.fold({}, sort(events, prefix="").events)
    for place in evidence.quarantined:
        yield f"{place} is in quarantine"
    for order_id, expected in folded.rows.items():
        row = evidence.rows.get(order_id)
        if row is None:
            yield f"order {order_id} has events and no row"
            continue
        for name, seen, right in zip(projection.Row._fields, row, expected, strict=True):
            if seen != right and not (name == "api_response" and _json(seen) == _json(right)):
                yield f"order {order_id}: {name} is {seen!r} in its row, {right!r} in the fold"
    for order_id, row in evidence.rows.items():
        if order_id not in folded.rows:
            yield from _unanswered(case, order_id, row)
        seen_order = evidence.orders.get(order_id)
        if seen_order != (row.network, row.size_mb, row.phone_number, row.status):
            yield f"order {order_id}: its row in orders is {seen_order}, not as in fulfillment_logs"
    for order_id in case.created.keys() - evidence.rows.keys():
        yield f"order {order_id} is in {ORDERS_EVENTS} and has no row"


def _unanswered(case: Case, order_id: str, row: projection.Row) -> Iterator[str]:
    expected = projection.State.REJECTED if case.rejected(order_id) else projection.State.RECEIVED
    if order_id not in case.created:
        yield f"order {order_id} has a row and is not in the log"
    elif (row.sequence, row.state) != (0, expected):
        yield f"order {order_id} has no event; its row is {row.state} ({row.sequence}), not {expected}"


def _json(text: object) -> object:
    return orjson.loads(text) if isinstance(text, str) else text


def _i6(case: Case) -> Iterator[str]:
    for order_id, story in case.stories.items():
        allowed = case.evidence.max_attempts
        for before, event in story.steps:
            if not isinstance(event, FulfillmentAttempted) or before is None:
                continue
            named = f"order {order_id}: attempt {event.attempt} ({event.sequence})"
            if event.trigger in {Trigger.FIRST, Trigger.RETRY}:
                if before.next_at is None:
                    yield f"{named} was planned by no event"
                elif event.at < before.next_at:
                    yield f"{named} came {before.next_at - event.at} before it was due"
            elif event.command is None:
                yield f"{named} is {event.trigger}, and nobody asked for it"
            if event.trigger is Trigger.OVERRIDE:
                # Of a person, who may allow one more; where it is voided, it is made again by itself.
                allowed = max(allowed, event.attempt)
                continue
            if event.attempt > allowed:
                yield f"{named} is more than the {allowed} allowed"
            if event.attempt != before.attempts + 1:
                yield f"{named} follows attempt {before.attempts}"
            if event.reference != before.reference:
                yield f"{named} has another reference, {event.reference}"


def _i7(case: Case) -> Iterator[str]:
    given: dict[tuple[str, bytes], Mapping[str, Any]] = {}
    for answer in case.evidence.clients.answers:
        if answer.key is None or not 200 <= answer.status < 300:
            continue
        asked = (answer.key, orjson.dumps(answer.body, option=orjson.OPT_SORT_KEYS))
        order = {name: value for name, value in answer.order.items() if name != "created_at"}
        first = given.setdefault(asked, order)
        if first != order:
            yield f"Idempotency-Key {answer.key} was answered with {first}, and then with {order}"


def _i8(case: Case) -> Iterator[str]:
    letters = Counter(
        Poison(letter.key, letter.value, _original(letter)) for letter in case.evidence.of(FULFILLMENT_DEAD_LETTER)
    )
    for poison, times in Counter(case.evidence.clients.poison).items():
        if letters[poison] != times:
            yield f"poison {_short(poison.value)} was written {times} times, is a dead letter {letters[poison]} times"
    inputs = {
        (record.topic, record.partition, record.offset): record
        for topic in (ORDERS_EVENTS, FULFILLMENT_COMMANDS)
        for record in case.evidence.of(topic)
    }
    for source, found in case.letters.items():
        original = inputs.get(source)
        if len(found) > 1:
            yield f"{source} is a dead letter {len(found)} times"
        if not dict(found[0].headers).get(REASON_HEADER):
            yield f"{found[0].place} has no reason"
        if original is None:
            if source[0] in {ORDERS_EVENTS, FULFILLMENT_COMMANDS} or source[1] < 0:
                yield f"{found[0].place} comes from {source}, where nothing is"
        elif (original.key, original.value, original.headers) != (found[0].key, found[0].value, _original(found[0])):
            yield f"{found[0].place} is not {original.place} as it was"
    for record in case.unreadable:
        if (record.topic, record.partition, record.offset) not in case.letters:
            yield f"{record.place} cannot be read and is no dead letter"


def _original(letter: Logged) -> Headers:
    """The headers as they were: the reason is written behind them."""
    names = [name for name, _ in letter.headers]
    behind = len(names) - 1 - names[::-1].index(REASON_HEADER) if REASON_HEADER in names else len(names)
    return letter.headers[:behind]


def _short(value: bytes | None) -> str:
    return "without a value" if value is None else repr(value[:60])


def _i9(case: Case) -> Iterator[str]:
    for order_id, story in case.stories.items():
        attempts: defaultdict[str, list[FulfillmentAttempted]] = defaultdict(list)
        unsent = {
            attempt.sequence
            for (_, attempt), (_, event) in pairwise(story.steps)
            if isinstance(event, AttemptVoided) and event.void_reason is VoidReason.NOT_SENT
        }
        for before, event in story.steps:
            state = before.state if before else None
            if isinstance(event, FulfillmentAttempted):
                attempts[event.reference].append(event)
                if FulfillmentAttempted not in _LEGAL[state]:
                    yield f"order {order_id}: attempted again ({event.sequence}) when it was {state}"
            if isinstance(event, FulfillmentFailed) and event.source is Source.REPLY and state is not State.ATTEMPTING:
                yield f"order {order_id}: failed ({event.sequence}) by a reply when it was {state}"
            if isinstance(event, FulfillmentFailed) and event.source is not Source.REPLY and state not in _IN_DOUBT:
                yield f"order {order_id}: failed ({event.sequence}) by {event.source} when it was {state}"
        for reference, known in case.references.get(order_id, {}).items():
            yield from _sent_once_an_attempt(
                reference, known, attempts.get(reference, []), unsent, case.evidence.late_s
            )


def _sent_once_an_attempt(
    reference: str, known: Known, attempts: Sequence[FulfillmentAttempted], unsent: Container[int], allowed_s: float
) -> Iterator[str]:
    """A send belongs to the last intent before it. An intent follows only what settled the one before."""
    if known.max_in_flight > 1:
        yield f"reference {reference}: {known.max_in_flight} calls were in flight at once"
    belongs: list[int] = []
    for sent_at, lag_s in sorted(zip_longest(known.sent_at, known.lag_s, fillvalue=0.0)):
        sent = datetime.fromtimestamp(sent_at, UTC)
        before = [n for n, attempt in enumerate(attempts) if attempt.at <= sent]
        if not before:
            yield f"reference {reference} was sent at {sent}, before any intent"
            continue
        belongs.append(before[-1])
        attempt = attempts[before[-1]]
        if attempt.sequence in unsent:
            yield f"reference {reference} was sent, and its attempt ({attempt.sequence}) was voided as not sent"
        late_s = (sent - attempt.deadline).total_seconds()
        if late_s > allowed_s + lag_s:
            yield f"reference {reference} was sent {late_s:.3f} s after the deadline of attempt {before[-1] + 1}"
    for one, other in pairwise(belongs):
        if one == other:
            yield f"reference {reference} was sent twice for one intent ({attempts[one].sequence})"


_DIGITS: Final = re.compile(r"\d{9,}")
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""Ids by the ten thousand have nine digits in a row that are somebody's number."""


def _i10(case: Case) -> Iterator[str]:
    phones = {created.phone_number[-9:] for written in case.created.values() for _, created in written}
    phones |= {accepted.bundle[0][-9:] for accepted in case.evidence.clients.accepted}
    for name, text in case.evidence.logs.items():
        for number, secret in enumerate(case.evidence.secrets, 1):
            if secret in text:
                yield f"the log of {name} holds secret {number}"
        whole = {phone for run in _DIGITS.findall(_UUID.sub("", text)) for phone in _nines(run) if phone in phones}
        if whole:
            yield f"the log of {name} holds {len(whole)} whole phone numbers"


def _nines(run: str) -> Iterable[str]:
    return (run[at : at + 9] for at in range(len(run) - 8))
