"""A consumer group with eager rebalances: everybody gives everything back before anybody gets anything."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from services.fulfiller.log import LogError, OnPartitions
from tests.simulation.loop import Event, Process, SimLoop
from tests.simulation.network import Network

SESSION_TIMEOUT_S: Final = 15.0
REBALANCE_TIMEOUT_S: Final = 30.0
HEARTBEAT_S: Final = 3.0


@dataclass(slots=True, eq=False)
class _Place:
    """One member, as the coordinator knows it."""

    client: "Member"
    joined: asyncio.Future[tuple[int, int, frozenset[int]]] | None = None
    """Its JoinGroup, while a rebalance gathers."""


class Group:
    def __init__(self, loop: SimLoop, partitions: int) -> None:
        self._loop = loop
        self._partitions = partitions
        self._places: dict[int, _Place] = {}
        self._numbers = 0
        self.generation = 0
        self.gathering = False
        self.owned: dict[int, frozenset[int]] = {}
        self.committed: dict[int, int] = {}

    def has(self, member_id: int | None) -> bool:
        return member_id in self._places

    def join(self, client: "Member", member_id: int | None) -> asyncio.Future[tuple[int, int, frozenset[int]]]:
        """Member id, generation and partitions, once everybody has joined or was given up."""
        if member_id is None or member_id not in self._places:
            self._numbers += 1
            member_id = self._numbers
            self._places[member_id] = _Place(client)
        place = self._places[member_id]
        place.joined = self._loop.create_future()
        if not self.gathering:
            self._gather()
        self._complete_if_all_joined()
        return place.joined

    def _gather(self) -> None:
        self.gathering = True
        generation = self.generation
        for place in self._places.values():
            if place.joined is None:
                place.client.hears_of_a_rebalance()
        self._loop.in_world(REBALANCE_TIMEOUT_S, self._complete, generation)

    def _complete_if_all_joined(self) -> None:
        if self.gathering and all(place.joined is not None for place in self._places.values()):
            # Those who join at the same time are taken together.
            self._loop.in_world(0.05, self._complete_now, self.generation)

    def _complete_now(self, generation: int) -> None:
        if all(place.joined is not None for place in self._places.values()):
            self._complete(generation)

    def _complete(self, generation: int) -> None:
        if not self.gathering or generation != self.generation:
            return
        self.gathering = False
        self.generation += 1
        self._places = {number: place for number, place in self._places.items() if place.joined is not None}
        self.owned = self._shared_out()
        for number, place in self._places.items():
            joined, place.joined = place.joined, None
            if joined is not None and not joined.done():
                joined.set_result((number, self.generation, self.owned[number]))

    def _shared_out(self) -> dict[int, frozenset[int]]:
        """In ranges, as RangePartitionAssignor does."""
        shares: dict[int, frozenset[int]] = {}
        begin = 0
        numbers = sorted(self._places)
        for place, number in enumerate(numbers):
            size = self._partitions // len(numbers) + (place < self._partitions % len(numbers))
            shares[number] = frozenset(range(begin, begin + size))
            begin += size
        return shares

    def expel(self, member_id: int | None) -> None:
        """It left, or is not heard of."""
        place = self._places.pop(member_id, None) if member_id is not None else None
        if place is None:
            return
        if self.gathering:
            self._complete_if_all_joined()
        elif self._places:
            self._gather()
        else:
            self.generation += 1

    def forget(self, client: "Member") -> None:
        """Nothing was heard of it for a session, whichever member it became: a JoinGroup may outlive who sent it."""
        for number, place in list(self._places.items()):
            if place.client is client:
                self.expel(number)

    def commit(self, member_id: int | None, generation: int, offsets: Mapping[int, int]) -> None:
        if member_id not in self._places:
            raise LogError("unknown member")
        if generation != self.generation:
            raise LogError("illegal generation")
        self.committed.update(offsets)


class Member:
    """One process's membership: heartbeats, and what they tell."""

    def __init__(
        self, process: Process, group: Group, network: Network, on_revoked: OnPartitions, on_assigned: OnPartitions
    ) -> None:
        self._process = process
        self._group = group
        self._network = network
        self._on_revoked = on_revoked
        self._on_assigned = on_assigned
        self._loop = group._loop  # noqa: SLF001 - the same module
        self.member_id: int | None = None
        self.generation = -1
        self.owned: frozenset[int] = frozenset()
        self._to_join = asyncio.Event()
        self._to_join.set()
        self._left = False
        self._joining = False
        self._missed: Event | None = None
        process.on_change.append(self._reach_changed)
        self._coordinating = asyncio.create_task(self._coordinate())

    async def _coordinate(self) -> None:
        while not self._left:
            await self._to_join.wait()
            self._to_join.clear()
            self._joining = True
            await self._on_revoked(self.owned)
            self.member_id, self.generation, self.owned = await self._joined()
            self._joining = False
            await self._on_assigned(self.owned)

    async def _joined(self) -> Any:
        while True:
            answer = self._network.call(self._process, "broker", lambda: self._group.join(self, self.member_id))
            # A request that a partition swallowed is sent again.
            timer = self._loop.in_world(2 * REBALANCE_TIMEOUT_S, answer.cancel)
            try:
                return await answer
            except asyncio.CancelledError:
                if self._left or not answer.cancelled():
                    raise
            finally:
                timer.cancel()

    def hears_of_a_rebalance(self) -> None:
        """With one of its next heartbeats."""
        self._loop.in_world(self._loop.random.random() * HEARTBEAT_S, self._heartbeat)

    def _heartbeat(self) -> None:
        if self._left or self._joining or self._process.dead:
            return
        if not self._process.reaches("broker"):
            return  # told when it is back
        if self._group.gathering or not self._group.has(self.member_id) or self.generation != self._group.generation:
            self._to_join.set()

    def _reach_changed(self) -> None:
        if self._left:
            return
        if self._process.reaches("broker"):
            if self._missed is not None:
                self._missed.cancel()
                self._missed = None
            if not self._process.dead:
                self.hears_of_a_rebalance()
        elif self._missed is None:
            self._missed = self._loop.in_world(SESSION_TIMEOUT_S, self._group.forget, self)

    def leave(self) -> None:
        self._left = True
        self._coordinating.cancel()
        member_id = self.member_id
        self._network.call(self._process, "broker", lambda: self._group.expel(member_id))
        self._loop.in_world(SESSION_TIMEOUT_S, self._group.forget, self)
