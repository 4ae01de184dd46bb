"""`python -m services.fulfiller`: run a worker. `python -m services.fulfiller recover`: fulfillment.state anew."""

import asyncio
import functools
from datetime import timedelta

import structlog
import typer

from schemas.admission import Admission
from schemas.topics import (
    FULFILLMENT_COMMANDS,
    FULFILLMENT_DEAD_LETTER,
    FULFILLMENT_EVENTS,
    FULFILLMENT_PROVIDERS,
    FULFILLMENT_STATE,
    ORDERS_EVENTS,
    retry_topic,
)
from services.fulfiller.clock import SystemClock
from services.fulfiller.kafka_log import KafkaLog
from services.fulfiller.lane import Lane
from services.fulfiller.log import LogError
from services.fulfiller.providers.at_ishare import AtIShare
from services.fulfiller.providers.port import Provider
from services.fulfiller.recover import recover
from services.fulfiller.retry import Rules
from services.fulfiller.shard import Shared
from services.fulfiller.worker import Worker
from services.health import Readiness, serve_health
from services.run import Refusal, announce_ready, run
from services.settings import Settings, settings

HEALTH_PORT = 9101
CLOSE_S = 1.0
RETRY_S = 1.0
TOPICS = {
    ORDERS_EVENTS,
    FULFILLMENT_COMMANDS,
    FULFILLMENT_EVENTS,
    FULFILLMENT_STATE,
    FULFILLMENT_DEAD_LETTER,
    FULFILLMENT_PROVIDERS,
}

_log = structlog.get_logger()
app = typer.Typer(add_completion=False, help=__doc__)


def shared(settings_: Settings, providers: list[Provider]) -> Shared:
    """Wire what a worker's shards share; the composition root."""
    clock = SystemClock()
    return Shared(
        partitions=settings_.partitions,
        clock=clock,
        rules=Rules(
            retry_delays_s=settings_.retry_delays,
            max_attempts=settings_.max_attempts,
            verify_delays_s=settings_.verify_delays,
            providers={provider.profile.name: provider.profile for provider in providers},
        ),
        admission=Admission(timedelta(seconds=settings_.dedupe_window), settings_.max_size_mb),
        lanes={
            provider.profile.name: Lane(
                provider,
                clock,
                max_in_flight=settings_.max_in_flight,
                partitions=settings_.partitions,
                provider_max_in_flight=settings_.at_ishare_max_in_flight,
                rate_per_s=settings_.at_ishare_rate_per_s,
                probe_interval_s=settings_.at_ishare_probe_interval_s,
            )
            for provider in providers
        },
        delay_topics=frozenset(retry_topic(delay_s) for delay_s in settings_.delays_s),
        balance_interval_s=settings_.at_ishare_balance_interval_s,
    )


async def _work(settings_: Settings, stop: asyncio.Event) -> None:
    readiness = Readiness("kafka", "group")
    port = HEALTH_PORT if settings_.health_port is None else settings_.health_port
    async with serve_health(settings_.host, port, readiness) as bound:
        log = KafkaLog(settings_)
        provider = await AtIShare.start(settings_)
        try:
            cluster_id = await _reach(log, readiness, stop)
            if cluster_id is None:
                return
            health = f"health on http://{settings_.host}:{bound}"
            ready = functools.partial(announce_ready, "fulfiller", health)
            worker = Worker(log, shared(settings_, [provider]), readiness, cluster_id, ready)
            await worker.run(stop)
        finally:
            await provider.close()
            await log.close(CLOSE_S)


async def _reach(log: KafkaLog, readiness: Readiness, stop: asyncio.Event) -> str | None:
    """Wait for Kafka and for its topics, which somebody may be making; None when asked to stop meanwhile."""
    said = ""
    while not stop.is_set():
        try:
            cluster_id = await log.cluster_id()
            missing = sorted(TOPICS - await log.topics())
        except LogError as error:
            why = str(error)
        else:
            if not missing:
                return cluster_id
            why = f"there is no topic {missing[0]}: run `python -m services.setup`"
        readiness.down("kafka", why)
        if why != said:
            _log.warning("kafka_not_ready", why=why)
            said = why
        await asyncio.sleep(RETRY_S)
    return None


async def _recover(settings_: Settings, _stop: asyncio.Event) -> None:
    log = KafkaLog(settings_)
    try:
        orders = await recover(log, partitions=settings_.partitions, cluster_id=await log.cluster_id())
    except LogError as error:
        raise Refusal(f"recover: {error}") from None
    finally:
        await log.close(CLOSE_S)
    print(f"recovered {orders} orders from fulfillment.events")


@app.callback(invoke_without_command=True)
def work(context: typer.Context) -> None:
    """Run a worker until SIGTERM."""
    if context.invoked_subcommand is None:
        run(_work, settings())


@app.command("recover")
def recover_command() -> None:
    """Make fulfillment.state and the positions anew from fulfillment.events."""
    run(_recover, settings())


if __name__ == "__main__":
    app()
