"""What is measured: real processes on this machine, on ports and data of their own, ended with the benchmark."""

import asyncio
import os
import re
import shutil
import sys
import urllib.request
from collections import defaultdict
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any, Self

import asyncpg
import orjson
import psutil
from prometheus_client.parser import text_string_to_metric_families

from services.local.kafka import Kafka
from services.local.ports import free_port
from services.local.postgres import Postgres
from services.local.process import Process
from services.settings import Settings

_READY_S = 30.0
_STOP_S = 15.0

SERVICES = ("gateway", "fulfiller", "projector")
FAULTS: Mapping[str, float] = {"busy": 0.05, "try_again": 0.05}
"""A tenth of all sends fails for now."""
LATENCY_S = 0.05
"""Between the sandbox's receipt of a request and its answer."""
PATIENT = {"RETRY_DELAYS": "100ms,200ms,300ms"}
"""So short that the orders which fail, a tenth, do not stretch the time of all the others."""


class Rig:
    """A broker and a database server for all benchmarks; what each one runs is a `Deployment` on them."""

    def __init__(self, data_dir: Path) -> None:
        shutil.rmtree(data_dir, ignore_errors=True)
        self.data_dir = data_dir
        self.kafka = Kafka(data_dir, for_long=True)
        self.postgres = Postgres(data_dir)

    def __enter__(self) -> Self:
        servers = (self.kafka, self.postgres)
        for server in servers:
            server.begin()
        for server in servers:
            server.await_ready()
        return self

    def __exit__(self, *_: object) -> None:
        self.postgres.stop()
        self.kafka.stop()

    def servers_cpu_s(self) -> dict[str, float]:
        return {"kafka": cpu_s(self.kafka.process.pid), "postgres": cpu_s(self.postgres.process.pid)}


