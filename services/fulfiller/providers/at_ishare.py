"""AT-iShare: JSON over HTTP, signed. What its answers mean is decided in `at_ishare_answers`."""

import socket
import struct
import sys
import time
from typing import Self
from urllib.parse import quote

import aiohttp
import orjson
import structlog
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import BytesPayload
from yarl import URL

from services.at_ishare_contract import (
    BALANCE_PATH,
    KEY_HEADER,
    NAME,
    PURCHASE_PATH,
    REFERENCE_MEMORY_S,
    SIGNATURE_HEADER,
    TIMESTAMP_HEADER,
    Purchase,
    sign,
)
from services.crashpoints import crashpoint
from services.fulfiller.providers.at_ishare_answers import Answer, AnswerReader
from services.fulfiller.providers.port import Balance, Deadline, Outcome, OutcomeClass, Profile
from services.fulfiller.time_limit import TimeLimit
from services.settings import Settings

MAX_BODY_BYTES = 64 * 1024

_NO_CEILING_S = 1e9
"""aiohttp rounds longer timeouts up to whole seconds; a deadline is not to be rounded."""
_NO_TIMEOUT = aiohttp.ClientTimeout(total=None)
_LINGER_0 = struct.pack("ii", 1, 0)


class _TooLateError(Exception):
    """Raised instead of sending."""


class _GuardedPayload(BytesPayload):
    """Checks the deadline where nothing comes between the check and the first byte: aiohttp holds the headers back to
    send them together with the body, and asks the body to write itself last of all.
    """

    def __init__(self, body: bytes, deadline: Deadline) -> None:
        super().__init__(body, content_type="application/json")
        self.body = body
        self._deadline = deadline
        self.too_late = False
        self.stale = False
        self.may_have_left = False

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        if _remaining_s(self._deadline) <= 0:
            self.too_late = True
            raise _TooLateError
        transport = writer.transport
        if transport is None or transport.is_closing():
            self.stale = True
            raise ConnectionResetError("closed before the first byte")
        self.may_have_left = True
        await super().write_with_length(writer, content_length)
        crashpoint("fulfiller.request_sent")


