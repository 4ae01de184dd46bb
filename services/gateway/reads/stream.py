"""GET /api/admin/fulfillment/stream: orders as they change, to everybody who listens (server-sent events)."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, NamedTuple

import orjson
import structlog
from aiohttp import hdrs, web
from aiohttp_sse import EventSourceResponse

from schemas.topics import FULFILLMENT_DEAD_LETTER, FULFILLMENT_EVENTS
from services.gateway import body
from services.gateway.access import Caller
from services.gateway.problem import HEADERS, INVALID_REQUEST, Problem
from services.gateway.reads.lasting import Lasting
from services.gateway.reads.questions import Streamed, asked
from services.gateway.reads.reading import QUERIES, Reading
from services.gateway.reads.stand import Stand, stretches

MAX_ORDERS: Final = 500
"""In one message; a client that has missed more is told to load its list anew."""
RETRY_MS: Final = 1000

_GATHER_S: Final = 0.2
_PING_S: Final = 15
_SEND_S: Final = 30.0
_LISTENING: Final = 100
"""Streams of one caller at once."""
_BEHIND: Final = 64
"""Messages that a slow client may be behind before it is sent away, to come back when it can."""

log = structlog.get_logger()


class Message(NamedTuple):
    stand: Stand
    event: str
    """`changed`: the rows as they are now; `reset`: too much has happened, load anew; `ready`: nothing was missed."""
    whole: bytes
    """As it is sent: made once for all who listen."""
    brief: bytes
    """With each row's id, sequence and time alone."""


class Notice(NamedTuple):
    """For those who are told briefly; it has no id, for it moves nothing."""

    brief: bytes
    whole: bytes = b""


class Feed:
    """What changes, looked up once for all who listen."""

    def __init__(self, reading: Reading, topic_prefix: str) -> None:
        self._reading = reading
        self._topics = (topic_prefix + FULFILLMENT_EVENTS, topic_prefix + FULFILLMENT_DEAD_LETTER)
        self._listeners: set[asyncio.Queue[Message | Notice | None]] = set()
        self._noticed: set[str] = set()
        self._wake = asyncio.Event()
        self._stand: Stand | None = None
        self._over = False

    def notify(self, order_ids: str) -> None:
        """The projector's payload: order ids, comma-separated."""
        if self._listeners:
            self._noticed.update(order_ids.split(","))
            self._wake.set()

    def say(self, what: str) -> None:
        """Something else than an order has changed, `providers` or `alerts`: whoever looks things up by itself does."""
        notice = b"event: %b\r\ndata: {}\r\n\r\n" % what.encode()
        for queue in self._listeners:
            _put(queue, Notice(notice))

    def look_again(self) -> None:
        """Notices may have been missed."""
        self._wake.set()

    def send_away(self, _key_id: str = "") -> None:
        """A key was revoked, perhaps a listener's. Everybody comes back at once, and is asked again who it is."""
        for queue in self._listeners:
            _end(queue)

    def close(self) -> None:
        """The gateway stops."""
        self._over = True
        self.send_away()

    @contextmanager
    def listening(self) -> Iterator[asyncio.Queue[Message | Notice | None]]:
        """A queue of messages; None is the end."""
        queue: asyncio.Queue[Message | Notice | None] = asyncio.Queue(_BEHIND)
        self._listeners.add(queue)
        if self._over:
            _end(queue)
        try:
            yield queue
        finally:
            self._listeners.discard(queue)

    def begin(self, stand: Stand) -> None:
        """The first listener knows the view up to here: what comes after it is looked for."""
        if self._stand is None:
            self._stand = stand

    async def run(self) -> None:
        """For ever."""
        while True:
            await self._wake.wait()
            await asyncio.sleep(_GATHER_S)
            self._wake.clear()
            noticed, self._noticed = self._noticed, set()
            if not self._listeners:
                self._stand = None
                continue
            try:
                message = await self.since(self._stand, noticed)
            except Problem as problem:
                log.info("feed_waits", why=problem.detail)
                self._noticed |= noticed
                continue  # when the database is back, everybody looks again
            self._stand = message.stand
            if message.event == "ready":
                continue  # nothing to tell; where it was is good enough to come back with
            for queue in self._listeners:
                _put(queue, message)

    async def since(self, since: Stand | None, noticed: set[str]) -> Message:
        """What has changed since then, and where the view stands now; without `since` only what was noticed."""
        now = await self.stand()
        if since is not None and not since.precedes(now):
            return _message(now, "reset")
        came = [stretches(before, after) for before, after in zip(since or now, now, strict=True)]
        places = [[list(part) for part in zip(*stretch, strict=True)] or [[], [], []] for stretch in came]
        rows = await self._reading.fetch(QUERIES["changed"], *places[0], *places[1], list(noticed), MAX_ORDERS + 1)
        if len(rows) > MAX_ORDERS:
            return _message(now, "reset")
        return _message(now, "changed" if rows else "ready", rows)

    async def missed(self, since: Stand) -> Message:
        """As `since`, for a client that comes back."""
        rows = await self._reading.fetch(QUERIES["unanswered"], MAX_ORDERS)
        return await self.since(since, {order_id for (order_id,) in rows})

    async def stand(self) -> Stand:
        """Where the view stands now: what is looked up afterwards is at least as new."""
        offsets: defaultdict[str, dict[int, int]] = defaultdict(dict)
        for topic, partition, offset in await self._reading.fetch(QUERIES["stands"], list(self._topics)):
            offsets[topic][partition] = offset
        return Stand.of(*(offsets[topic] for topic in self._topics))


