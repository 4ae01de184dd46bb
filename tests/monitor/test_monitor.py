"""On a real broker: whatever happens to the monitor, the alerts are those that the log calls for, each once."""

import asyncio

import aiohttp
from aiokafka import AIOKafkaConsumer, TopicPartition

from schemas.topics import FULFILLMENT_STATISTICS, MONITOR, MONITOR_CHANGELOG
from services import kafka
from services.monitor.watch import Watch
from services.settings import Settings
from services.setup.patience import Patience
from services.setup.setup import set_up_kafka
from tests.backend import Backend
from tests.lost_topics import lose
from tests.monitor.statistics import BEGAN_S, said, standing, troubled_hours
from tests.monitor.watched import Watched
from tests.waiting import until


async def test_killed_in_mid_window_taken_over_and_without_its_broker(watched: Watched, backend: Backend) -> None:
    log = troubled_hours(1, 800)
    first = watched.monitor()
    await first.ready()
    await watched.write(log[:200])
    await first.said("alert_raised")
    first.kill()
    await watched.write(log[200:400])
    second, third = watched.monitor(), watched.monitor()
    await asyncio.gather(second.ready(), third.ready())
    await watched.proven()
    works, stands_by = (second, third) if "watching" in second.log else (third, second)
    works.kill()
    await watched.write(log[400:600])
    await stands_by.said("watching", within_s=120)
    await watched.proven()
    await asyncio.to_thread(backend.kafka.restart)
    await watched.write(log[600:])
    sent = await watched.proven()
    assert len(sent) > 10
    await stands_by.stop()


async def test_without_its_changelog_it_says_nothing_twice(watched: Watched) -> None:
    log = troubled_hours(2, 600)
    await watched.write(log[:300])
    first = watched.monitor()
    before = await watched.proven()
    assert before
    await first.stop()
    await lose(watched.settings, MONITOR_CHANGELOG)
    refused = watched.monitor()
    assert await refused.ended(20) == 1
    assert f"{MONITOR_CHANGELOG} does not exist: run `python -m services.setup`" in refused.log
    await set_up_kafka(watched.settings.model_copy(update={"partitions": 4}), Patience())
    second = watched.monitor()
    await watched.write(log[300:])
    await watched.proven()
    assert "offset=-1" in second.log
    await second.stop()


async def test_one_that_was_frozen_for_long_says_nothing_new(watched: Watched) -> None:
    """What it had fetched it may say once more, under the ids that another has said it under."""
    log = troubled_hours(4, 600)
    first = watched.monitor(SESSION_TIMEOUT_S="6")
    await first.ready()
    await watched.write(log[:200])
    await watched.proven()
    first.freeze()
    second = watched.monitor(SESSION_TIMEOUT_S="6")
    await watched.write(log[200:400])
    await second.said("watching", within_s=150)
    await watched.proven()
    first.thaw()
    await watched.write(log[400:])
    await watched.proven(maybe_repeated=True)
    second.kill()
    await watched.write(troubled_hours(5, 100))
    await watched.proven(maybe_repeated=True)
    await first.stop()


async def test_its_changelog_is_deleted_under_it(watched: Watched) -> None:
    log = troubled_hours(6, 600)
    first = watched.monitor()
    await first.ready()
    await watched.write(log[:300])
    assert await watched.proven()
    await lose(watched.settings, MONITOR_CHANGELOG)
    await set_up_kafka(watched.settings.model_copy(update={"partitions": 4}), Patience())
    await watched.write(log[300:450])
    await watched.proven()
    first.kill()
    second = watched.monitor()
    await watched.write(log[450:])
    await watched.proven()
    await second.stop()


async def test_what_it_kept_and_cannot_read_is_made_anew_from_the_statistics(watched: Watched) -> None:
    log = troubled_hours(7, 400)
    first = watched.monitor()
    await first.ready()
    await watched.write(log[:200])
    assert await watched.proven()
    await first.stop()
    await watched.write_to(MONITOR_CHANGELOG, b"watch", b'{"offset":"another version\'s"}')
    second = watched.monitor()
    await watched.write(log[200:])
    await second.said("kept_watch_unreadable")
    await watched.proven()
    await second.stop()