class AtIShare:
    """The adapter. `start` makes it (inside the running loop), `close` ends it."""

    def __init__(self, session: aiohttp.ClientSession, url: str, key: str, secret: str, profile: Profile) -> None:
        self._session = session
        self._profile = profile
        self._key = key
        self._secret = secret.encode()
        # Bound once, after logging was set up: the lazy one costs 20 µs a line, switched off or not.
        self._log = structlog.get_logger("at_ishare").bind()
        self._reader = AnswerReader((key, secret))
        base = url.rstrip("/")
        self._purchase_url = URL(base + PURCHASE_PATH, encoded=True)
        self._balance_url = URL(base + BALANCE_PATH, encoded=True)
        self._query_timeout = aiohttp.ClientTimeout(total=profile.call_timeout_s, ceil_threshold=_NO_CEILING_S)

    @classmethod
    async def start(cls, settings: Settings) -> Self:
        timeout_s = settings.at_ishare_timeout_s
        profile = Profile(
            name=NAME,
            networks=frozenset(network for network, provider in settings.routes.items() if provider == NAME),
            idempotent_references=True,
            reference_memory_s=REFERENCE_MEMORY_S,
            status_query=True,
            not_found_final_s=settings.at_ishare_not_found_final_s,
            call_timeout_s=timeout_s,
        )
        session = aiohttp.ClientSession(
            # The fulfiller's slots bound the calls; a second queue here would lie between intent and deadline check.
            connector=aiohttp.TCPConnector(limit=0, socket_factory=_socket_factory(timeout_s)),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Accept": "application/json", "Accept-Encoding": "identity"},
            auto_decompress=False,
        )
        return cls(
            session,
            settings.at_ishare_api_url,
            settings.at_ishare_api_key.get_secret_value(),
            settings.at_ishare_api_secret.get_secret_value(),
            profile,
        )

    @property
    def profile(self) -> Profile:
        return self._profile

    async def close(self) -> None:
        await self._session.close()

    async def deliver(self, reference: str, phone: str, size_mb: int, network: str, deadline: Deadline) -> Outcome:
        if _remaining_s(deadline) <= 0:
            return _too_late()
        self._log.info("[AT-ISHARE] Calling API with reference: %s", reference)
        payload = _GuardedPayload(orjson.dumps(Purchase(reference, phone, network, size_mb)), deadline)
        try:
            answer = await self._post(payload, deadline)
        except Exception as error:  # noqa: BLE001 - whatever went wrong, what counts is whether a byte may have left
            return self._without_answer(error, reference, payload)
        self._log.info("[AT-ISHARE] API Response status: %d", answer.http_status, reference=reference)
        return self._reader.delivery(answer, reference)

    async def verify(self, reference: str) -> Outcome:
        url = URL(f"{self._purchase_url}/{quote(reference, safe='')}", encoded=True)
        try:
            answer = await self._get(url)
        except Exception as error:  # noqa: BLE001 - a query without an answer proves nothing, whatever the cause
            self._log.warning("[AT-ISHARE] No answer to a status query", reference=reference, error=_named(error))
            return Outcome(OutcomeClass.NO_ANSWER, message=_named(error))
        self._log.info("[AT-ISHARE] Status query answered: %d", answer.http_status, reference=reference)
        return self._reader.status(answer, reference)

    async def balance(self) -> Balance | None:
        try:
            answer = await self._get(self._balance_url)
        except Exception as error:  # noqa: BLE001 - no balance now, whatever the cause
            self._log.warning("[AT-ISHARE] No answer to a balance query", error=_named(error))
            return None
        return self._reader.balance(answer)

    async def _post(self, payload: _GuardedPayload, deadline: Deadline) -> Answer:
        headers = self._headers("POST", self._purchase_url, payload.body)
        for spare in (2, 1, 0):
            try:
                with TimeLimit(_remaining_s(deadline)):
                    async with self._session.post(
                        self._purchase_url, data=payload, headers=headers, timeout=_NO_TIMEOUT, allow_redirects=False
                    ) as response:
                        return await _read(response)
            except aiohttp.ClientError:
                # A kept connection was closed just before it was used, and not a byte was sent: take another.
                if not spare or not payload.stale or payload.may_have_left:
                    raise
                payload.stale = False
        raise AssertionError("the last round returns or raises")

    def _without_answer(self, error: Exception, reference: str, payload: _GuardedPayload) -> Outcome:
        if payload.too_late:
            return _too_late()
        if not payload.may_have_left:
            self._log.warning("[AT-ISHARE] Call not sent", reference=reference, error=_named(error))
            return Outcome(OutcomeClass.NOT_SENT, message=_named(error))
        expected = isinstance(error, aiohttp.ClientError | TimeoutError | OSError)
        self._log.warning(
            "[AT-ISHARE] No answer to a call", reference=reference, error=_named(error), exc_info=not expected
        )
        return Outcome(OutcomeClass.UNKNOWN, message=_named(error), alert=not expected)

    async def _get(self, url: URL) -> Answer:
        headers = self._headers("GET", url, b"")
        async with self._session.get(
            url, headers=headers, timeout=self._query_timeout, allow_redirects=False
        ) as response:
            return await _read(response)

    def _headers(self, method: str, url: URL, body: bytes) -> dict[str, str]:
        timestamp = str(int(time.time()))
        return {
            KEY_HEADER: self._key,
            TIMESTAMP_HEADER: timestamp,
            SIGNATURE_HEADER: sign(self._secret, timestamp, method, url.raw_path, body),
        }


def _remaining_s(deadline: Deadline) -> float:
    """The wall clock sees a machine that slept, the monotonic one a wall clock that was set back."""
    return min(deadline.monotonic_s - time.monotonic(), deadline.wall_s - time.time())


async def _read(response: aiohttp.ClientResponse) -> Answer:
    body = bytearray()
    while chunk := await response.content.readany():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            response.close()
            return Answer(response.status, None, None)
    return Answer(response.status, bytes(body), response.headers.get("Retry-After"))


def _too_late() -> Outcome:
    return Outcome(OutcomeClass.NOT_SENT, message="the deadline had passed before the first byte")


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]


def _socket_factory(timeout_s: float) -> aiohttp.SocketFactoryType:
    """Sockets that the kernel does not go on sending from when their process is gone."""

    def make(address: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, _ = address
        made = socket.socket(family, kind, protocol)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)
        if sys.platform == "linux":
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, max(1, int(timeout_s * 1000)))
        return made

    return make
