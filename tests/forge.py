"""Evidence made by hand: a few orders, and whatever is to be wrong with them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from schemas import ids
from schemas.cloudevents import binary_headers, decode_order, json_value
from schemas.fulfillment import (
    Act,
    AttemptVoided,
    Cause,
    FulfillmentAttempted,
    FulfillmentCancelled,
    FulfillmentEvent,
    FulfillmentFailed,
    FulfillmentRequested,
    FulfillmentSucceeded,
    FulfillmentUncertain,
    Next,
    OnBehalf,
    ReviewRequested,
    Source,
    StatusChecked,
    Trigger,
    VoidReason,
)
from schemas.orders import OrderCreated
from schemas.poison import PoisonError, PoisonKind, dead_letter_headers
from schemas.topics import (
    FULFILLMENT_DEAD_LETTER,
    FULFILLMENT_EVENTS,
    FULFILLMENT_STATE,
    ORDERS_EVENTS,
)
from services.fulfiller.evolution import evolve
from services.fulfiller.order import Order, dump_order
from services.partition import home_partition
from services.projector import projection
from services.projector.batch import sort
from tests.evidence import Accepted, Answer, Clients, Evidence, Known, Logged, Poison

PARTITIONS: Final = 2
BEGIN: Final = datetime(2026, 1, 31, 12, tzinfo=UTC)
SECRET: Final = "a-secret-of-the-provider"  # noqa: S105 - made up
MAX_ATTEMPTS: Final = 3


class Forge:
    """Makes evidence of a few orders. What is kept, shown and sent follows from their events, if not forged as well."""

    def __init__(self) -> None:
        self.stories: dict[str, list[FulfillmentEvent]] = {}
        self.created: list[OrderCreated] = []
        self.records: dict[str, list[Logged]] = {name: [] for name in (ORDERS_EVENTS, FULFILLMENT_DEAD_LETTER)}
        self.clients = Clients()
        self.sends: dict[str, list[datetime]] = {}
        self.deliveries: dict[str, int] = {}
        self.logs = {"fulfiller": "Fulfilling order … for +2332700•••01 - 1GB\n"}
        self.simple = self._simple()
        self.doubtful = self._doubtful()
        self.declined = self._declined()
        self.overridden = self._overridden()
        self.reviewed = self._reviewed()
        self.cancelled = self._cancelled()
        self.held = self._order("MTN").order_id
        self.rejected = self._rejected()
        self._poison()
        self._bought_twice()

    # --- the orders ---------------------------------------------------------------------------------------------------

    def _simple(self) -> str:
        """Delivered at the first attempt."""
        order = self._order()
        self.attempt(order, 1)
        self.succeed(order, 1.1)
        return order.order_id

    def _doubtful(self) -> str:
        """Its first call was never answered; it is proven that nothing came of it, and the second delivers."""
        order = self._order()
        self.attempt(order, 1)
        self.add(order, FulfillmentUncertain, 3, **self.said(1), next=self.plan(order, Act.VERIFY, 4))
        self.add(order, StatusChecked, 4, **self.said(1), step=1, next=self.plan(order, Act.VERIFY, 9))
        self.add(
            order,
            FulfillmentFailed,
            9,
            **self.said(1),
            source=Source.VERIFICATION,
            final=False,
            next=self.plan(order, Act.ATTEMPT, 10),
        )
        self.attempt(order, 10, number=2, trigger=Trigger.RETRY)
        self.succeed(order, 10.1, number=2)
        return order.order_id

    def _declined(self) -> str:
        """Three attempts, and the settlement's question."""
        order = self._order()
        for number, at_s in enumerate((1, 3, 6), 1):
            self.attempt(order, at_s, number=number, trigger=Trigger.RETRY if number > 1 else Trigger.FIRST)
            act = Act.ATTEMPT if number < MAX_ATTEMPTS else Act.SETTLE
            self.add(
                order,
                FulfillmentFailed,
                at_s + 0.1,
                **self.said(number),
                source=Source.REPLY,
                final=False,
                next=self.plan(order, act, at_s + number),
            )
        self.add(
            order, FulfillmentFailed, 9, **self.said(3), source=Source.VERIFICATION, final=True, settled=True, next=None
        )
        return order.order_id

    def _overridden(self) -> str:
        """Declined for good; a person has it sent anew, the provider is suspended just then, and delivers later."""
        order = self.order_of(self._declined())
        new = f"{order.order_id}-r2"
        command = OnBehalf(command_id=ids.order_id("t", "override"), actor="key", reason="they unblocked it")
        self.attempt(order, 20, number=4, trigger=Trigger.OVERRIDE, reference=new, command=command)
        self.add(
            order,
            AttemptVoided,
            20.1,
            **self.said(4) | {"reference": new},
            void_reason=VoidReason.SUSPENDED,
            next=self.plan(order, Act.ATTEMPT, 20.1),
        )
        self.attempt(order, 30, number=4, trigger=Trigger.RETRY, reference=new)
        self.succeed(order, 30.1, number=4, reference=new)
        return order.order_id

    def _reviewed(self) -> str:
        order = self._order()
        self.attempt(order, 1)
        self.add(order, FulfillmentUncertain, 3, **self.said(1), next=self.plan(order, Act.VERIFY, 4))
        self.add(order, ReviewRequested, 4, **self.said(1), next=self.plan(order, Act.VERIFY, 86_404))
        return order.order_id

    def _cancelled(self) -> str:
        order = self._order()
        command = OnBehalf(command_id=ids.order_id("t", "cancel"), actor="key", reason="")
        self.add(order, FulfillmentCancelled, 0.5, command=command)
        return order.order_id

    def _rejected(self) -> str:
        """Too old to be taken up."""
        order = self._created("AT-iShare", BEGIN - timedelta(days=30))
        record = self.write(order.order_id.encode(), json_value(order), home_partition(order.order_id, PARTITIONS))
        self.set_aside(record, PoisonKind.STALE)
        return order.order_id

    def _poison(self) -> None:
        headers = (("trace", b"1"), ("nothing", None))
        self.clients.poison.append(Poison(None, b"{not JSON", headers))
        self.set_aside(self.write(None, b"{not JSON", 1, headers), PoisonKind.NOT_JSON)

    def _bought_twice(self) -> None:
        order = self._order(account_key="k")
        self.attempt(order, 1)
        self.succeed(order, 1.2)
        said = {"id": order.order_id, "size": "1GB"}
        for second in (0, 5):
            told = {**said, "created_at": f"2026-01-31T12:00:0{second}Z"}
            self.clients.answers.append(Answer("k", {"size": "1GB", "network": "AT-iShare"}, 202, told))
        self.clients.answers.append(Answer("k", {"size": "2GB", "network": "AT-iShare"}, 422, {}))

    # --- making them --------------------------------------------------------------------------------------------------

    def _created(self, network: str, at: datetime, account_key: str | None = None) -> OrderCreated:
        number = len(self.created)
        order = OrderCreated(
            order_id=ids.order_id("t", account_key or str(number)),
            phone_number=f"+23327000{number:04}",
            network=network,
            size_mb=1000,
            created_at=at,
        )
        self.created.append(order)
        self.clients.accepted.append(Accepted(order.order_id, order.bundle))
        return order

    def _order(self, network: str = "AT-iShare", account_key: str | None = None) -> OrderCreated:
        order = self._created(network, BEGIN, account_key)
        record = self.write(order.order_id.encode(), json_value(order), home_partition(order.order_id, PARTITIONS))
        served = network == "AT-iShare"
        self.stories[order.order_id] = []
        self.add(
            order,
            FulfillmentRequested,
            0.1,
            cause=Cause(topic=ORDERS_EVENTS, partition=record.partition, offset=record.offset),
            provider="at-ishare" if served else None,
            max_attempts=MAX_ATTEMPTS,
            order_created_at=order.created_at,
            next=self.plan(order, Act.ATTEMPT, 0.1) if served else None,
        )
        return order

    def write(self, key: bytes | None, value: bytes, partition: int, headers: Any = ()) -> Logged:
        records = self.records[ORDERS_EVENTS]
        record = Logged(
            topic=ORDERS_EVENTS,
            partition=partition,
            offset=len(records),
            timestamp=1_769_860_800_000,
            key=key,
            value=value,
            headers=headers,
        )
        records.append(record)
        return record

    def set_aside(self, record: Logged, kind: PoisonKind) -> None:
        letters = self.records[FULFILLMENT_DEAD_LETTER]
        headers = dead_letter_headers(
            record.headers,
            PoisonError(kind, "no good"),
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            timestamp_ms=record.timestamp,
        )
        letters.append(replace(record, topic=FULFILLMENT_DEAD_LETTER, offset=len(letters), headers=headers))

    def add(self, order: OrderCreated, kind: type[FulfillmentEvent], at_s: float, **fields: Any) -> None:
        story = self.stories[order.order_id]
        event: Any = kind(
            order_id=order.order_id,
            sequence=len(story) + 1,
            phone_number=order.phone_number,
            size_mb=order.size_mb,
            network=order.network,
            at=after(at_s),
            **{"reference": order.order_id} | fields if "attempt" in fields else fields,
        )
        story.append(event)

    def plan(self, order: OrderCreated, act: Act, at_s: float) -> Next:
        return Next(act=act, at=after(at_s), schedule_id=len(self.stories[order.order_id]) + 1)

    @staticmethod
    def said(attempt: int) -> dict[str, Any]:
        return {"attempt": attempt, "error_code": "E", "error_message": "no", "api_response": {"b": 1, "a": [2]}}

    def attempt(
        self,
        order: OrderCreated,
        at_s: float,
        number: int = 1,
        trigger: Trigger = Trigger.FIRST,
        *,
        reference: str | None = None,
        command: OnBehalf | None = None,
    ) -> None:
        reference = reference or order.order_id
        self.add(
            order,
            FulfillmentAttempted,
            at_s,
            attempt=number,
            max_attempts=MAX_ATTEMPTS,
            provider="at-ishare",
            reference=reference,
            trigger=trigger,
            deadline=after(at_s + 2),
            command=command,
        )
        self.sends.setdefault(reference, []).append(after(at_s + 0.02))

    def succeed(self, order: OrderCreated, at_s: float, number: int = 1, reference: str | None = None) -> None:
        reference = reference or order.order_id
        said = {"attempt": number, "transaction_id": "AT-1", "reference": reference, "source": Source.REPLY}
        self.add(order, FulfillmentSucceeded, at_s, **said)
        self.deliveries[reference] = 1

    # --- the evidence -------------------------------------------------------------------------------------------------

    def order_of(self, order_id: str) -> OrderCreated:
        return next(order for order in self.created if order.order_id == order_id)

    def evidence(self) -> Evidence:
        events = self._events()
        rows = self._rows(events)
        return Evidence(
            partitions=PARTITIONS,
            max_attempts=MAX_ATTEMPTS,
            clients=self.clients,
            topics={**self.records, FULFILLMENT_EVENTS: events, FULFILLMENT_STATE: list(self._states())},
            rows=rows,
            orders={key: (row.network, row.size_mb, row.phone_number, row.status) for key, row in rows.items()},
            quarantined=[],
            ledger=self._ledger(),
            logs=self.logs,
            secrets=[SECRET],
        )

    def _events(self) -> list[Logged]:
        logged: list[Logged] = []
        for order_id, story in self.stories.items():
            for event in story:
                headers = binary_headers(event.type, ids.event_id(order_id, event.sequence), b"/forge", event.at)
                logged.append(
                    Logged(
                        topic=FULFILLMENT_EVENTS,
                        partition=home_partition(order_id, PARTITIONS),
                        offset=len(logged),
                        timestamp=int(event.at.timestamp() * 1000),
                        key=order_id.encode(),
                        value=json_value(event),
                        headers=tuple(headers),
                    )
                )
        return logged

    def _states(self) -> Any:
        for order_id, story in self.stories.items():
            order: Order | None = None
            for event in story:
                order = evolve(order, event)
            if order is not None:
                yield Logged(
                    topic=FULFILLMENT_STATE,
                    partition=home_partition(order_id, PARTITIONS),
                    offset=0,
                    timestamp=0,
                    key=order_id.encode(),
                    value=dump_order(order),
                )

    def _rows(self, events: Any) -> dict[str, projection.Row]:
        rows = projection.fold({}, sort(events, prefix="").events).rows
        for record in self.records[ORDERS_EVENTS]:
            try:
                order = decode_order(record.value, record.headers)
            except PoisonError:
                continue
            if order.order_id not in rows:
                rows[order.order_id] = projection.received(order, MAX_ATTEMPTS)
        if self.rejected in rows:
            rows[self.rejected] = projection.rejected(rows[self.rejected], "stale", "no good", BEGIN)
        return rows

    def _ledger(self) -> dict[str, Known]:
        return {
            reference: Known(
                bundle=self.order_of(reference[:36]).bundle,
                deliveries=self.deliveries.get(reference, 0),
                sends=len(sent),
                max_in_flight=1,
                sent_at=[at.timestamp() for at in sent],
            )
            for reference, sent in self.sends.items()
        }


def after(seconds: float) -> datetime:
    return BEGIN + timedelta(seconds=seconds)
