"""What a storm did and what came of it, in numbers."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from tests.case import Case
from tests.chaos.plan import POINTS
from tests.evidence import Evidence

HIT: Final = re.compile(r"^crashpoint (\S+) (kill|stop|raise)$", re.MULTILINE)
LATE_S: Final = 0.1
ALL_POINTS: Final = tuple(point for points in POINTS.values() for point in points)


def hits(logs: Mapping[str, str]) -> Counter[tuple[str, str]]:
    """How often each point was hit, by what it did."""
    return Counter((name, action) for text in logs.values() for name, action in HIT.findall(text))


@dataclass(kw_only=True)
class Report:
    seed: int
    blown_s: float
    settled_s: float
    judged_s: float
    points: Counter[tuple[str, str]]
    """By name and action."""
    kills: Counter[str]
    """From outside, by role."""
    freezes: Counter[str]
    starts: Counter[str]
    servers: Counter[str]
    done: Counter[str]
    """By the customers."""
    answers: Counter[str]
    clock_steps: list[float]
    lag_s: float
    """The longest wait for the processor."""
    accepted: int = 0
    provider_lag_s: float = 0.0
    """The longest that the provider got no processor around a call."""
    ends: Counter[str] = field(default_factory=Counter)
    """Orders by where they stand in the end."""
    facts: dict[str, int] = field(default_factory=dict)

    def read(self, evidence: Evidence) -> None:
        case = Case(evidence)
        self.accepted = len({said.order_id for said in evidence.clients.accepted})
        self.ends = Counter(str(story.order.state) for story in case.stories.values() if story.order)
        lags_s = [lag_s for known in evidence.ledger.values() for lag_s in known.lag_s]
        self.provider_lag_s = max(lags_s, default=0.0)
        deliveries = [known.deliveries for known in evidence.ledger.values()]
        self.facts = {
            "records of orders.events": len(evidence.of("orders.events")),
            "events of fulfilment": len(evidence.of("fulfillment.events")),
            "calls to the provider": sum(known.sends for known in evidence.ledger.values()),
            "calls noted late by a provider without processor": sum(lag_s > LATE_S for lag_s in lags_s),
            "bundles delivered": sum(deliveries),
            "delivered twice": sum(times > 1 for times in deliveries),
            "poison written": len(evidence.clients.poison),
            "dead letters": len(evidence.of("fulfillment.dead-letter")),
            "takeovers": sum(text.count("partition_taken") for text in evidence.logs.values()),
            "partitions lost": sum(text.count("partition_lost") for text in evidence.logs.values()),
        }

    @property
    def killed(self) -> int:
        """By SIGKILL: services at points and from outside, broker and database."""
        at_points = sum(times for (_, action), times in self.points.items() if action == "kill")
        servers = sum(times for deed, times in self.servers.items() if deed.endswith("kill"))
        return at_points + sum(self.kills.values()) + servers

    @property
    def missed(self) -> list[str]:
        """Points that nobody hit."""
        hit = {name for name, _ in self.points}
        return [name for name in ALL_POINTS if name not in hit]

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterable[str]:
        times = f"{self.blown_s:.0f} s, settled in {self.settled_s:.0f} s, judged in {self.judged_s:.0f} s"
        yield f"storm of seed {self.seed}: {times}"
        yield f"{self.accepted} orders accepted; {self.killed} processes killed"
        yield "point                              kill   stop  raise"
        for name in ALL_POINTS:
            counts = (self.points[name, action] for action in ("kill", "stop", "raise"))
            yield f"  {name:<30}" + "".join(f"{count:7}" for count in counts)
        for title, counted in (
            ("killed from outside", self.kills),
            ("frozen from outside", self.freezes),
            ("started", self.starts),
            ("broker, database, provider", self.servers),
            ("customers", self.done),
            ("answers of the gateways", self.answers),
            ("orders in the end", self.ends),
            ("in all", self.facts),
        ):
            said = ", ".join(f"{name} {count}" for name, count in sorted(counted.items()))
            yield f"{title}: {said or 'none'}"
        waits = f"{self.lag_s:.2f} s, of the provider around a call {self.provider_lag_s:.2f} s"
        yield f"longest wait for the processor: {waits}"
        steps = ", ".join(f"{step:+.4f} s" for step in self.clock_steps[:5])
        yield f"steps of the wall clock: {len(self.clock_steps)}{' (' + steps + ')' if steps else ''}"
