"""What runs on this machine, and how it comes up and goes down."""

import fcntl
import http.client
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import Field

from services.local import demo
from services.local.fault import LocalFault
from services.local.kafka import Kafka
from services.local.ports import claim
from services.local.postgres import Postgres
from services.local.process import Process, stop_orphan
from services.local.server import Server
from services.settings import Settings

SERVERS = ("kafka", "postgres")
# The sandbox is stopped after the others: the fulfiller finishes its calls while it stops.
SERVICES = ("sandbox", "gateway", "fulfiller", "projector", "monitor")
NAMES = (*SERVERS, *SERVICES)
_READY_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 10.0

Say = Callable[[str, str], None]


class LocalSettings(Settings):
    """Ports of what only a development machine runs; 0 is any free one."""

    kafka_port: int = Field(default=9092, ge=0, le=65535)
    postgres_port: int = Field(default=5432, ge=0, le=65535)
    demo_orders_per_s: float = Field(default=0, ge=0, le=50)
    """Demonstration orders, bought of the gateway by themselves; 0 for none."""


@dataclass(frozen=True)
class Addresses:
    """Where everything is, whoever runs it."""

    kafka: str
    kafka_port: int
    postgres: str
    postgres_port: int
    provider: str
    gateway_port: int
    sandbox_port: int
    health_ports: Mapping[str, int]

    def environment(self, settings: Settings) -> dict[str, str]:
        """The settings by which services find everything, and those that were set for this run."""
        chosen = {name: os.environ[name] for name in map(str.upper, Settings.model_fields) if name in os.environ}
        chosen.pop("HEALTH_PORT", None)  # each service has its own
        return chosen | {
            "KAFKA_BOOTSTRAP_SERVERS": self.kafka,
            "DATABASE_URL": self.postgres,
            "AT_ISHARE_API_URL": self.provider,
            "AT_ISHARE_API_KEY": settings.at_ishare_api_key.get_secret_value(),
            "AT_ISHARE_API_SECRET": settings.at_ishare_api_secret.get_secret_value(),
            "HOST": settings.host,
            "PORT": str(self.gateway_port),
            "SANDBOX_PORT": str(self.sandbox_port),
        }


