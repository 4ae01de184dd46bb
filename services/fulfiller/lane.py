"""The way to one provider: how many calls may be under way, and when none may begin. One a worker."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import structlog

from schemas.providers import ProviderChanged
from services.fulfiller.clock import Clock
from services.fulfiller.outage import PROBE_INTERVAL_S, Standing, suspension
from services.fulfiller.pacing import Pace, part, spacing_s
from services.fulfiller.providers.port import Outcome, OutcomeClass, Provider

MAX_PAUSE_S: Final = 60.0
"""The longest that one Retry-After may hold everybody's orders."""
MIN_WAIT_S: Final = 0.001
"""A shorter one may end where it began."""
MIN_QUESTIONS: Final = 8

log = structlog.get_logger()
Wake = Callable[[], None]


@dataclass(slots=True)
class _Berth:
    """What one partition has of the provider's own limits, under this owner."""

    quota: int | None
    """Calls at once; None: no limit."""
    pace: Pace | None
    doubtful: int
    """Calls of earlier owners that may be under way."""
    doubts_end_s: float
    timer: asyncio.TimerHandle | None = None
    sending: asyncio.Lock = field(default_factory=asyncio.Lock)

    def wait_s(self, held: int, now_s: float) -> float | None:
        """How long it may take no slot; None: until one of its own is given back."""
        if self.quota is not None:
            if held >= self.quota:
                return None
            if self.doubtful and held + self.doubtful >= self.quota and now_s < self.doubts_end_s:
                return self.doubts_end_s - now_s
        return 0.0 if self.pace is None else self.pace.wait_s(now_s)


