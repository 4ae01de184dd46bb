"""One process that this machine runs: started, watched, stopped, and found again after a crash."""

import shutil
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

import psutil

from services.local.fault import LocalFault

_POLL_S = 0.05
_LOG_LIMIT_BYTES = 20 * 1024 * 1024
_ORPHAN_STOP_S = 15.0


def wrapped(argv: Sequence[str], death_signal: str, run_as: tuple[int, int] | None) -> list[str]:
    """`argv` under `setpriv`, which execs it: it dies with its parent, and runs as `run_as` (uid, gid) if given.

    The kernel ties a child to the thread that started it, so only the main thread's children are tied. Where
    there is no `setpriv` (it is Linux's), children outlive a killed parent until the next start finds them.
    """
    setpriv = shutil.which("setpriv")
    options: list[str] = []
    if threading.current_thread() is threading.main_thread():
        options += ["--pdeathsig", death_signal]
    if run_as:
        if setpriv is None:
            raise LocalFault("PostgreSQL refuses to run as root: run as another user, or install setpriv (util-linux)")
        uid, gid = run_as
        # The data may lie below a directory that only root may pass (a private home, a temporary directory):
        # hence the one capability that is kept.
        options += ["--reuid", str(uid), "--regid", str(gid), "--clear-groups"]
        options += ["--inh-caps", "-all,+dac_override", "--ambient-caps", "+dac_override"]
    return [setpriv, *options, "--", *argv] if setpriv and options else list(argv)


class Process:
    """A child in a session of its own, so that Ctrl-C in a terminal reaches only its parent.

    Its output goes to `log_path`, and line by line to `on_line` where that is given. `pid_path` remembers the
    child beyond a crash of its parent.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        log_path: Path,
        pid_path: Path,
        env: Mapping[str, str] | None = None,
        on_line: Callable[[str], None] | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        death_signal: str = "KILL",
        run_as: tuple[int, int] | None = None,
    ) -> None:
        self.name = name
        self.log_path = log_path
        self._pid_path = pid_path
        self._stop_signal = stop_signal
        self._pump: threading.Thread | None = None
        log = _opened(log_path)
        self._popen = subprocess.Popen(  # noqa: S603 - our own parts
            wrapped(argv, death_signal, run_as),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if on_line else log,
            stderr=subprocess.STDOUT,
            env=None if env is None else dict(env),
            start_new_session=True,
        )
        _remember(self._popen.pid, pid_path)
        if on_line and self._popen.stdout:
            self._pump = threading.Thread(target=_copy, args=(self._popen.stdout, log, on_line), daemon=True)
            self._pump.start()
        else:
            log.close()

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; -N after signal N."""
        return self._popen.poll()

    def ask_to_stop(self) -> None:
        if self.exit_code is None:
            self._popen.send_signal(self._stop_signal)

    def stop(self, timeout_s: float = 10.0) -> None:
        """Asked to end, killed when it has not done so in time."""
        self.ask_to_stop()
        try:
            self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
        self._ended()

    def kill(self) -> None:
        """SIGKILL to it and everything below it, as when the power fails."""
        for process in _family(self._popen.pid):
            _signal_if_alive(process, signal.SIGKILL)
        self._popen.wait()
        self._ended()

    def wait_until(self, is_ready: Callable[[], bool], timeout_s: float) -> None:
        """Raises LocalFault with the last lines of its log when it ends, or is not ready in time."""
        deadline = time.monotonic() + timeout_s
        while not is_ready():
            self.raise_if_ended()
            if time.monotonic() > deadline:
                raise LocalFault(f"{self.name} is not ready after {timeout_s:.0f} s. {self.last_lines()}")
            time.sleep(_POLL_S)

    def complete(self, timeout_s: float) -> None:
        """Wait for its end. Raises LocalFault when that is no success, or does not come in time."""
        try:
            self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise LocalFault(f"{self.name} has not ended after {timeout_s:.0f} s. {self.last_lines()}") from None
        if self.exit_code != 0:
            self.raise_if_ended()
        self._ended()

    def raise_if_ended(self) -> None:
        if self.exit_code is not None:
            self._ended()
            raise LocalFault(f"{self.name} ended with exit code {self.exit_code}. {self.last_lines()}")

    def last_lines(self, count: int = 20) -> str:
        with self.log_path.open(errors="replace") as log:
            lines = "".join(deque(log, maxlen=count))
        return f"The end of {self.log_path}:\n{lines}" if lines else f"{self.log_path} is empty."

    def _ended(self) -> None:
        if self._pump:
            self._pump.join(timeout=2.0)
        self._pid_path.unlink(missing_ok=True)


def stop_orphan(pid_path: Path) -> int | None:
    """Ends the process that an earlier, crashed run left behind, if it still lives; its pid.

    It is that very process only when its time of creation is the recorded one too; pids are used again.
    """
    process = _remembered(pid_path)
    if process is None:
        pid_path.unlink(missing_ok=True)
        return None
    family = _family(process.pid)
    _signal_if_alive(process, signal.SIGTERM)
    _, alive = psutil.wait_procs(family, timeout=_ORPHAN_STOP_S)
    for survivor in alive:
        _signal_if_alive(survivor, signal.SIGKILL)
    psutil.wait_procs(alive, timeout=_ORPHAN_STOP_S)
    pid_path.unlink(missing_ok=True)
    return int(process.pid)


def _opened(log_path: Path) -> IO[bytes]:
    log_path.parent.mkdir(parents=True, exist_ok=True)
    if log_path.exists() and log_path.stat().st_size > _LOG_LIMIT_BYTES:
        log_path.replace(log_path.with_name(log_path.name + ".1"))
    return log_path.open("ab", buffering=0)


def _copy(output: IO[bytes], log: IO[bytes], on_line: Callable[[str], None]) -> None:
    with output, log:
        for line in output:
            log.write(line)
            on_line(line.decode(errors="replace").rstrip())


def _remember(pid: int, pid_path: Path) -> None:
    pid_path.parent.mkdir(parents=True, exist_ok=True)
    pid_path.write_text(f"{pid} {psutil.Process(pid).create_time()}\n")


def _remembered(pid_path: Path) -> psutil.Process | None:
    if not pid_path.exists():
        return None
    try:
        pid, created = pid_path.read_text().split()
        process = psutil.Process(int(pid))
        same = process.create_time() == float(created) and process.status() != psutil.STATUS_ZOMBIE
    except (ValueError, psutil.NoSuchProcess):  # cut short by a crash, or gone
        return None
    return process if same else None


def _family(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _signal_if_alive(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return
