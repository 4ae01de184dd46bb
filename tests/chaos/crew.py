"""The services of a storm: each place is filled anew whenever who filled it is gone."""

import asyncio
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from tests.chaos.plan import POINTS, Arming, Role, frozen_s, rng_of
from tests.chaos.report import HIT
from tests.chaos.timeline import Timeline
from tests.processes import Service
from tests.stand import Stand

LOOK_S: Final = 0.1
FAULTS_BORNE: Final = 10
_GAVE_UP: Final = "the live view is as it was"
"""A rebuild ends where Kafka or PostgreSQL goes away, and is run again."""
PLACES: Final = {Role.GATEWAY: 2, Role.FULFILLER: 3, Role.PROJECTOR: 2}


@dataclass
class Place:
    role: Role
    service: Service
    frozen_until_s: float | None = None
    """On the loop's clock; None while it is not frozen."""
    asked_to_stop: bool = False


@dataclass
class Crew:
    stand: Stand
    seed: int
    timeline: Timeline
    places: list[Place] = field(default_factory=list)
    rebuild: Service | None = None
    kills: Counter[str] = field(default_factory=Counter)
    """By SIGKILL from outside, by role."""
    freezes: Counter[str] = field(default_factory=Counter)
    starts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    """Services that ended as none should."""
    armed: bool = True
    unhit: dict[Role, set[str]] = field(default_factory=lambda: {role: set(points) for role, points in POINTS.items()})
    """Points that nobody who is gone has died at."""

    def __post_init__(self) -> None:
        self._wanted = dict(PLACES)
        self._arming = {role: Arming(self.seed, role) for role in Role}
        self._rng = rng_of(self.seed, "crew")
        self._loop = asyncio.get_running_loop()

    # --- keeping the places filled ------------------------------------------------------------------------------------

    async def keep(self) -> None:
        """Until cancelled. AssertionError where services end by themselves again and again."""
        while True:
            self.look()
            assert len(self.faults) <= FAULTS_BORNE, "\n".join(self.faults)
            await asyncio.sleep(LOOK_S)

    def look(self) -> None:
        for place in list(self.places):
            if place.service.exit_code is not None:
                self._leave(place)
            else:
                self._watch(place)
        for role, wanted in self._wanted.items():
            for _ in range(wanted - len(self.of(role))):
                self.places.append(Place(role, self._start(role)))
        if self.rebuild is not None and self.rebuild.exit_code is not None:
            self._judge(Role.REBUILD, self.rebuild)
            self.rebuild = None

    def of(self, role: Role) -> list[Place]:
        return [place for place in self.places if place.role is role]

    def urls(self) -> Iterator[str]:
        """Of the gateways that say that they are ready, frozen ones among them: a client cannot know."""
        for place in self.of(Role.GATEWAY):
            url = place.service.ready_url
            if url is not None:
                yield url

    def _start(self, role: Role) -> Service:
        point = self._arming[role].draw(self.unhit[role]) if self.armed else ""
        start = {
            Role.GATEWAY: self.stand.gateway,
            Role.FULFILLER: self.stand.fulfiller,
            Role.PROJECTOR: self.stand.projector,
        }[role]
        service = start(point)
        self.starts[role] += 1
        self.timeline.note("start", service.name, point)
        return service

    def _watch(self, place: Place) -> None:
        """Thaw who was frozen for long enough, by us or at a point of its own."""
        now_s = self._loop.time()
        if place.frozen_until_s is None and place.service.is_frozen:
            place.frozen_until_s = now_s + frozen_s(self._rng)
            self.timeline.note("froze at its point", place.service.name)
        if place.frozen_until_s is not None and now_s >= place.frozen_until_s:
            place.service.thaw()
            place.frozen_until_s = None
            self.timeline.note("thaw", place.service.name)

    def _leave(self, place: Place) -> None:
        self.places.remove(place)
        self._judge(place.role, place.service, asked=place.asked_to_stop)

    def _judge(self, role: Role, service: Service, *, asked: bool = False) -> None:
        """SIGKILL is ours, or its point's. Nothing else ends a service but being asked to end."""
        code, said = service.exit_code, service.log
        self.unhit[role] -= {name for name, action in HIT.findall(said) if action == "kill"}
        self.timeline.note("ended", service.name, f"code {code}")
        # Asked before it could listen, it ends by the signal itself.
        clean = (code in {0, -signal.SIGTERM} and asked) or (role is Role.REBUILD and (code == 0 or _GAVE_UP in said))
        if not (code == -signal.SIGKILL or clean or " raise\n" in said):
            self.faults.append(f"{service.name} ended with {code}: {said[-600:]}")

    # --- what is done to them -----------------------------------------------------------------------------------------

    def _one(self, role: Role, which: float) -> Place | None:
        """One that has got as far as its work: whoever has not has nothing to lose."""
        places = [place for place in self.of(role) if place.service.ready_url is not None]
        return places[int(which * len(places))] if places else None

    def kill(self, role: Role, which: float) -> None:
        place = self._one(role, which)
        if place is not None and place.service.exit_code is None:
            self._kill(place)

    def kill_all(self, role: Role) -> None:
        for place in self.of(role):
            if place.service.exit_code is None:
                self._kill(place)

    def _kill(self, place: Place) -> None:
        place.service.end()
        self.kills[place.role] += 1
        self.timeline.note("kill", place.service.name)

    def freeze(self, role: Role, which: float, for_s: float) -> None:
        place = self._one(role, which)
        if place is not None and place.service.exit_code is None and place.frozen_until_s is None:
            place.service.freeze()
            place.frozen_until_s = self._loop.time() + for_s
            self.freezes[role] += 1
            self.timeline.note("freeze", place.service.name, f"{for_s:.1f} s")

    def stop(self, role: Role, which: float) -> None:
        """Ask it to end; its place is filled once it has."""
        place = self._one(role, which)
        if place is not None and place.service.exit_code is None and not place.asked_to_stop:
            place.asked_to_stop = True
            place.service.ask_to_stop()
            self.timeline.note("stop", place.service.name)

    def resize(self, role: Role, count: int) -> None:
        self._wanted[role] = count
        self.timeline.note("resize", role, str(count))
        leaving = [place for place in self.of(role) if not place.asked_to_stop][count:]
        for place in leaving:
            place.asked_to_stop = True
            place.service.ask_to_stop()

    def begin_rebuild(self) -> None:
        """Of the view; one at a time."""
        if self.rebuild is None:
            point = self._arming[Role.REBUILD].draw(self.unhit[Role.REBUILD]) if self.armed else ""
            self.rebuild = self.stand.start("services.projector", "rebuild", CRASHPOINTS=point)
            self.starts[Role.REBUILD] += 1
            self.timeline.note("rebuild", self.rebuild.name, point)

    # --- the end ------------------------------------------------------------------------------------------------------

    async def calm(self) -> None:
        """Nobody dies any more: all are killed once more, and who follows has no point to die at."""
        self.armed = False
        self._wanted = {Role.GATEWAY: 1, Role.FULFILLER: 2, Role.PROJECTOR: 2}
        for place in self.places:
            if place.service.exit_code is None:
                self._kill(place)
        if self.rebuild is not None:
            self.rebuild.end()
            self.rebuild = None
        self.look()
        await asyncio.gather(*(place.service.ready() for place in self.places))
