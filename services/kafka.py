"""How every service reaches Kafka, and what it calls the topics there."""

import ssl
from typing import Any

from aiokafka.helpers import create_ssl_context

from services import broken_connections, lenient_records
from services.settings import Settings

REQUEST_TIMEOUT_MS = 10_000
RETRY_BACKOFF_MS = 20
FETCH_MAX_WAIT_MS = 100

broken_connections.install()
lenient_records.install()


def connection(settings: Settings) -> dict[str, Any]:
    """The arguments that every aiokafka client takes."""
    arguments: dict[str, Any] = {
        "bootstrap_servers": settings.kafka_bootstrap_servers,
        "security_protocol": settings.kafka_security_protocol,
        "request_timeout_ms": REQUEST_TIMEOUT_MS,
        "retry_backoff_ms": RETRY_BACKOFF_MS,
    }
    if settings.kafka_security_protocol.startswith("SASL"):
        password = settings.kafka_sasl_password
        arguments["sasl_mechanism"] = settings.kafka_sasl_mechanism
        arguments["sasl_plain_username"] = settings.kafka_sasl_username
        arguments["sasl_plain_password"] = password.get_secret_value() if password else None
    if settings.kafka_security_protocol.endswith("SSL"):
        arguments["ssl_context"] = _ssl_context(settings)
    return arguments


def _ssl_context(settings: Settings) -> ssl.SSLContext:
    password = settings.kafka_ssl_password
    context: ssl.SSLContext = create_ssl_context(
        cafile=settings.kafka_ssl_cafile,
        certfile=settings.kafka_ssl_certfile,
        keyfile=settings.kafka_ssl_keyfile,
        password=password.get_secret_value() if password else None,
    )
    return context


def consumer_arguments(settings: Settings) -> dict[str, Any]:
    """For a reader that sees committed records alone and never moves its position by itself."""
    return connection(settings) | {
        "isolation_level": "read_committed",
        "enable_auto_commit": False,
        "auto_offset_reset": "none",
        "fetch_max_wait_ms": FETCH_MAX_WAIT_MS,
        "max_partition_fetch_bytes": 4 * 1024 * 1024,
        "metadata_max_age_ms": 30_000,
    }
