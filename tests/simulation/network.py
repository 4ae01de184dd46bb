"""Requests to simulated servers: they take time, wait out a partition, and their answers may be lost."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from tests.simulation.loop import Process, SimLoop, drawn_latency

RETRANSMIT_S: Final = 0.3
RETRANSMITTED_S: Final = 20.0
"""A request that could not leave for so long is given up by its sender's kernel."""


class Lost(Exception):  # noqa: N818 - neither a failure nor a success is known
    """No answer came in time."""


class _Exchange:
    """One request and its answer."""

    __slots__ = ("_act", "_loop", "_process", "_sent_s", "_server", "_until_s", "answer")

    def __init__(
        self, loop: SimLoop, process: Process, server: str, act: Callable[[], Any], until_s: float | None
    ) -> None:
        self._loop = loop
        self._process = process
        self._server = server
        self._act = act
        self._sent_s = loop.now_s
        self._until_s = until_s
        """None once it is seen to, or where nobody gives up."""
        self.answer: asyncio.Future[Any] = loop.create_future()
        self._travel(self._arrive)

    def _travel(self, to: Callable[..., None], *what: Any) -> None:
        latency_s = drawn_latency(self._loop.random)
        if self._until_s is not None and self._loop.now_s + latency_s > self._until_s:
            self._see_to_the_end()
        self._loop.in_world(latency_s, to, *what)

    def _see_to_the_end(self) -> None:
        """Have it given up in time: only now is it known that it may take so long."""
        if self._until_s is not None:
            give_up_in(self._loop, self._until_s - self._loop.now_s, self.answer)
            self._until_s = None

    def _arrive(self) -> None:
        if self._server in self._process.cut_from:
            self._see_to_the_end()
            self._process.once_reached(self._server, RETRANSMIT_S, self._arrive)
            return
        if self._loop.now_s - self._sent_s > RETRANSMITTED_S:
            return
        try:
            result = self._act()
        except Exception as error:  # noqa: BLE001 - the caller's to judge
            self._travel(self._give, None, error)
            return
        if isinstance(result, asyncio.Future):
            self._see_to_the_end()
            result.add_done_callback(self._done, context=self._loop.world.context)
        else:
            self._travel(self._give, result, None)

    def _done(self, result: asyncio.Future[Any]) -> None:
        if not result.cancelled():
            error = result.exception()
            self._travel(self._give, None if error else result.result(), error)

    def _give(self, value: Any, error: BaseException | None) -> None:
        if self._server in self._process.cut_from:
            self._see_to_the_end()
            self._process.once_reached(self._server, RETRANSMIT_S, self._give, value, error)
        elif self.answer.done():
            return
        elif error is None:
            self.answer.set_result(value)
        else:
            self.answer.set_exception(error)
            self.answer.exception()  # looked at: whoever waited may be gone


class Network:
    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop

    def call(
        self, process: Process, server: str, act: Callable[[], Any], until_s: float | None = None
    ) -> asyncio.Future[Any]:
        """Have the server do `act`, which may return a future; the answer, once it is back. It may never be; Lost
        where it does not come until then.
        """
        return _Exchange(self._loop, process, server, act, until_s).answer

    async def ask(self, process: Process, server: str, act: Callable[[], Any], timeout_s: float) -> Any:
        """As `call`; Lost where no answer came in time."""
        return await self.call(process, server, act, self._loop.now_s + timeout_s)


def give_up_in(loop: SimLoop, after_s: float, answer: asyncio.Future[Any]) -> None:
    loop.in_world(after_s, _give_up, answer)


def _give_up(answer: asyncio.Future[Any]) -> None:
    if not answer.done():
        answer.set_exception(Lost("no answer in time"))
        answer.exception()  # looked at: whoever waited may be gone
