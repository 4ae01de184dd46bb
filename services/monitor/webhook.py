"""Posts every alert to a webhook, in order, each until it has been taken; nothing waits for it but the next one.

One that the receiver finds wrong in itself (400, 413, 415, 422) is given up after a few posts, and said to be: the
others must not wait for it for ever. Any other refusal (401 and 404 too) is about the receiver or the settings, and
ends when they are mended: until then nothing is lost, and it is said in the log, in /readyz and in the metrics.

It reads fulfillment.alerts as a consumer of its own, so a dead receiver holds nobody up, and what it missed is sent
when it is back. The first time it begins with what comes from then on.
"""

import asyncio
import hmac
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final, NamedTuple

import aiohttp
import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from pydantic import SecretStr

from schemas.alerts import Alert, read_alert
from schemas.topics import FULFILLMENT_ALERTS, MONITOR
from services import kafka
from services.health import Readiness
from services.monitor import metrics
from services.settings import Settings

log = structlog.get_logger()

ID_HEADER: Final = "Webhook-Id"
TIMESTAMP_HEADER: Final = "Webhook-Timestamp"
SIGNATURE_HEADER: Final = "Webhook-Signature"
_TIMEOUT_S: Final = 10.0
_FIRST_BACK_OFF_S: Final = 0.5
_LONGEST_BACK_OFF_S: Final = 60.0
_WRONG: Final = frozenset({400, 413, 415, 422})
_POSTS_OF_A_WRONG_ONE: Final = 5


class _Refused(NamedTuple):
    status: int | None
    """None where there was no answer."""
    why: str


def signature(secret: SecretStr, alert_id: str, timestamp: str, body: bytes) -> str:
    """Hex HMAC-SHA256 of `id.timestamp.body`."""
    text = f"{alert_id}.{timestamp}.".encode() + body
    return hmac.digest(secret.get_secret_value().encode(), text, "sha256").hex()


@asynccontextmanager
async def webhook(settings: Settings, readiness: Readiness) -> AsyncIterator[None]:
    """Post beside whatever else is done, where a webhook is set; `readiness` mentions it."""
    if settings.alert_webhook_url is None or settings.alert_webhook_secret is None:
        yield
        return
    hook = _Webhook(settings, settings.alert_webhook_url, settings.alert_webhook_secret, readiness)
    work = asyncio.create_task(hook.run())
    try:
        yield
    finally:
        work.cancel()
        with suppress(asyncio.CancelledError):
            await work


class _Webhook:
    def __init__(self, settings: Settings, url: str, secret: SecretStr, readiness: Readiness) -> None:
        self._settings = settings
        self._url = url
        self._secret = secret
        self._readiness = readiness
        self._silenced = frozenset(settings.alerts_silenced)

    async def run(self) -> None:
        """Until cancelled."""
        self._readiness.mention("webhook")
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S)) as session:
            while True:
                try:
                    await self._follow(session)
                except (KafkaError, OSError) as error:
                    log.warning("webhook_begins_again", why=repr(error))
                    await asyncio.sleep(_FIRST_BACK_OFF_S)
                except Exception:
                    log.exception("webhook_begins_again")
                    await asyncio.sleep(_LONGEST_BACK_OFF_S)

    async def _follow(self, session: aiohttp.ClientSession) -> None:
        consumer = AIOKafkaConsumer(
            self._settings.topic_prefix + FULFILLMENT_ALERTS,
            # Where the next one is kept no more, the first that is.
            **kafka.consumer_arguments(self._settings) | {"auto_offset_reset": "earliest"},
            group_id=f"{self._settings.topic_prefix}{MONITOR}-webhook",
            session_timeout_ms=round(self._settings.session_timeout_s * 1000),
            heartbeat_interval_ms=round(self._settings.session_timeout_s * 1000 / 5),
            # A receiver may be gone for long, and there is no other member that would fare better.
            max_poll_interval_ms=86_400_000,
        )
        await consumer.start()
        try:
            # From here on nothing is missed: a first start has no position until it is written.
            for partition in consumer.assignment():
                if await consumer.committed(partition) is None:
                    end = (await consumer.end_offsets([partition]))[partition]
                    consumer.seek(partition, end)
                    await consumer.commit({partition: end})
            log.info("webhook_follows")
            while True:
                for records in (await consumer.getmany(timeout_ms=1000, max_records=1)).values():
                    for record in records:
                        await self._deliver(session, record.value or b"")
                    await consumer.commit()
        finally:
            await consumer.stop()

    async def _deliver(self, session: aiohttp.ClientSession, body: bytes) -> None:
        try:
            alert = read_alert(body)
        except ValueError:
            log.warning("no_alert", size=len(body))
            return
        if alert.name in self._silenced:
            return
        began, back_off_s, found_wrong = time.monotonic(), _FIRST_BACK_OFF_S, 0
        while (answer := await self._post(session, alert, body)) is not None:
            metrics.HOOK_FAILURES.inc()
            metrics.HOOK_WAITING.set(time.monotonic() - began)
            self._readiness.mention("webhook", f"{alert.name} waits: {answer.why}")
            found_wrong += answer.status in _WRONG
            if found_wrong == _POSTS_OF_A_WRONG_ONE:
                metrics.HOOK_GIVEN_UP.inc()
                log.error("webhook_gave_up", alert=alert.name, id=alert.id, status=answer.status)
                self._settle(f"gave up {alert.name} {alert.id}: {answer.why}")
                return
            await asyncio.sleep(back_off_s)
            back_off_s = min(2 * back_off_s, _LONGEST_BACK_OFF_S)
        metrics.HOOK_SENT.inc()
        self._settle(None)

    def _settle(self, why: str | None) -> None:
        metrics.HOOK_WAITING.set(0)
        self._readiness.mention("webhook", why)

    async def _post(self, session: aiohttp.ClientSession, alert: Alert, body: bytes) -> _Refused | None:
        """None where it was taken."""
        timestamp = str(int(time.time()))
        headers = {
            "Content-Type": "application/json",
            ID_HEADER: alert.id,
            TIMESTAMP_HEADER: timestamp,
            SIGNATURE_HEADER: signature(self._secret, alert.id, timestamp, body),
        }
        refused: _Refused
        try:
            async with session.post(self._url, data=body, headers=headers, allow_redirects=False) as answer:
                if 200 <= answer.status < 300:
                    return None
                refused = _Refused(answer.status, f"status {answer.status}")
        except (aiohttp.ClientError, TimeoutError) as error:
            refused = _Refused(None, repr(error))
        log.warning("webhook_refused", alert=alert.name, id=alert.id, why=refused.why)
        return refused