async def test_statistics_that_were_made_anew_are_taken_from_their_beginning(watched: Watched) -> None:
    """Also where the monitor was stopped after it had sent a change and before it kept that."""
    trouble, first = range(100, 200), watched.monitor()
    await first.ready()
    await watched.write(
        [said(BEGAN_S + at, stands=standing(overdue_s=90 if at in trouble else 0)) for at in range(0, 300, 5)]
    )
    await watched.proven()
    await first.stop()
    raised = next(kept for kept in await watched.kept() if b'"raised":true' in kept)
    await watched.write_to(MONITOR_CHANGELOG, b"watch", raised)
    await lose(watched.settings, FULFILLMENT_STATISTICS)
    await set_up_kafka(watched.settings.model_copy(update={"partitions": 4}), Patience())
    # Faust passes over what lies before it, and it may outlive the topic.
    await _commit(watched.settings, 50)
    second = watched.monitor()
    await watched.write([said(BEGAN_S + at, stands=standing(overdue_s=90)) for at in range(300, 330, 5)])
    await second.said("statistics_made_anew")
    await second.said("alert_raised alert=retries_late")
    assert [one.type for one in await watched.sent()] == ["AlertRaised", "AlertCleared", "AlertRaised"]
    await second.stop()


async def test_statistics_are_deleted_under_it(watched: Watched) -> None:
    trouble, monitor = range(100, 200), watched.monitor()
    await monitor.ready()
    await watched.write(
        [said(BEGAN_S + at, stands=standing(overdue_s=90 if at in trouble else 0)) for at in range(0, 300, 5)]
    )
    await watched.proven()
    await lose(watched.settings, FULFILLMENT_STATISTICS)
    await set_up_kafka(watched.settings.model_copy(update={"partitions": 4}), Patience())
    await watched.write([said(BEGAN_S + at, stands=standing(overdue_s=90)) for at in range(300, 330, 5)])
    await monitor.said("alert_raised alert=retries_late", times=2, within_s=120)
    assert [one.type for one in await watched.sent()] == ["AlertRaised", "AlertCleared", "AlertRaised"]
    await monitor.stop()


async def _commit(settings: Settings, offset: int) -> None:
    """As the monitors' group."""
    group = AIOKafkaConsumer(group_id=settings.topic_prefix + MONITOR, **kafka.consumer_arguments(settings))
    await group.start()
    statistics = TopicPartition(settings.topic_prefix + FULFILLMENT_STATISTICS, 0)
    group.assign([statistics])
    await group.commit({statistics: offset})
    await group.stop()


async def test_an_alert_stands_in_the_metrics_and_what_came_after_it_is_kept_too(watched: Watched) -> None:
    monitor = watched.monitor()
    url = await monitor.ready()
    await watched.write([said(BEGAN_S + second, stands=standing(overdue_s=90)) for second in range(0, 30, 5)])
    await watched.proven()
    line = 'monitor_alert_firing{alert="retries_late",severity="warning",subject="AT-iShare/at-ishare"} 1.0'
    async with aiohttp.ClientSession() as session:

        async def shown() -> bool:
            async with session.get(f"{url}/metrics") as response:
                return line in await response.text()

        await until(shown, line)

    async def last_is_kept() -> bool:
        return Watch.model_validate_json((await watched.kept())[-1]).offset == 5

    # Or the gateway would take a monitor for silent that has nothing more to read.
    await until(last_is_kept, "the last of six to be kept", 20)
    await monitor.stop()


async def test_an_unknown_alert_in_a_setting_is_named(watched: Watched) -> None:
    monitor = watched.monitor(ALERTS_SILENCED="retries_latte")
    assert await monitor.ended() == 1
    assert "setting ALERTS_SILENCED: retries_latte is none of" in monitor.log
