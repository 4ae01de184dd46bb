"""Every setting of every service, from the environment alone; a wrong one stops the service and is named."""

import re
import sys
from collections.abc import Callable
from enum import StrEnum
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Any, Self, TypeVar

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from schemas.bundle import canonical_network
from services.at_ishare_contract import NAME as AT_ISHARE

SANDBOX_KEY = "sandbox-key"
SANDBOX_SECRET = "sandbox-secret"  # noqa: S105 - the sandbox's, refused in production
PROVIDERS = (AT_ISHARE,)
LOCAL_DATABASE_URL = "postgresql://fulfillment:fulfillment@127.0.0.1:5432/fulfillment"

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Environment(StrEnum):
    DEVELOPMENT = "development"
    PRODUCTION = "production"


class LogFormat(StrEnum):
    CONSOLE = "console"
    JSON = "json"


def parse_duration_s(text: object) -> object:
    """`15s`, `5m`, `1h`, `7d`, `250ms` or a bare number of seconds, in seconds."""
    if not isinstance(text, str):
        return text
    match = _DURATION.fullmatch(text.strip())
    if match:
        return float(match[1]) * _UNIT_S[match[2]]
    return text.strip()  # a bare number; pydantic refuses anything else


def _parse_durations(value: object) -> object:
    if isinstance(value, str):
        return tuple(parse_duration_s(part) for part in value.split(",") if part.strip())
    return value


DurationS = Annotated[float, BeforeValidator(parse_duration_s), Field(gt=0)]
DurationsS = Annotated[
    tuple[Annotated[float, Field(gt=0, le=30 * 86400)], ...],
    NoDecode,
    BeforeValidator(_parse_durations),
    Field(min_length=1, max_length=16),
]


def _parse_named_durations(value: object) -> object:
    if not isinstance(value, str):
        return value
    pairs = [part.partition("=") for part in value.split(",") if part.strip()]
    return {name.strip(): parse_duration_s(duration) for name, _, duration in pairs}


def _parse_names(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


NamedDurationsS = Annotated[
    dict[str, Annotated[float, Field(ge=0, le=86400)]], NoDecode, BeforeValidator(_parse_named_durations)
]
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_parse_names)]
Share = Annotated[float, Field(ge=0, le=1)]


def _parse_parts(value: object) -> Any:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


Parts = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_parse_parts)]


def _parse_routes(value: object) -> object:
    if not isinstance(value, str):
        return value
    routes: dict[str, str] = {}
    for part in _parse_parts(value):
        network, _, provider = (said.strip() for said in part.partition("="))
        if provider not in PROVIDERS:
            raise ValueError(f"{part!r:.60} names no provider: write NETWORK=PROVIDER; there is {', '.join(PROVIDERS)}")
        routes[canonical_network(network)] = provider
    return routes


Routes = Annotated[dict[str, str], NoDecode, BeforeValidator(_parse_routes)]


