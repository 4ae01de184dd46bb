"""Services as processes of their own: started with settings, waited for, frozen, killed. None outlives its test."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final, Self

import psutil
from pydantic import SecretStr

from services.local.process import wrapped
from services.settings import Settings
from tests.waiting import until

ROOT: Final = Path(__file__).parents[1]
READY_S: Final = 60.0
"""A fulfiller waits for a killed one's session to end, on a machine that has other things to do."""
STOP_S: Final = 12.0

_READY = re.compile(r"^\w+ ready\b.*?(http://[\w.:]+)", re.MULTILINE)


def environment(settings: Settings) -> dict[str, str]:
    """The settings as a service reads them; nothing of the tests' own environment goes with them."""
    said = {name.upper(): _spoken(value) for name, value in settings.model_dump(exclude_none=True).items()}
    return {"PATH": "/usr/bin:/bin", "PYTHONUNBUFFERED": "1", **said}


def _spoken(value: Any) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, tuple):
        return ",".join(str(part) for part in value)
    if isinstance(value, dict):
        return ",".join(f"{name}={part}" for name, part in value.items())
    return str(value)


class Service:
    """One process. It dies with the tests' own, whatever becomes of that."""

    def __init__(self, name: str, arguments: list[str], env: Mapping[str, str], log_path: Path) -> None:
        self.name = name
        self._log_path = log_path
        with log_path.open("wb") as log:
            self._popen = subprocess.Popen(
                wrapped([sys.executable, "-m", *arguments], death_signal="KILL", run_as=None),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(env),
                cwd=ROOT,
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        """What it wrote, on both outputs."""
        return self._log_path.read_text(errors="replace")

    @property
    def exit_code(self) -> int | None:
        """None while it runs; -N after signal N."""
        return self._popen.poll()

    @property
    def is_frozen(self) -> bool:
        return bool(psutil.Process(self._popen.pid).status() == psutil.STATUS_STOPPED)

    @property
    def ready_url(self) -> str | None:
        """The URL in its one line; None before it has said that it is ready."""
        said = _READY.search(self.log)
        return said and said[1]

    @property
    def url(self) -> str:
        """Where it listens, ready or not."""
        connections = psutil.Process(self._popen.pid).net_connections("tcp")
        return next(f"http://127.0.0.1:{c.laddr.port}" for c in connections if c.status == psutil.CONN_LISTEN)

    async def ready(self, within_s: float = READY_S) -> str:
        """Wait for its one line; the URL in it."""

        def url() -> str | None:
            said = self.ready_url
            if said is None:
                assert self.exit_code is None, f"{self.name} ended with {self.exit_code}:\n{self.log[-2000:]}"
            return said

        said: str = await until(url, f"{self.name} to be ready (its log: {self._log_path})", within_s)
        return said

    async def said(self, text: str, times: int = 1, within_s: float = READY_S) -> None:
        """Wait until its log holds a text so often."""
        await until(lambda: self.log.count(text) >= times, f"{self.name} to say {text!r} {times} times", within_s)

    async def ended(self, within_s: float = STOP_S) -> int:
        await until(lambda: self.exit_code is not None, f"{self.name} to end", within_s)
        return int(self._popen.wait())

    def kill(self) -> None:
        self._popen.kill()
        self._popen.wait()
        assert self.exit_code == -signal.SIGKILL

    def freeze(self) -> None:
        self._popen.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._popen.send_signal(signal.SIGCONT)

    def ask_to_stop(self) -> None:
        self._popen.terminate()

    async def stop(self) -> None:
        """Ask it to end: it does so in time, and says that all is well."""
        self.ask_to_stop()
        code = await self.ended()
        assert code == 0, f"{self.name} ended with {code}:\n{self.log[-2000:]}"

    async def died_at(self, crashpoint: str, within_s: float = READY_S) -> None:
        """Wait for its death, which must be by SIGKILL, at that point and no other."""
        code = await self.ended(within_s)
        assert code == -signal.SIGKILL, f"{self.name} ended with {code}:\n{self.log[-2000:]}"
        assert f"crashpoint {crashpoint} kill\n" in self.log

    async def froze_at(self, crashpoint: str, within_s: float = READY_S) -> None:
        await self.said(f"crashpoint {crashpoint} stop\n", within_s=within_s)
        await until(lambda: self.is_frozen, f"{self.name} to be frozen")

    def end(self) -> None:
        """At once, whatever state it is in."""
        if self.exit_code is None:
            self._popen.kill()
        self._popen.wait()


class Processes(AbstractContextManager["Processes"]):
    """Those of one test; all of them are ended on leaving."""

    def __init__(self, log_dir: Path) -> None:
        self._log_dir = log_dir
        log_dir.mkdir(parents=True, exist_ok=True)
        self._services: list[Service] = []

    def start(self, arguments: list[str], env: Mapping[str, str]) -> Service:
        """`python -m` these arguments."""
        number = sum(service.name.startswith(arguments[0]) for service in self._services) + 1
        name = f"{arguments[0]}-{number}"
        service = Service(name, arguments, env, self._log_dir / f"{name}.log")
        self._services.append(service)
        return service

    def __iter__(self) -> Iterator[Service]:
        return iter(self._services)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for service in reversed(self._services):
            service.end()
