"""What is refused before any route is known: bytes that are not HTTP, headers beyond measure."""

import asyncio
from http import HTTPStatus
from typing import Any, Final

import structlog
from aiohttp import web

from services.gateway.problem import BAD_HTTP, HEADERS, Problem

HEAD_TIMEOUT_S: Final = 10.0
"""From a connection's first byte, or a further request's, to the end of its head."""
KEEP_ALIVE_S: Final = 75.0
TAKE_TIMEOUT_S: Final = 60.0
"""Within it a client takes what is ready for it, or nothing more is kept for it."""
LINGER_S: Final = 2.0
"""How long a body that nobody wants is read on, for its sender to see the answer."""

log = structlog.get_logger()


class _Protocol(web.RequestHandler):
    """aiohttp would answer in plain text, and write the bytes to the log: a header may hold a key."""

    __slots__ = ("_head_timer", "_take_timer")

    _head_timer: asyncio.TimerHandle | None
    _take_timer: asyncio.TimerHandle | None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._take_timer = None
        self._head_timer = self._loop.call_later(HEAD_TIMEOUT_S, self._head_is_late)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._stop_timer()
        self._stop_take_timer()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._take_timer is None:
            self._take_timer = self._loop.call_later(TAKE_TIMEOUT_S, self._takes_nothing)

    def resume_writing(self) -> None:
        self._stop_take_timer()
        super().resume_writing()

    def _takes_nothing(self) -> None:
        """An answer that nobody reads would be held for ever, and anybody may ask for a long one."""
        self._take_timer = None
        if self.transport is not None:
            log.info("answer_not_taken")
            self.transport.abort()

    def _stop_take_timer(self) -> None:
        if self._take_timer is not None:
            self._take_timer.cancel()
            self._take_timer = None

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._waits_for_head():
            self._stop_timer()
        elif self._head_timer is None:
            self._head_timer = self._loop.call_later(HEAD_TIMEOUT_S, self._head_is_late)

    def _waits_for_head(self) -> bool:
        return self._request_count == 0 or (self._waiter is not None and not self._waiter.done())

    def _head_is_late(self) -> None:
        """Aiohttp itself bounds only how long a connection is idle, which a byte a minute does not seem to be."""
        self._head_timer = None
        if self._waits_for_head():
            log.info("head_too_slow")
            self.force_close()

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if status != HTTPStatus.BAD_REQUEST:
            return super().handle_error(request, status, exc, message)
        log.info("bad_http", error=type(exc).__name__)
        response = Problem(BAD_HTTP, "the request's head cannot be read, or is too large").response()
        response.headers.update(HEADERS)
        response.force_close()
        return response


class _Server(web.Server):
    def __call__(self) -> web.RequestHandler:
        return _Protocol(self, loop=self._loop, **self._kwargs)


class Runner(web.AppRunner):
    async def _make_server(self) -> web.Server:
        made: Any = await super()._make_server()
        # aiohttp leaves no public way to name the protocol's class.
        return _Server(made.request_handler, request_factory=made.request_factory, **made._kwargs)  # noqa: SLF001
