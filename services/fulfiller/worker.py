"""One worker: its place in the group, a shard for each partition that is its own, the lanes to the providers."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

import structlog

from services.fulfiller import metrics
from services.fulfiller.bulletin import Bulletin
from services.fulfiller.log import FencedError, Log, LogError, Membership
from services.fulfiller.shard import Shard, Shared
from services.fulfiller.takeover import RefusedError, UnreadableStateError, look, take_over
from services.health import Readiness
from services.run import Refusal

POLL_INTERVAL_S: Final = 1.0
START_INTERVAL_S: Final = 0.05
"""As POLL_INTERVAL_S, until the worker is ready for the first time."""
COMMIT_INTERVAL_S: Final = 3.0
REVOKED_DRAIN_S: Final = 5.0
STOP_DRAIN_S: Final = 8.0
RETAKE_BACKOFF_S: Final = (0.1, 0.5, 1.0, 2.0, 5.0)
REFUSED_RETRY_S: Final = 5.0
HIDDEN_ALARM_S: Final = 10.0
"""Our own transactions end within milliseconds: one that hides an input for so long is a stranger's, or hangs."""
_BYTES_IN_MB: Final = 1_000_000
_PROVIDER: Final = "provider "
"""So begin the dependencies that nobody waits for."""

log = structlog.get_logger()