class Settings(BaseSettings):
    """Shared by all services, so that they cannot disagree; each reads what it needs."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    environment: Environment = Environment.DEVELOPMENT
    host: str = "127.0.0.1"
    port: int = Field(default=3000, ge=0, le=65535)
    health_port: int | None = Field(default=None, ge=0, le=65535)
    log_format: LogFormat = LogFormat.CONSOLE
    log_level: str = Field(default="info", pattern="^(debug|info|warning|error)$")

    kafka_bootstrap_servers: str = Field(default="127.0.0.1:9092", min_length=1)
    kafka_security_protocol: str = Field(default="PLAINTEXT", pattern="^(PLAINTEXT|SSL|SASL_PLAINTEXT|SASL_SSL)$")
    kafka_sasl_mechanism: str = Field(default="PLAIN", pattern="^(PLAIN|SCRAM-SHA-256|SCRAM-SHA-512)$")
    kafka_sasl_username: str | None = None
    kafka_sasl_password: SecretStr | None = None
    kafka_ssl_cafile: str | None = None
    kafka_ssl_certfile: str | None = None
    kafka_ssl_keyfile: str | None = None
    kafka_ssl_password: SecretStr | None = None
    session_timeout_s: DurationS = 15.0
    partitions: int = Field(default=4, ge=1, le=1000)
    topic_prefix: str = Field(default="", pattern=r"^[A-Za-z0-9._-]{0,60}$")
    replication_factor: int | None = Field(default=None, ge=1)
    allow_unsafe_topics: bool = False

    database_url: SecretStr = SecretStr(LOCAL_DATABASE_URL)

    routes: Routes = {"AT-iShare": AT_ISHARE}
    at_ishare_api_url: str = Field(default="http://127.0.0.1:3001/v1", pattern="^https?://.+/v1/?$")
    at_ishare_api_key: SecretStr = SecretStr(SANDBOX_KEY)
    at_ishare_api_secret: SecretStr = SecretStr(SANDBOX_SECRET)
    at_ishare_timeout_s: DurationS = 30.0
    at_ishare_not_found_final_s: DurationS = 60.0
    at_ishare_rate_per_s: float | None = Field(default=None, gt=0)
    at_ishare_max_in_flight: int | None = Field(default=None, ge=1)
    at_ishare_probe_interval_s: DurationS = 5.0
    at_ishare_balance_interval_s: DurationS = 60.0

    retry_delays: DurationsS = (300.0, 900.0, 3600.0)
    max_attempts: int = Field(default=3, ge=1, le=20)
    verify_delays: DurationsS = (15.0, 300.0, 900.0, 3600.0)
    dedupe_window: DurationS = 7 * 86400.0
    max_in_flight: int = Field(default=256, ge=1, le=10_000)
    max_size_mb: int = Field(default=100_000, ge=1)

    alert_success_rate_1m: Share = 0.8
    alert_success_rate_5m: Share = 0.9
    alert_success_rate_1h: Share = 0.95
    alert_success_rate_attempts: int = Field(default=5, ge=1)
    alert_orders_waiting: DurationS = 60.0
    alert_retries_late: DurationS = 60.0
    alert_in_doubt: DurationS = 5400.0
    alert_reviews: int = Field(default=1, ge=1)
    alert_dead_letters: int = Field(default=1, ge=1)
    alert_lag_records: int = Field(default=10_000, ge=1)
    alert_no_orders: DurationS | None = None
    alert_balance_mb: int = Field(default=100_000, ge=1)
    alert_silent: DurationS = 60.0
    alert_durations: NamedDurationsS = {}
    alerts_silenced: Names = ()
    alert_webhook_url: str | None = Field(default=None, pattern="^https?://.+")
    alert_webhook_secret: SecretStr | None = None

    allowed_hosts: Parts = ()
    trusted_proxies: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode, BeforeValidator(_parse_parts)] = ()
    login_idle_s: DurationS = 1800.0
    login_life_s: DurationS = 12 * 3600.0
    audit_retention: Annotated[float, BeforeValidator(parse_duration_s), Field(ge=30 * 86400)] = 400 * 86400.0
    rate_limit_per_s: float = Field(default=100.0, ge=0)
    rate_limit_burst: int = Field(default=200, ge=1)

    sandbox_port: int = Field(default=3001, ge=0, le=65535)

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        if sum(self.verify_delays) <= self.at_ishare_not_found_final_s:
            raise ValueError(
                "VERIFY_DELAYS: their sum must exceed AT_ISHARE_NOT_FOUND_FINAL_S, or no question about an unknown "
                "outcome would come late enough to prove anything"
            )
        if self.at_ishare_max_in_flight is not None and self.at_ishare_max_in_flight < self.partitions:
            raise ValueError(
                f"AT_ISHARE_MAX_IN_FLIGHT: {self.at_ishare_max_in_flight} calls cannot be shared out among PARTITIONS="
                f"{self.partitions}, each of which needs one"
            )
        if self.dedupe_window <= 86400 and self.environment is Environment.PRODUCTION:
            raise ValueError("DEDUPE_WINDOW: must be longer than the 24 h for which an Idempotency-Key lives")
        if self.alert_webhook_url is not None and self.alert_webhook_secret is None:
            raise ValueError("ALERT_WEBHOOK_SECRET: is needed to sign what goes to ALERT_WEBHOOK_URL")
        if self.environment is Environment.PRODUCTION:
            self._refuse_defaults()
        return self

    def _refuse_defaults(self) -> None:
        defaults = {
            "AT_ISHARE_API_KEY": (self.at_ishare_api_key, SANDBOX_KEY),
            "AT_ISHARE_API_SECRET": (self.at_ishare_api_secret, SANDBOX_SECRET),
            "DATABASE_URL": (self.database_url, LOCAL_DATABASE_URL),
        }
        for name, (secret, default) in defaults.items():
            if secret.get_secret_value() == default:
                raise ValueError(f"{name}: the development default is refused in production")

    @property
    def replicas(self) -> int:
        if self.replication_factor is not None:
            return self.replication_factor
        return 3 if self.environment is Environment.PRODUCTION else 1

    @property
    def delays_s(self) -> tuple[float, ...]:
        """Every distinct delay that needs a topic of its own, ascending."""
        return tuple(sorted({*self.retry_delays, *self.verify_delays}))


AnySettings = TypeVar("AnySettings", bound=BaseSettings)


def load(kind: Callable[[], AnySettings]) -> AnySettings:
    """The settings, or one line a fault on standard error that names the setting, and exit code 1."""
    try:
        return kind()
    except ValidationError as error:
        for fault in error.errors(include_url=False, include_input=False):
            print(_fault_line(fault), file=sys.stderr)  # noqa: T201 - there is no log yet
        raise SystemExit(1) from None


def _fault_line(fault: Any) -> str:
    name = str(fault["loc"][0]).upper() if fault["loc"] else ""
    message = str(fault["msg"]).removeprefix("Value error, ")
    return f"setting {name}: {message}" if name else f"setting {message}"


@lru_cache(maxsize=1)
def settings() -> Settings:
    return load(Settings)