class Lane:
    """Slots are taken before an intent is written and given back when its call is over."""

    def __init__(
        self,
        provider: Provider,
        clock: Clock,
        *,
        max_in_flight: int,
        partitions: int = 1,
        provider_max_in_flight: int | None = None,
        rate_per_s: float | None = None,
        probe_interval_s: float = PROBE_INTERVAL_S,
    ) -> None:
        self.provider = provider
        self.probe_interval_s = probe_interval_s
        self.standing = Standing(provider.profile.name)
        self._clock = clock
        self._max_in_flight = max_in_flight
        self._partitions = partitions
        self._provider_max = provider_max_in_flight
        self._rate_per_s = rate_per_s
        self._allowed = max_in_flight
        self._berths: dict[Wake, _Berth] = {}
        self._held: Counter[Wake] = Counter()
        self._waiting: dict[Wake, None] = {}
        self._listeners: list[Callable[[ProviderChanged], None]] = []
        self._paused_until_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.questions = asyncio.Semaphore(max(max_in_flight // 4, MIN_QUESTIONS))
        """Status queries at once; they stay outside what suspends and slows the lane."""

    @property
    def name(self) -> str:
        return self.provider.profile.name

    @property
    def in_flight(self) -> int:
        return self._held.total()

    @property
    def capacity(self) -> int:
        """Calls at once, of this worker."""
        return min(self._max_in_flight, self._allowed)

    @property
    def suspended_because(self) -> str | None:
        return self.standing.suspended_because

    # --- slots --------------------------------------------------------------------------------------------------------

    def open(self, wake: Wake, partition: int, *, fenced_at_s: float, doubtful: int, doubts_end_s: float) -> None:
        """Give a shard its partition's part of the provider's limits."""
        limit, rate = self._provider_max, self._rate_per_s
        self._berths[wake] = _Berth(
            quota=None if limit is None else part(limit, partition, self._partitions),
            pace=None if rate is None else Pace(spacing_s(rate, partition, self._partitions), fenced_at_s),
            doubtful=doubtful,
            doubts_end_s=doubts_end_s,
        )

    def close(self, wake: Wake) -> None:
        """The shard ends."""
        self.leave(wake)
        berth = self._berths.pop(wake, None)
        if berth is not None and berth.timer is not None:
            berth.timer.cancel()

    def take(self, wake: Wake) -> bool:
        """Take a slot for the shard that `wake` wakes. False: none now; it is woken when there may be one."""
        berth = self._berths[wake]
        now_s = self._clock.monotonic_s()
        capacity = self.capacity
        if self.suspended_because is not None or self._is_paused(now_s) or self.in_flight >= capacity:
            self._waiting[wake] = None
            return False
        self._waiting.pop(wake, None)
        wait_s = berth.wait_s(self._held[wake], now_s)
        if wait_s is None or wait_s > 0:
            if wait_s is not None and berth.timer is None:
                berth.timer = asyncio.get_running_loop().call_later(max(wait_s, MIN_WAIT_S), self._on_berth, wake)
            self._wake_one()
            return False
        # The shares add up to the capacity at the least, so that one of those who wait is below its own.
        if self._waiting and self._held[wake] >= -(-capacity // (len(self._waiting) + 1)):
            self._wake_one()
            self._waiting[wake] = None
            return False
        if berth.pace is not None:
            berth.pace.take(now_s)
        self._held[wake] += 1
        return True

    def release(self, wake: Wake) -> None:
        self._held[wake] -= 1
        if not self._held[wake]:
            del self._held[wake]
        if wake in self._berths and self._provider_max is not None:
            wake()  # it may wait for one of its own
        self._wake_one()

    def leave(self, wake: Wake) -> None:
        """Forget a shard that wants no more slots; those that it holds are released as its calls end."""
        if wake in self._waiting:
            del self._waiting[wake]
            self._wake_one()

    async def pace(self, wake: Wake) -> None:
        """Wait until a call whose slot was taken may be sent. Each waits for the one before it really to be sent: where
        this process got no processor for a while, those that came due meanwhile must not go all at once.
        """
        berth = self._berths.get(wake)
        if berth is None or berth.pace is None:
            return
        async with berth.sending:
            wait_s = berth.pace.send_wait_s(self._clock.monotonic_s())
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            berth.pace.send(self._clock.monotonic_s())

    def _wake_one(self) -> None:
        for wake in self._waiting:
            wake()
            return

    def _wake_all(self) -> None:
        for wake in list(self._berths):
            wake()

    def _on_berth(self, wake: Wake) -> None:
        berth = self._berths.get(wake)
        if berth is not None:
            berth.timer = None
            wake()

    def _is_paused(self, now_s: float) -> bool:
        wait_s = self._paused_until_s - now_s
        if wait_s > 0 and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(max(wait_s, MIN_WAIT_S), self._on_timer)
        return wait_s > 0

    def _on_timer(self) -> None:
        self._timer = None
        self._wake_all()

    # --- what is learned ----------------------------------------------------------------------------------------------

    def observe(self, outcome: Outcome, epoch: int, size_mb: int | None = None) -> None:
        """Learn from the outcome of a call that began in that epoch: suspend, slow down, or open up again."""
        was = self.suspended_because
        if outcome.kind is OutcomeClass.TURNED_AWAY:
            pause_s = min(outcome.retry_after_s or 1.0, MAX_PAUSE_S)
            self._paused_until_s = max(self._paused_until_s, self._clock.monotonic_s() + pause_s)
        is_good = self.standing.observe(outcome, epoch, size_mb)
        if is_good and self._allowed < self._max_in_flight and self.suspended_because is None:
            # A ramp after an outage: each good answer makes room for one more, so that it doubles with every round.
            self._allowed += 1
            self._wake_one()
        if was is None and self.standing.verdict is not None:
            log.error("provider_suspended", provider=self.name, why=self.suspended_because)
            self._wake_all()

    def hear(self, changed: ProviderChanged) -> None:
        """Take what fulfillment.providers says."""
        was = self.suspended_because
        self.standing.hear(changed)
        because = self.suspended_because
        if was is None and because is not None:
            log.error("provider_suspended", provider=self.name, why=because)
        elif was is not None and because is None:
            log.warning("provider_resumed", provider=self.name, was=was)
            # All workers together begin with one call a partition.
            self._allowed = min(max(len(self._berths), 1), self._max_in_flight)
            self._wake_all()
        for listener in list(self._listeners):
            listener(changed)

    def listen(self, listener: Callable[[ProviderChanged], None]) -> Callable[[], None]:
        """Be told of what is heard; returns how to be told no more."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def say(self, now: datetime) -> ProviderChanged | None:
        """What this worker found and nobody says yet: whoever asks writes it, or calls `unsaid`."""
        standing = self.standing
        if standing.verdict is None or standing.is_being_said:
            return None
        standing.is_being_said = True
        return suspension(standing, standing.verdict, now, self.probe_interval_s)

    def unsaid(self) -> None:
        """It may not have been written."""
        self.standing.is_being_said = False
        self._wake_all()