class Worker:
    def __init__(
        self,
        log_: Log,
        shared: Shared,
        readiness: Readiness,
        cluster_id: str,
        on_ready: Callable[[], None] = lambda: None,
    ) -> None:
        self._log = log_
        self._shared = shared
        self._readiness = readiness
        self._cluster_id = cluster_id
        self._on_ready: Callable[[], None] | None = on_ready
        self._membership: Membership = log_.membership()
        self._bulletin = Bulletin(log_, shared.lanes)
        self._keepers: dict[int, asyncio.Task[None]] = {}
        self._shards: dict[int, Shard] = {}
        self._noted: dict[int, int] = {}
        """The positions that the group knows of."""
        self._leaving = asyncio.Event()
        self._moving = asyncio.Lock()
        """Held where partitions come or go: the group may assign some while the worker is being stopped."""
        self._stopped = False
        self._loading = asyncio.Lock()
        self._refusal: Refusal | None = None

    @property
    def shards(self) -> Mapping[int, Shard]:
        return self._shards

    async def run(self, stop: asyncio.Event) -> None:
        """Work until asked to stop, then drain and leave. Refusal: this worker must not run at all."""
        reading = asyncio.create_task(self._bulletin.keep())
        try:
            await self._catch_up(stop)
            await self._join(stop)
            await self._stay(stop)
        finally:
            await self._drop_all(STOP_DRAIN_S)
            await self._membership.leave()
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        if self._refusal is not None:
            raise self._refusal

    async def _catch_up(self, stop: asyncio.Event) -> None:
        """Who does not know yet which providers are suspended must have no orders."""
        while not (stop.is_set() or self._bulletin.caught_up.is_set()):
            await _pause(stop, POLL_INTERVAL_S, self._bulletin.caught_up)

    async def _join(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                await self._membership.join(self._on_revoked, self._on_assigned)
            except LogError as error:
                self._readiness.down("kafka", str(error))
                log.warning("kafka_unreachable", error=str(error))
                self._membership = self._log.membership()
                await _pause(stop, POLL_INTERVAL_S)
            else:
                return

    async def _stay(self, stop: asyncio.Event) -> None:
        """Keep the place in the group: polled every second, with the shards' positions noted now and then."""
        loop = asyncio.get_running_loop()
        committed_s = loop.time()
        while not stop.is_set() and not self._leaving.is_set():
            try:
                await self._membership.poll()
                if loop.time() - committed_s >= COMMIT_INTERVAL_S:
                    committed_s = loop.time()
                    await self._commit_positions()
                self._readiness.up("kafka")
            except LogError as error:
                self._readiness.down("kafka", str(error))
                log.warning("group_unreachable", error=str(error))
            await self._measure()
            if self._on_ready is not None and self._has_started():
                self._on_ready()
                self._on_ready = None
            await _pause(stop, START_INTERVAL_S if self._on_ready else POLL_INTERVAL_S, self._leaving)

    def _has_started(self) -> bool:
        """A provider may be suspended for days: that is said, and nobody waits for it."""
        return all(fault == "ok" for name, fault in self._readiness if not name.startswith(_PROVIDER))

    async def _commit_positions(self) -> None:
        offsets = {p: position for p, shard in self._shards.items() if (position := shard.position) is not None}
        if offsets:
            await self._membership.commit(offsets)
            self._noted |= offsets

    async def _measure(self) -> None:
        for lane in self._shared.lanes.values():
            metrics.CALLS_IN_FLIGHT.labels(lane.name).set(lane.in_flight)
            metrics.SUSPENDED.labels(lane.name).set(lane.suspended_because is not None)
            balance = lane.standing.said.balance if lane.standing.said else None
            if balance is not None:
                metrics.BALANCE.labels(lane.name, "available").set(balance.available_mb * _BYTES_IN_MB)
                metrics.BALANCE.labels(lane.name, "reserved").set(balance.reserved_mb * _BYTES_IN_MB)
            metrics.WAITING.labels(lane.name).set(sum(s.waiting()[lane.name] for s in self._shards.values()))
            if lane.suspended_because is None:
                self._readiness.up(f"{_PROVIDER}{lane.name}")
            else:
                self._readiness.down(f"{_PROVIDER}{lane.name}", f"suspended: {lane.suspended_because}")
        for partition, shard in list(self._shards.items()):
            counts = shard.book.counts() | {"in_doubt": shard.doubtful_count}
            for kind, count in counts.items():
                metrics.ORDERS.labels(partition, kind).set(count)
            try:
                lag = await shard.lag()
            except LogError:
                continue  # it is being thrown away, and whoever keeps it says why
            for topic, behind in lag.items():
                metrics.LAG.labels(partition, topic).set(behind)
            hidden_s = shard.hidden_s()
            for topic in shard.topics:
                metrics.HIDDEN_SECONDS.labels(partition, topic).set(hidden_s.get(topic, 0.0))
                if hidden_s.get(topic, 0.0) >= HIDDEN_ALARM_S:
                    metrics.ALARMS.labels("hidden").inc()
                    log.error("input_hidden_by_open_transaction", topic=topic, partition=partition)

    # --- partitions come and go ---------------------------------------------------------------------------------------

    async def _on_revoked(self, _partitions: frozenset[int]) -> None:
        """With eager rebalances every partition is revoked each time, mostly to be given back at once."""
        await asyncio.gather(*(shard.drain(REVOKED_DRAIN_S) for shard in self._shards.values()))

    async def _on_assigned(self, partitions: frozenset[int]) -> None:
        async with self._moving:
            if self._stopped:
                return
            log.info("partitions_assigned", partitions=sorted(partitions))
            await asyncio.gather(*(self._drop(p) for p in self._keepers.keys() - partitions))
            for partition in partitions:
                if partition in self._shards:
                    self._shards[partition].resume()
                if partition not in self._keepers:
                    self._readiness.down(f"partition {partition}", "being taken over")
                    self._keepers[partition] = asyncio.create_task(self._keep(partition))
            self._readiness.up("group")

    async def _drop(self, partition: int) -> None:
        keeper = self._keepers.pop(partition)
        shard = self._shards.get(partition)
        if shard is not None:
            shard.stop()
        else:
            keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)
        self._readiness.forget(f"partition {partition}")
        for kind in ("open", "remembered", "in_doubt", "held"):
            metrics.ORDERS.labels(partition, kind).set(0)

    async def _drop_all(self, drain_s: float) -> None:
        async with self._moving:
            self._stopped = True
            await asyncio.gather(*(shard.drain(drain_s) for shard in self._shards.values()))
            await asyncio.gather(*(self._drop(p) for p in list(self._keepers)))

    async def _keep(self, partition: int) -> None:
        """Own a partition: take it over, run its shard, and when that is thrown away, take it over again."""
        name = f"partition {partition}"
        failures = 0
        refused = False
        while partition in self._keepers:
            try:
                if refused:
                    # Whoever mends it writes under the partition's identity, and is not to be fenced over it.
                    await look(
                        partition,
                        self._log,
                        partitions=self._shared.partitions,
                        cluster_id=self._cluster_id,
                        loading=self._loading,
                    )
                refused = False
                self._readiness.down(name, "being taken over")
                await self._take_and_run(partition, name)
            except RefusedError as error:
                refused = True
                metrics.TAKEOVERS.labels("refused").inc()
                self._readiness.down(name, str(error))
                log.error("partition_refused", partition=partition, why=str(error))  # noqa: TRY400 - it says all
                await asyncio.sleep(REFUSED_RETRY_S)
            except UnreadableStateError as error:
                self._refusal = Refusal(f"fulfillment.state of partition {partition} is not readable: {error}")
                self._leaving.set()
                return
            except LogError as error:
                metrics.TAKEOVERS.labels("lost").inc()
                self._readiness.down(name, str(error))
                log.warning("partition_lost", partition=partition, why=str(error))
                await asyncio.sleep(RETAKE_BACKOFF_S[min(failures, len(RETAKE_BACKOFF_S) - 1)])
                failures += 1
                if isinstance(error, FencedError):
                    await self._prove_membership(partition)
            except Exception:
                metrics.ALARMS.labels("shard_crashed").inc()
                self._readiness.down(name, "it crashed and is taken over again")
                log.exception("shard_crashed", partition=partition)
                await asyncio.sleep(RETAKE_BACKOFF_S[min(failures, len(RETAKE_BACKOFF_S) - 1)])
                failures += 1
            else:
                return

    async def _take_and_run(self, partition: int, name: str) -> None:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        taken = await take_over(
            partition,
            self._log,
            self._shared.clock,
            partitions=self._shared.partitions,
            cluster_id=self._cluster_id,
            loading=self._loading,
        )
        shard = Shard(partition, taken, self._shared)
        self._shards[partition] = shard
        took_s = loop.time() - began_s
        metrics.TAKEOVERS.labels("taken").inc()
        metrics.TAKEOVER_SECONDS.observe(took_s)
        log.info("partition_taken", partition=partition, took_s=round(took_s, 3), **shard.book.counts())
        self._readiness.up(name)
        try:
            await shard.run()
        finally:
            del self._shards[partition]

    async def _prove_membership(self, partition: int) -> None:
        """Wait until the group accepts a commit of ours: a zombie and the owner must not fence each other in turns."""
        while partition in self._keepers:
            try:
                await self._membership.commit({partition: self._noted.get(partition, 0)})
            except LogError as error:
                log.info("not_a_member", partition=partition, error=str(error))
                await asyncio.sleep(POLL_INTERVAL_S)
            else:
                return


async def _pause(stop: asyncio.Event, seconds: float, other: asyncio.Event | None = None) -> None:
    """Sleep, but no longer than until asked to stop."""
    events = [stop] if other is None else [stop, other]
    waits = [asyncio.create_task(event.wait()) for event in events]
    _, pending = await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
