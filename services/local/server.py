"""A broker or a database with its data on disk: started, stopped, killed and started again at will."""

import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Self

from services.local.fault import LocalFault
from services.local.ports import answers, free_port
from services.local.process import Process, stop_orphan


class Server(ABC):
    """Everything of it lies below `data_dir`, which belongs to one handle at a time; `port` 0 is any free one.

    Blocking, on 127.0.0.1. Start it from the main thread: then it dies with the process that started it.
    """

    name: str
    start_timeout_s = 60.0
    stop_timeout_s = 10.0

    def __init__(self, data_dir: Path, port: int = 0) -> None:
        self.data_dir = data_dir.resolve()
        self.port = port or free_port()
        self.started_in_s = 0.0
        self._process: Process | None = None
        self._ready = False

    @property
    def log_path(self) -> Path:
        return self.data_dir / "logs" / f"{self.name}.log"

    @property
    def pid_path(self) -> Path:
        return self.data_dir / "run" / f"{self.name}.pid"

    @property
    def process(self) -> Process:
        if self._process is None:
            raise LocalFault(f"{self.name} has not been started")
        return self._process

    @abstractmethod
    def spawn(self) -> Process:
        """Prepares the data where there is none, and starts the process."""

    def complete(self) -> None:
        """What is left to do once it answers."""
        return

    def start(self) -> Self:
        """Returns once it answers. Raises LocalFault with the end of its log."""
        begun = self.begin()
        self.await_ready()
        self.started_in_s = time.monotonic() - begun
        return self

    def begin(self) -> float:
        """Starts it without waiting, so that several can start side by side; the time, for `started_in_s`."""
        begun = time.monotonic()
        stop_orphan(self.pid_path)
        self._ready = False
        self._process = self.spawn()
        return begun

    def await_ready(self) -> None:
        try:
            self.process.wait_until(self.is_ready, self.start_timeout_s)
            self.complete()
            self._ready = True
        except LocalFault:
            self.kill()
            raise

    def is_ready(self) -> bool:
        return answers(self.port)

    def stop(self) -> None:
        """Cleanly; killed when that takes too long, or when it is not up yet and has nothing to lose."""
        if self._process and self._ready:
            self._process.stop(self.stop_timeout_s)
        elif self._process:
            self._process.kill()

    def kill(self) -> None:
        """As when the power fails."""
        self.process.kill()

    def restart(self) -> Self:
        """On the same data and port, after `stop` or `kill`, or stopping it first."""
        self.stop()
        return self.start()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, fault: type[BaseException] | None, *_: object) -> None:
        if fault is None:
            self.stop()
        else:
            self.kill()