class Deployment:
    """One benchmark's own topics, database and services. Leaving the context ends the services."""

    def __init__(self, rig: Rig, name: str, settings: Mapping[str, str] | None = None) -> None:
        self.rig = rig
        self.name = name
        self.prefix = f"{name}."
        self.database_url = Postgres.url_at(rig.postgres.port, name)
        self.gateway_port = free_port()
        self.sandbox_port = free_port()
        self._processes: dict[str, Process] = {}
        self._log_begins: dict[str, int] = {}
        self._logged: set[str] = set()
        self._stack = ExitStack()
        # Nothing of the caller's own settings may change what is measured.
        clean = {key: value for key, value in os.environ.items() if key.lower() not in Settings.model_fields}
        self.environment = {
            **clean,
            "KAFKA_BOOTSTRAP_SERVERS": rig.kafka.bootstrap_servers,
            "DATABASE_URL": self.database_url,
            "AT_ISHARE_API_URL": f"{self.sandbox_url}/v1",
            "TOPIC_PREFIX": self.prefix,
            "PORT": str(self.gateway_port),
            "SANDBOX_PORT": str(self.sandbox_port),
            "SANDBOX_LATENCY_S": str(LATENCY_S),
            "HEALTH_PORT": "0",
            **(settings or {}),
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def sandbox_url(self) -> str:
        return f"http://127.0.0.1:{self.sandbox_port}"

    @property
    def gateway_url(self) -> str:
        return f"http://127.0.0.1:{self.gateway_port}"

    @property
    def settings(self) -> Settings:
        """As the services read them."""
        given = {
            name: self.environment[name.upper()] for name in Settings.model_fields if name.upper() in self.environment
        }
        return Settings.model_validate(given)

    def set_up(self) -> None:
        """Database and topics."""
        asyncio.run(self._create_database())
        self.run("services.setup")

    async def _create_database(self) -> None:
        connection = await asyncpg.connect(self.rig.postgres.url)
        try:
            await connection.execute(f'CREATE DATABASE "{self.name}"')
        finally:
            await connection.close()

    def spawn(self, name: str, *arguments: str, **settings: str) -> Process:
        """A program of the project, its output in a log file of its own."""
        process = Process(
            name,
            [sys.executable, "-m", *arguments],
            log_path=self.log_path(name),
            pid_path=self.rig.data_dir / "run" / f"{self.name}-{name}.pid",
            env={**self.environment, **settings, "PYTHONUNBUFFERED": "1"},
        )
        self._stack.callback(process.stop, _STOP_S)
        self._logged.add(name)
        return process

    def log_path(self, name: str) -> Path:
        return self.rig.data_dir / "logs" / f"{self.name}-{name}.log"

    def logs(self) -> dict[str, str]:
        """What each program has said so far."""
        return {name: self.log_path(name).read_text(errors="replace") for name in self._logged}

    def run(self, *arguments: str, timeout_s: float = 120.0) -> str:
        """Run a program to its end; what it printed. LocalFault where it failed."""
        process = self.spawn(arguments[0].rpartition(".")[2], *arguments)
        process.complete(timeout_s)
        return process.log_path.read_text()

    def begin(self, name: str, **settings: str) -> Process:
        """Start a service, without waiting."""
        log_path = self.log_path(name)
        self._log_begins[name] = log_path.stat().st_size if log_path.exists() else 0
        self._processes[name] = self.spawn(name, f"services.{name}", **settings)
        return self._processes[name]

    def start(self, *names: str, **settings: str) -> None:
        """Start services side by side, and wait until each has said that it is ready."""
        for name in names:
            self.begin(name, **settings)
        for name in names:
            self._processes[name].wait_until(partial(self._says, name, f"{name} ready"), _READY_S)

    def process(self, name: str) -> Process:
        """Of a service that was started."""
        return self._processes[name]

    def _says(self, name: str, text: str) -> bool:
        """Whether the process has said so; not an earlier one that wrote into the same log."""
        return text in self.log_path(name).read_bytes()[self._log_begins[name] :].decode(errors="replace")

    def stop(self, *names: str) -> None:
        for name in names:
            self._processes[name].ask_to_stop()
        for name in names:
            self._processes.pop(name).stop(_STOP_S)

    def cpu_s(self) -> dict[str, float]:
        """CPU seconds that each part has used so far."""
        return {name: cpu_s(process.pid) for name, process in self._processes.items()} | self.rig.servers_cpu_s()

    def metrics(self, name: str) -> dict[str, float]:
        """Of a fulfiller or projector: its samples by name, those with labels summed."""
        url = re.findall(rf"{name} ready: health on (http\S+)", self.log_path(name).read_text())[-1]
        with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:  # noqa: S310 - our own service
            families = text_string_to_metric_families(answer.read().decode())
        summed: defaultdict[str, float] = defaultdict(float)
        for sample in (sample for family in families for sample in family.samples):
            summed[sample.name] += sample.value
        return dict(summed)

    # --- the sandbox ----------------------------------------------------------------------------------------------

    def order_faults(self, plan: Mapping[str, Any]) -> None:
        request = urllib.request.Request(f"{self.sandbox_url}/faults", orjson.dumps(plan), method="PUT")  # noqa: S310 - our own sandbox
        with urllib.request.urlopen(request, timeout=10):  # noqa: S310 - as above
            return

    def ledger(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.sandbox_url}/ledger", timeout=60) as answer:  # noqa: S310 - as above
            ledger: dict[str, Any] = orjson.loads(answer.read())
        return ledger


def cpu_s(pid: int) -> float:
    """Of a process and all below it, those that have ended included: user and system time."""
    process = psutil.Process(pid)
    total = 0.0
    for one in (process, *process.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):  # it ended between the two lines, and its parent has its times
            times = one.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


class Neighbours:
    """How much of the machine others used meanwhile: a figure is only as good as the machine was quiet."""

    def __init__(self) -> None:
        self._began = self._now()

    def share(self) -> float:
        """Of all processors, since this was made."""
        all_s, busy_s, ours_s = (now - began for now, began in zip(self._now(), self._began, strict=True))
        return max(busy_s - ours_s, 0.0) / all_s

    @staticmethod
    def _now() -> tuple[float, float, float]:
        times = psutil.cpu_times()
        idle_s = times.idle + getattr(times, "iowait", 0.0)
        # Guests are counted among the users already.
        all_s = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
        return all_s, all_s - idle_s, cpu_s(os.getpid())
