"""Evidence, read once: each order's events with the order as it was before, inputs, dead letters, references."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

from pydantic import ValidationError

from schemas.cloudevents import decode_command, decode_order
from schemas.fulfillment import (
    FulfillmentEvent,
    read_event,
)
from schemas.orders import OrderCreated
from schemas.poison import OFFSET_HEADER, PARTITION_HEADER, TOPIC_HEADER, PoisonError
from schemas.topics import (
    FULFILLMENT_COMMANDS,
    FULFILLMENT_DEAD_LETTER,
    FULFILLMENT_EVENTS,
    ORDERS_EVENTS,
)
from services.fulfiller.evolution import evolve
from services.fulfiller.order import Order
from tests.evidence import Evidence, Known, Logged


class Finding(NamedTuple):
    invariant: str
    what: str

    def __str__(self) -> str:
        return f"{self.invariant} {self.what}"


@dataclass
class Story:
    """An order's events, each with the order as it was before."""

    order_id: str
    records: list[Logged] = field(default_factory=list)
    steps: list[tuple[Order | None, FulfillmentEvent]] = field(default_factory=list)
    order: Order | None = None
    broken: bool = False
    """An event does not follow: what comes behind it is not judged."""


class Case:
    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.found: list[Finding] = []
        self.stories: dict[str, Story] = {}
        self.created: defaultdict[str, list[tuple[Logged, OrderCreated]]] = defaultdict(list)
        self.unreadable: list[Logged] = []
        """Of the inputs."""
        self.letters: defaultdict[tuple[str, int, int], list[Logged]] = defaultdict(list)
        """Dead letters by where they were found."""
        self.references: defaultdict[str, dict[str, Known]] = defaultdict(dict)
        """By order."""
        self._read_events()
        self._read_inputs()
        for letter in evidence.of(FULFILLMENT_DEAD_LETTER):
            self.letters[_found_at(letter)].append(letter)
        for reference, known in evidence.ledger.items():
            self.references[reference[:36]][reference] = known

    def _read_events(self) -> None:
        for record in self.evidence.of(FULFILLMENT_EVENTS):
            try:
                event = read_event(record.value or b"")
            except ValidationError as error:
                self.found.append(Finding("I4", f"{record.place} cannot be read: {error.error_count()} faults"))
                continue
            story = self.stories.setdefault(event.order_id, Story(event.order_id))
            story.records.append(record)
            if story.broken:
                continue
            try:
                after = evolve(story.order, event)
            except ValueError as error:
                self.found.append(Finding("I4", str(error)))
                story.broken = True
                continue
            story.steps.append((story.order, event))
            story.order = after

    def _read_inputs(self) -> None:
        for record in self.evidence.of(ORDERS_EVENTS):
            try:
                created = decode_order(record.value, record.headers)
            except PoisonError:
                self.unreadable.append(record)
            else:
                self.created[created.order_id].append((record, created))
        for record in self.evidence.of(FULFILLMENT_COMMANDS):
            try:
                decode_command(record.value, record.headers)
            except PoisonError:
                self.unreadable.append(record)

    def rejected(self, order_id: str) -> bool:
        """Whether its OrderCreated is a dead letter, and nothing else was said of it."""
        return order_id not in self.stories and any(
            self.letters.get((record.topic, record.partition, record.offset))
            for record, _ in self.created.get(order_id, ())
        )


def _found_at(letter: Logged) -> tuple[str, int, int]:
    said = dict(letter.headers)
    topic, partition, offset = (said.get(name) or b"" for name in (TOPIC_HEADER, PARTITION_HEADER, OFFSET_HEADER))
    if not (partition.isdigit() and offset.isdigit()):
        return (letter.place, -1, -1)
    return (topic.decode(), int(partition), int(offset))
