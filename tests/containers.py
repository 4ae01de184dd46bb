"""Kafka and PostgreSQL from images, by testcontainers: the second source of both, for those who have Docker."""

import asyncio
import subprocess
import sys
import time
from abc import abstractmethod
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, Final, Self

import asyncpg
import yaml
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from testcontainers.core.container import DockerContainer

from services import kafka
from services.local.kafka import SETTINGS
from services.local.ports import free_port
from services.local.postgres import DATABASE, PASSWORD, ROLE
from services.postgres import UNREACHABLE
from services.settings import Settings
from tests.processes import ROOT

START_S: Final = 120.0
STOP_S: Final = 30
POLL_S: Final = 0.2
TRY_S: Final = 5.0
_IMAGES: Final = {
    name: said.get("image")
    for name, said in yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"].items()
}


@cache
def engine_answers() -> bool:
    """Asked in a process of its own: where there is no engine, the client leaves an open socket behind."""
    asked = [sys.executable, "-c", "import docker; docker.from_env().ping()"]
    return subprocess.run(asked, capture_output=True, timeout=START_S, check=False).returncode == 0


class Containerised:
    """Stopped, killed and started again at will, on one port, with its data kept meanwhile; as services.local's."""

    def __init__(self, image: str, inner_port: int, **env: str) -> None:
        self.port = free_port()
        self._container = DockerContainer(image).with_bind_ports(inner_port, self.port).with_envs(**env)
        self._made = False

    def begin(self) -> None:
        if self._made:
            self._container.get_wrapped_container().start()
        else:
            self._container.start()
            self._made = True

    def await_ready(self) -> None:
        # Docker's own proxy takes connections before the server does, so the server itself is asked. In a thread: a
        # loop may be running in this one.
        give_up_s = time.monotonic() + START_S
        with ThreadPoolExecutor(1) as thread:
            while not thread.submit(asyncio.run, self._answers()).result():
                assert time.monotonic() < give_up_s, f"{self._container.image} does not answer after {START_S} s"
                time.sleep(POLL_S)

    def start(self) -> Self:
        self.begin()
        self.await_ready()
        return self

    def stop(self) -> None:
        self._container.get_wrapped_container().stop(timeout=STOP_S)

    def kill(self) -> None:
        self._container.get_wrapped_container().kill()

    def restart(self) -> Self:
        self.stop()
        return self.start()

    @property
    def process(self) -> Self:
        """What runs it."""
        return self

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        container = self._container.get_wrapped_container()
        container.reload()
        state = container.attrs["State"]
        return None if state["Running"] else int(state["ExitCode"])

    def remove(self) -> None:
        if self._made:
            self._container.stop()

    @abstractmethod
    def _answers(self) -> Coroutine[Any, Any, bool]: ...


class ContainerisedKafka(Containerised):
    def __init__(self) -> None:
        super().__init__(_IMAGES["kafka"], 9092)
        said = SETTINGS | {
            "listeners": "PLAINTEXT://0.0.0.0:9092,CONTROLLER://127.0.0.1:9093",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap_servers}",
            "controller.quorum.voters": "1@127.0.0.1:9093",
            "log.dirs": "/tmp/kafka-data",  # noqa: S108 - the container's own, writable to the image's user
        }
        self._container.with_envs(
            **{f"KAFKA_{name.upper().replace('.', '_')}": str(value) for name, value in said.items()}
        )

    @property
    def bootstrap_servers(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def _answers(self) -> bool:
        admin = AIOKafkaAdminClient(**kafka.connection(Settings(kafka_bootstrap_servers=self.bootstrap_servers)))
        try:
            async with asyncio.timeout(TRY_S):
                await admin.start()
        except (KafkaError, OSError, TimeoutError):
            return False
        finally:
            await admin.close()
        return True


class ContainerisedPostgres(Containerised):
    def __init__(self) -> None:
        super().__init__(
            _IMAGES["postgres"], 5432, POSTGRES_USER=ROLE, POSTGRES_PASSWORD=PASSWORD, POSTGRES_DB=DATABASE
        )

    @property
    def url(self) -> str:
        return f"postgresql://{ROLE}:{PASSWORD}@127.0.0.1:{self.port}/{DATABASE}"

    async def _answers(self) -> bool:
        try:
            connection = await asyncpg.connect(self.url, timeout=TRY_S)
        except (*UNREACHABLE, asyncpg.PostgresError):
            return False
        await connection.close()
        return True
