"""What fulfillment.providers says, as it is said: read to its end, then on, by every worker."""

import asyncio
from collections.abc import Mapping
from typing import Final

import structlog
from pydantic import ValidationError

from schemas.providers import read_provider
from schemas.topics import FULFILLMENT_PROVIDERS
from services.fulfiller import metrics
from services.fulfiller.lane import Lane
from services.fulfiller.log import Log, LogError, Record, Source

POLL_S: Final = 5.0
CATCH_UP_POLL_S: Final = 0.1
"""At the end there may be no record to wait for: transactions' markers alone."""
RETRY_S: Final = 0.5
_SOURCE: Final = Source(FULFILLMENT_PROVIDERS, 0)

log = structlog.get_logger()


class Bulletin:
    def __init__(self, log_: Log, lanes: Mapping[str, Lane]) -> None:
        self._log = log_
        self._lanes = lanes
        self.caught_up = asyncio.Event()
        """It was read to its end once: before that nobody knows who is suspended."""
        self._next: int | None = None
        """The offset behind what was told. What was so before is told to nobody again: who is suspended would be up
        until the end is reached."""

    async def keep(self) -> None:
        """Tell the lanes. Runs until cancelled; while the log is away what was heard last holds."""
        while True:
            try:
                await self._follow()
            except LogError as error:
                log.warning("providers_not_read", error=str(error))
            except Exception:
                metrics.ALARMS.labels("bulletin_crashed").inc()
                log.exception("bulletin_crashed")
            await asyncio.sleep(RETRY_S)

    async def _follow(self) -> None:
        reader = await self._log.open_reader()
        try:
            bounds = (await reader.bounds([_SOURCE]))[_SOURCE]
            told = bounds.begin if self._next is None else self._next
            # Beyond its end it is another topic, made anew.
            reader.assign({_SOURCE: told if bounds.begin <= told <= bounds.end else bounds.begin})
            while True:
                if await reader.position(_SOURCE) >= bounds.end:
                    self.caught_up.set()
                poll_s = POLL_S if self.caught_up.is_set() else CATCH_UP_POLL_S
                for record in (await reader.poll(poll_s)).get(_SOURCE, ()):
                    self._tell(record)
                    self._next = record.offset + 1
        finally:
            await reader.close()

    def _tell(self, record: Record) -> None:
        if record.value is None:
            return
        try:
            changed = read_provider(record.value)
        except ValidationError as error:
            metrics.ALARMS.labels("unreadable_provider").inc()
            log.error("provider_unreadable", offset=record.offset, fault=error.errors(include_input=False)[:1])  # noqa: TRY400 - the fault says all
            return
        lane = self._lanes.get(changed.provider)
        if lane is not None:
            lane.hear(changed)
