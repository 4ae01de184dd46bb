"""Statistics as projectors write them, made up: hours of them in a moment."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from schemas.statistics import BUCKET_S, Count, Part, Standing, Stands, Statistics
from services.monitor.watch import Entry

NETWORK: Final = "AT-iShare"
SUBJECT: Final = "AT-iShare/at-ishare"
BEGAN_S: Final = 1_760_000_000


def said(at_s: float, *parts: Part, stands: Stands | None = None) -> Statistics:
    return Statistics(at=datetime.fromtimestamp(at_s, UTC), parts=parts, stands=stands)


def part(at_s: float, start: int, *, topic: str = "fulfillment.events", partition: int = 0, **counts: int) -> Part:
    """What one partition had from `start` on, all in the bucket of `at_s`."""
    bucket = int(at_s) - int(at_s) % BUCKET_S
    records = max(1, sum(counts.values()))
    said = (Count(bucket=bucket, network=NETWORK, provider="at-ishare", **counts),) if counts else ()
    return Part(
        topic=topic, partition=partition, start=start, end=start + records, records={bucket: records}, counts=said
    )


def behind(records: int, *, partition: int = 0) -> Part:
    """A partition of which so many records are not in the view."""
    return Part(topic="fulfillment.events", partition=partition, start=0, end=0, lag_records=records)


def standing(**figures: float) -> Stands:
    return Stands(networks=(Standing.model_validate({"network": NETWORK, "provider": "at-ishare"} | figures),))


def entries(said: Sequence[Statistics | bytes]) -> list[Entry]:
    """As the log has them, taken when they were said."""
    log, at_s = [], float(BEGAN_S)
    for offset, one in enumerate(said):
        at_s = max(at_s, one.at.timestamp()) if isinstance(one, Statistics) else at_s
        log.append(Entry(offset, at_s, one if isinstance(one, bytes) else value(one)))
    return log


def value(one: Statistics) -> bytes:
    return one.model_dump_json(exclude_defaults=True).encode()


def troubled_hours(seed: int, count: int = 400) -> list[Statistics | bytes]:
    """Good and bad spells, every few seconds; some said twice, some late, some out of order, some no statistics."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    clean: list[Statistics] = []
    at_s, place, good = float(BEGAN_S), [0, 0], True
    for _ in range(count):
        at_s += chance.choice((1, 5, 5, 10, 30))
        good ^= chance.random() < 0.05
        number = chance.randrange(2)
        counts = {"delivered": 9, "declined": 1} if good else {"delivered": 2, "declined": 5, "voided": 1}
        parts = [part(at_s, place[number], partition=number, **counts)]
        place[number] = parts[0].end
        stands = None
        if chance.random() < 0.5:
            stands = standing(overdue_s=0 if good else 90, reviews=chance.choice((0, 0, 0, 2)), waiting_s=3)
        clean.append(said(at_s, *parts, stands=stands))
    spoilt: list[Statistics | bytes] = []
    for one in clean:
        spoilt.append(one)
        match chance.randrange(12):
            case 0:
                spoilt.append(one)  # twice
            case 1:
                spoilt.insert(max(0, len(spoilt) - chance.randrange(2, 6)), spoilt.pop())  # out of order
            case 2:
                spoilt.append(chance.choice((b"", b"{", b"null", b'{"type":"Statistics"}', b"\xff\xfe", b'{"at":"x"}')))
            case 3:
                spoilt.append(said(one.at.timestamp() + 30 * 365 * 86400))  # from the future
            case _:
                pass
    return spoilt
