"""POST /api/admin/dead-letters/replay: sends dead letters back to where they came from, as they were."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import structlog
from aiohttp import web

from schemas.admission import Admission
from schemas.orders import OrderCreated
from schemas.poison import MAX_RECORD_BYTES, replay_headers
from services.gateway import body
from services.gateway.access import Caller
from services.gateway.address import Addresses
from services.gateway.audit import By
from services.gateway.database import Database, DatabaseAwayError
from services.gateway.dead_letters.judgement import Judged, Known, Letter, ReplayOutcome, Rules, Said, judge, read
from services.gateway.dead_letters.listing import QUERIES
from services.gateway.dead_letters.questions import LetterFilter, Place, Replay, cursor, resumed
from services.gateway.problem import NOT_REPLAYED, UNKNOWN_LETTER, Problem, unavailable
from services.gateway.reads.reading import Reading
from services.gateway.reads.selection import Where
from services.gateway.writer import NotWrittenError, Writer
from services.settings import Settings

PER_S: Final = 100
"""So that what is sent back does not stand in the way of what is new."""
_AT_ONCE: Final = 25
"""Letters in memory: one may have a quarter of a megabyte."""
_TIMEOUT_S: Final = 5.0
_BEYOND: Final = '(letter.at, letter.partition, letter."offset") > ({}, {}, {})'
_AMONG: Final = '(letter.partition, letter."offset") IN (SELECT * FROM unnest({}::int[], {}::bigint[]))'
_SAID: Final = "{} of {} dead letters {}"

log = structlog.get_logger()


class Replays:
    def __init__(
        self, settings: Settings, reading: Reading, database: Database, writer: Writer, addresses: Addresses
    ) -> None:
        self._reading = reading
        self._database = database
        self._writer = writer
        self._addresses = addresses
        self._rules = Rules(
            Admission(timedelta(seconds=settings.dedupe_window), settings.max_size_mb), settings.partitions
        )

    async def replay(self, request: web.Request, caller: Caller) -> web.Response:
        said = await body.read(request, Replay)
        run = _Run(By(caller.actor, self._addresses.of(request)), said)
        found = 0
        async for letters in self._chunks(run):
            found += len(letters)
            await self._see_to(run, letters)
        if not found:
            named = ", ".join((said.ids or [])[:5])
            raise Problem(UNKNOWN_LETTER, f"no dead letter {named}" if named else "no dead letter fits the filter")
        if not run.done and not said.dry_run:
            raise Problem(NOT_REPLAYED, run.why(), members={"items": run.items, "next": run.next})
        return body.json_response(run.said(), status=200 if said.dry_run else 202)

    # --- which ---------------------------------------------------------------------------------------------------

    async def _chunks(self, run: "_Run") -> AsyncIterator[list[Letter]]:
        if run.asked.ids:
            for places in _batched(run.asked.places):
                where = Where()
                where.add(_AMONG, [place.partition for place in places], [place.offset for place in places])
                letters = await self._letters(where, len(places))
                there = {letter.place for letter in letters}
                for place in places:
                    if place not in there:
                        run.note(place, Judged(ReplayOutcome.UNKNOWN, "there is no such dead letter"))
                yield letters
            return
        after, left = run.asked.cursor, run.asked.limit
        while left > 0:
            where = (run.asked.filter or LetterFilter()).where()
            if not run.asked.again:
                where.conditions.append("coalesce(replay.times, 0) = 0")
            if after is not None:
                where.add(_BEYOND, *resumed(after))
            size = min(left, _AT_ONCE)
            letters = await self._letters(where, size + 1)
            more, letters = len(letters) > size, letters[:size]
            left -= size
            if letters:
                after = cursor(letters[-1].at, letters[-1].place)
                yield letters
            run.next = after if more else None
            if not more:
                return

    async def _letters(self, where: Where, limit: int) -> list[Letter]:
        sql = QUERIES["to_replay"].format(where=where.sql, limit=limit, largest=MAX_RECORD_BYTES)
        return [Letter(*row) for row in await self._reading.fetch(sql, *where.values)]

    # --- each --------------------------------------------------------------------------------------------------------

    async def _see_to(self, run: "_Run", letters: Sequence[Letter]) -> None:
        """Judge them, and send back those that can be."""
        good = []
        said = {letter.place: read(letter, self._rules) for letter in letters}
        known = await self._known([what for what in said.values() if not isinstance(what, Judged)])
        now = datetime.now(UTC)
        for letter in letters:
            what = said[letter.place]
            if not isinstance(what, Judged):
                what = judge(letter, what, known.get(_order_id(what)), self._rules, now, again=run.asked.again)
            if what.outcome is ReplayOutcome.REPLAYABLE and not run.asked.dry_run:
                good.append(letter)
            else:
                run.note(letter.place, what)
        if good:
            await self._send(run, good)

    async def _known(self, said: Sequence[Said]) -> Mapping[str, Known]:
        wanted = sorted({order_id for what in said if (order_id := _order_id(what))})
        rows = await self._reading.fetch(QUERIES["orders"], wanted) if wanted else []
        return {row[0]: Known(*row) for row in rows}

    async def _send(self, run: "_Run", letters: Sequence[Letter]) -> None:
        """Claim them, so that nobody else sends them too, then write them one by one. Problem 503 in between."""
        claimed = await self._claim(run, letters)
        ours = [letter for letter in letters if letter.place in claimed]
        for letter in letters:
            if letter.place not in claimed:
                run.note(
                    letter.place,
                    Judged(ReplayOutcome.UNDER_WAY, "somebody else is sending it back, or has just done so"),
                )
        for n, letter in enumerate(ours):
            await run.pace()
            try:
                await self._write(letter)
            except NotWrittenError as error:
                await self._settle(ours[:n], written=True)
                if error.maybe_written:
                    run.note(letter.place, Judged(ReplayOutcome.PERHAPS, "Kafka did not acknowledge in time"))
                    await self._settle(ours[n + 1 :], written=False)
                else:
                    run.note(letter.place, Judged(ReplayOutcome.NOT_WRITTEN, "Kafka is away"))
                    await self._settle(ours[n:], written=False)
                raise _broken_off(run) from error
            run.note(letter.place, Judged(ReplayOutcome.REPLAYED))
            log.info("dead_letter_replayed", letter=str(letter.place), topic=letter.topic, actor=run.by.actor)
        await self._settle(ours, written=True)

    async def _write(self, letter: Letter) -> None:
        assert letter.topic is not None  # noqa: S101 - `read` has seen to both
        assert letter.from_partition is not None  # noqa: S101 - as above
        headers = replay_headers(letter.raw_headers, str(letter.place))
        await self._writer.append_as_it_is(letter.topic, letter.from_partition, letter.key, letter.value, headers)

    async def _claim(self, run: "_Run", letters: Sequence[Letter]) -> set[Place]:
        try:
            rows = await self._database.fetch(
                "claim_replays",
                *(run.by.actor, run.by.address, run.asked.reason, *_places(letters), run.asked.again),
                timeout_s=_TIMEOUT_S,
            )
        except DatabaseAwayError as error:
            raise _broken_off(run) from error
        return {Place(*row) for row in rows}

    async def _settle(self, letters: Sequence[Letter], *, written: bool) -> None:
        if not letters:
            return
        try:
            await self._database.fetch("settle_replays", *_places(letters), written, timeout_s=_TIMEOUT_S)
        except DatabaseAwayError as error:
            # The claims go stale, and whoever sends them back once more does no harm.
            log.info("replays_not_settled", error=str(error))


class _Run:
    """One call, and what came of its letters so far."""

    def __init__(self, by: By, asked: Replay) -> None:
        self.by = by
        self.asked = asked
        self.items: list[dict[str, Any]] = []
        self.next: str | None = None
        self._counts: Counter[ReplayOutcome] = Counter()
        self._next_at_s = 0.0

    @property
    def done(self) -> int:
        return self._counts[ReplayOutcome.REPLAYED]

    def note(self, place: Place, judged: Judged) -> None:
        self._counts[judged.outcome] += 1
        self.items.append({"id": str(place), "outcome": judged.outcome.value, "why": judged.why})

    async def pace(self) -> None:
        """Wait for the next letter's turn."""
        now_s = asyncio.get_running_loop().time()
        await asyncio.sleep(max(0.0, self._next_at_s - now_s))
        self._next_at_s = max(now_s, self._next_at_s) + 1 / PER_S

    def why(self) -> str:
        """Of one letter its own reason, of several how many have which."""
        if len(self.items) == 1:
            return str(self.items[0]["why"])
        counts = ", ".join(f"{count} {outcome.value}" for outcome, count in sorted(self._counts.items()))
        return f"none of {len(self.items)} dead letters was sent back: {counts}"

    def said(self) -> dict[str, Any]:
        outcome = ReplayOutcome.REPLAYABLE if self.asked.dry_run else ReplayOutcome.REPLAYED
        done = "can be sent back" if self.asked.dry_run else "sent back"
        return {
            "success": True,
            "message": _SAID.format(self._counts[outcome], len(self.items), done),
            "counts": {outcome.value: count for outcome, count in self._counts.items()},
            "items": self.items,
            "next": self.next,
        }


def _broken_off(run: _Run) -> Problem:
    problem = unavailable(
        f"Kafka or the database is away: {run.done} dead letters were sent back; ask again for the others"
    )
    problem.members = {"items": run.items}
    return problem


def _order_id(said: Said) -> str:
    """Empty where it is about no order."""
    return said.order_id if isinstance(said, OrderCreated) else str(getattr(said, "order_id", ""))


def _places(letters: Sequence[Letter]) -> tuple[list[int], list[int], list[datetime]]:
    return [one.partition for one in letters], [one.offset for one in letters], [one.at for one in letters]


def _batched(places: Sequence[Place]) -> list[Sequence[Place]]:
    return [places[n : n + _AT_ONCE] for n in range(0, len(places), _AT_ONCE)]
