"""From a worker's assignment to its first new call, where 100,000 orders are open and none is in doubt."""

import asyncio
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from benchmarks.lives import Life, lived, rules, state_of, write
from benchmarks.report import Figure, Result
from benchmarks.rig import Deployment, Rig
from services.partition import home_partition
from services.settings import Settings
from tests.waiting import until

_DELAY_S = 3600.0
_SETTINGS = {"RETRY_DELAYS": "1h,2h,3h"}
_PATIENCE_S = 60.0
_ASSIGNED = re.compile(r"(\S+Z) \[info\s*\] partitions_assigned")
_TAKEN = re.compile(r"partition_taken .*took_s=([0-9.]+)")


def measure(rig: Rig, *, quick: bool) -> Result:
    """All wait for their next attempt, an hour from now; but one in each partition is due."""
    count = 20_000 if quick else 100_000
    with Deployment(rig, "takeover", _SETTINGS) as deployment:
        deployment.set_up()
        settings = deployment.settings
        lives = list(_waiting(settings, count))
        due = [life.order.order_id for life in lives[: settings.partitions]]
        asyncio.run(write(settings, (record for life in lives for record in state_of(life, _DELAY_S))))
        del lives
        deployment.start("sandbox", "fulfiller")
        sent_at = asyncio.run(_first_calls(deployment, due))
        log = deployment.log_path("fulfiller").read_text()
    assigned = _ASSIGNED.search(log)
    if assigned is None:
        raise AssertionError("a fulfiller that made calls was assigned no partition")
    assigned_s = datetime.fromisoformat(assigned[1]).timestamp()
    first_s, last_s = min(sent_at) - assigned_s, max(sent_at) - assigned_s
    return Result(
        "takeover",
        [
            Figure("assignment to the first new call", first_s, "s", at_most=2),
            Figure("to the first new call in every partition", last_s, "s"),
        ],
        [f"{count} open orders in {settings.partitions} partitions; taken in {', '.join(_TAKEN.findall(log))} s"],
        {"assigned_s": assigned_s, "sent_at_s": sent_at},
    )


def _waiting(settings: Settings, count: int) -> Iterator[Life]:
    """The first of them are due, one in each partition."""
    kept = rules(settings)
    now = datetime.now(UTC)
    homes = set(range(settings.partitions))
    number = 0
    while homes:
        life = lived(number, now - timedelta(seconds=_DELAY_S), kept, delivered=False)
        home = home_partition(life.order.order_id, settings.partitions)
        if home in homes:
            homes.remove(home)
            yield life
        number += 1
    for later in range(number, number + count - settings.partitions):
        yield lived(later, now, kept, delivered=False)


async def _first_calls(deployment: Deployment, due: Sequence[str]) -> list[float]:
    def called() -> list[float] | None:
        references = deployment.ledger()["references"]
        if not all(order_id in references for order_id in due):
            return None
        return [references[order_id]["sent_at"][0] for order_id in due]

    sent_at: list[float] = await until(called, "the first calls", _PATIENCE_S)
    return sent_at