class Streams:
    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._lasting = Lasting("streams")

    async def stream(self, request: web.Request, caller: Caller) -> web.StreamResponse:
        question = asked(request, Streamed)
        brief = question.rows == "brief"
        had = request.headers.get("Last-Event-ID")
        name, said = ("since", question.since) if had is None else ("Last-Event-ID", had)
        try:
            since = None if said is None else Stand.read(said)
        except ValueError as error:
            raise Problem(INVALID_REQUEST, f"{name}: {error}") from None
        if request.method == hdrs.METH_HEAD:
            return web.Response(content_type="text/event-stream")
        with (
            self._feed.listening() as queue,
            self._lasting.one_of(caller, partial(_end, queue), at_most=_LISTENING, again_s=_PING_S),
        ):
            first = await (self._feed.since(None, set()) if since is None else self._feed.missed(since))
            self._feed.begin(first.stand)
            if request.transport is None:  # whoever asked left meanwhile: nobody hears an answer
                return web.Response()
            response = EventSourceResponse(headers=HEADERS, ping_interval=_PING_S)
            await response.prepare(request)
            async with response:
                # A client that is gone is noticed by a ping that cannot be sent.
                telling = asyncio.create_task(_tell(request, response, first, queue, brief=brief))
                gone = asyncio.create_task(response.wait())
                await asyncio.wait({telling, gone}, return_when=asyncio.FIRST_COMPLETED)
                telling.cancel()
                gone.cancel()
        return response


async def _tell(
    request: web.Request,
    response: EventSourceResponse,
    first: Message,
    queue: asyncio.Queue[Message | Notice | None],
    *,
    brief: bool,
) -> None:
    try:
        await _send(response, f"retry: {RETRY_MS}\r\n".encode() + (first.brief if brief else first.whole))
        while (message := await queue.get()) is not None:
            if said := message.brief if brief else message.whole:
                await _send(response, said)
    except (ConnectionError, TimeoutError) as error:
        log.info("listener_gone", error=type(error).__name__)
        if request.transport is not None:  # what is left to be written would never be
            request.transport.abort()


async def _send(response: EventSourceResponse, said: bytes) -> None:
    async with asyncio.timeout(_SEND_S):
        await response.write(said)


def _message(stand: Stand, event: str, rows: Sequence[Any] | None = None) -> Message:
    if rows is None:
        nothing = _encoded(stand, event, {})
        return Message(stand, event, nothing, nothing)
    few = [{name: row[name] for name in ("order_id", "sequence", "created_at")} for row in rows]
    whole = _encoded(stand, event, {"logs": [dict(row) for row in rows]})
    return Message(stand, event, whole, _encoded(stand, event, {"logs": few}))


def _encoded(stand: Stand, event: str, content: dict[str, Any]) -> bytes:
    """As the HTML standard has an event; JSON holds no line breaks."""
    data = orjson.dumps(content, default=body.plain)
    return b"id: %b\r\nevent: %b\r\ndata: %b\r\n\r\n" % (str(stand).encode(), event.encode(), data)


def _put(queue: asyncio.Queue[Message | Notice | None], message: Message | Notice) -> None:
    try:
        queue.put_nowait(message)
    except asyncio.QueueFull:
        _end(queue)


def _end(queue: asyncio.Queue[Message | Notice | None]) -> None:
    """Now, whatever has not been read yet: a client that comes back says what it had last."""
    while not queue.empty():
        queue.get_nowait()
    queue.put_nowait(None)