class Machine:
    """Starts the named parts in order; leaving the context stops them in reverse.

    `say` is given the name of a part and a line of its output, from several threads.
    """

    def __init__(self, settings: LocalSettings, names: frozenset[str], data_dir: Path, say: Say) -> None:
        self.settings = settings
        self.names = names - _given_by_operator(settings)
        self.data_dir = data_dir.resolve()
        self._say = say
        self._stack = ExitStack()
        self._running: list[Process] = []
        self.demo_password: str | None = None
        """Of demo.USER, where orders are demonstrated."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start(self, env_path: Path) -> Addresses:
        """Returns once everything is ready. Raises LocalFault for what keeps it from that."""
        self._refuse_demonstrations_elsewhere()
        self._stack.enter_context(_alone(self.data_dir))
        self._stop_orphans()
        addresses = self._addresses()
        environment = addresses.environment(self.settings)
        _write_env(env_path, environment)
        servers = self._servers(addresses)
        for server in servers:
            self._stack.callback(server.stop)
        awaited = self._begin_services(("sandbox",), addresses, environment)
        for server in reversed(servers):  # Kafka's storage may have to be formatted first
            server.begin()
            self._running.append(server.process)
        for server in servers:
            server.await_ready()
            self._say(server.name, f"ready on port {server.port}")
        if self._needs_setup():
            self._set_up(environment)
        awaited += self._begin_services(SERVICES[1:], addresses, environment)
        for process, is_ready in awaited:
            process.wait_until(is_ready, _READY_TIMEOUT_S)
        if self.settings.demo_orders_per_s:
            self._demonstrate(addresses, environment)
        return addresses

    def watch(self) -> None:
        """Raises LocalFault when a part ends by itself; does not return."""
        while True:
            for process in self._running:
                process.raise_if_ended()
            time.sleep(0.2)

    def kill(self) -> None:
        for process in self._running:
            process.kill()

    def _stop_orphans(self) -> None:
        pid_paths = {path.stem: path for path in (self.data_dir / "run").glob("*.pid")}
        for name in sorted(pid_paths, key=lambda one: one in SERVERS):
            pid = stop_orphan(pid_paths[name])
            if pid is not None:
                self._say(name, f"process {pid} of an earlier run was still there and has been stopped")

    def _addresses(self) -> Addresses:
        """Claims a port for each part that is to run here. Raises LocalFault naming the setting of a taken one."""
        settings, here = self.settings, self.names
        kafka_port = claim("KAFKA_PORT", settings.kafka_port) if "kafka" in here else settings.kafka_port
        postgres_port = claim("POSTGRES_PORT", settings.postgres_port) if "postgres" in here else settings.postgres_port
        sandbox_port = claim("SANDBOX_PORT", settings.sandbox_port) if "sandbox" in here else settings.sandbox_port
        port = claim("PORT", settings.port, settings.host) if "gateway" in here else settings.port
        own_kafka = "kafka" in here or "KAFKA_BOOTSTRAP_SERVERS" not in os.environ
        own_postgres = "postgres" in here or "DATABASE_URL" not in os.environ
        own_provider = "sandbox" in here or "AT_ISHARE_API_URL" not in os.environ
        return Addresses(
            kafka=f"127.0.0.1:{kafka_port}" if own_kafka else settings.kafka_bootstrap_servers,
            kafka_port=kafka_port,
            postgres=Postgres.url_at(postgres_port) if own_postgres else settings.database_url.get_secret_value(),
            postgres_port=postgres_port,
            provider=f"http://127.0.0.1:{sandbox_port}/v1" if own_provider else settings.at_ishare_api_url,
            gateway_port=port,
            sandbox_port=sandbox_port,
            health_ports=self._health_ports(),
        )

    def _health_ports(self) -> dict[str, int]:
        first = 9101 if self.settings.health_port is None else self.settings.health_port
        return {
            name: claim("HEALTH_PORT", first and first + offset)
            for offset, name in enumerate(("fulfiller", "projector", "monitor"))
            if name in self.names
        }

    def _servers(self, addresses: Addresses) -> list[Server]:
        """In the order in which they are needed, the reverse of that in which they are stopped."""
        servers: list[Server] = []
        if "kafka" in self.names:
            servers.append(Kafka(self.data_dir, addresses.kafka_port))
        if "postgres" in self.names:
            servers.append(Postgres(self.data_dir, addresses.postgres_port))
        return servers

    def _needs_setup(self) -> bool:
        users = self.names.intersection(SERVICES) - {"sandbox"}
        return bool(users) or self.names.issuperset(SERVERS)

    def _set_up(self, environment: Mapping[str, str]) -> None:
        process = self._spawn("setup", environment)
        try:
            process.complete(_READY_TIMEOUT_S)
        finally:
            process.stop()

    def _begin_services(
        self, names: Iterable[str], addresses: Addresses, environment: Mapping[str, str]
    ) -> list[tuple[Process, Callable[[], bool]]]:
        """Starts those that are to run here, to be stopped side by side; each with how to tell that it is ready."""
        own_settings = {name: {"HEALTH_PORT": str(port)} for name, port in addresses.health_ports.items()}
        own_settings["sandbox"] = {"SANDBOX_LEDGER": str(self.data_dir / "sandbox" / "ledger.jsonl")}
        ports = {"sandbox": addresses.sandbox_port, "gateway": addresses.gateway_port, **addresses.health_ports}
        begun: list[Process] = []
        self._stack.callback(self._stop, begun)
        begun.extend(
            self._spawn(name, {**environment, **own_settings.get(name, {})}) for name in names if name in self.names
        )
        self._running += begun
        return [(process, _readyz(self.settings.host, ports[process.name])) for process in begun]

    def _refuse_demonstrations_elsewhere(self) -> None:
        """Nobody's money, and nobody's table, for a demonstration."""
        if self.settings.demo_orders_per_s and not self.names.issuperset({*SERVERS, "sandbox", "gateway"}):
            raise LocalFault(
                "DEMO_ORDERS_PER_S: orders are demonstrated where Kafka, PostgreSQL, sandbox and gateway all run here"
            )

    def _demonstrate(self, addresses: Addresses, environment: Mapping[str, str]) -> None:
        self.demo_password = demo.let_in({**os.environ, **environment})
        arguments = [_url(self.settings.host, addresses.gateway_port), str(self.settings.demo_orders_per_s)]
        process = self._spawn("demo", environment, "services.local.demo", *arguments)
        self._stack.callback(process.stop)
        self._running.append(process)

    def _spawn(self, name: str, environment: Mapping[str, str], *arguments: str) -> Process:
        """`arguments` of `python -m`, where it is not simply the service of that name."""
        return Process(
            name,
            [sys.executable, "-m", *(arguments or (f"services.{name}",))],
            log_path=self.data_dir / "logs" / f"{name}.log",
            pid_path=self.data_dir / "run" / f"{name}.pid",
            env={**os.environ, **environment, "PYTHONUNBUFFERED": "1"},
            on_line=lambda line: self._say(name, line),
        )

    def _stop(self, processes: list[Process]) -> None:
        deadline = time.monotonic() + _STOP_TIMEOUT_S
        for process in processes:
            process.ask_to_stop()
        for process in processes:
            process.stop(max(0.0, deadline - time.monotonic()))


def _given_by_operator(settings: LocalSettings) -> set[str]:
    """What is not started here because the settings point at an operator's own.

    The addresses that this machine writes into its env file are its own, also when they come back from there.
    """
    own = {
        "kafka": ("KAFKA_BOOTSTRAP_SERVERS", f"127.0.0.1:{settings.kafka_port}"),
        "postgres": ("DATABASE_URL", Postgres.url_at(settings.postgres_port)),
        "sandbox": ("AT_ISHARE_API_URL", f"http://127.0.0.1:{settings.sandbox_port}/v1"),
    }
    return {name for name, (setting, address) in own.items() if os.environ.get(setting, address) not in ("", address)}


@contextmanager
def _alone(data_dir: Path) -> Iterator[None]:
    """One run at a time on one data directory. The kernel lets go of the lock however this process ends."""
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise LocalFault(
                f"{data_dir} is in use by another run (process {file.read().strip()}): stop it, or choose another "
                "--data"
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def _write_env(path: Path, environment: Mapping[str, str]) -> None:
    """KEY=value lines that a shell can read as they are; they hold secrets, so for the owner only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    new.touch(mode=0o600)
    new.write_text("".join(f"{name}={shlex.quote(value)}\n" for name, value in sorted(environment.items())))
    new.replace(path)


def _reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound


def _url(host: str, port: int) -> str:
    name = _reachable(host)
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


def _readyz(host: str, port: int) -> Callable[[], bool]:

    def is_ready() -> bool:
        connection = http.client.HTTPConnection(_reachable(host), port, timeout=2)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False  # not listening yet
        finally:
            connection.close()

    return is_ready
