"""`python -m services.local`: everything on one machine, until Ctrl-C."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn
from urllib.parse import urlsplit

import typer

from services.local import demo
from services.local.fault import LocalFault
from services.local.machine import NAMES, Addresses, LocalSettings, Machine
from services.local.postgres import binary
from services.settings import load

_COLOURS = ("cyan", "green", "magenta", "yellow", "blue", "cyan", "green", "magenta")
_WIDTH = max(map(len, NAMES))


class _StopAsked(Exception):  # noqa: N818 - a stop signal, wherever the main thread is
    pass


def main(
    only: Annotated[str, typer.Option(help=f"Start just these: {','.join(NAMES)}")] = ",".join(NAMES),
    data: Annotated[Path, typer.Option(help="Where everything is kept")] = Path(".data"),
    env: Annotated[Path | None, typer.Option(help="Where to write the settings; DATA/env unless given")] = None,
) -> None:
    """Kafka, PostgreSQL, the sandbox provider and the services, on this machine, until Ctrl-C."""
    names = frozenset(name.strip() for name in only.split(",") if name.strip())
    unknown = names.difference(NAMES)
    if unknown or not names:
        sys.exit(f"--only: {', '.join(sorted(unknown)) or 'nothing'} is none of {', '.join(NAMES)}")
    settings = load(LocalSettings)
    code = 0
    with Machine(settings, names, data, _say) as machine:
        _stop_on_signal(machine)
        try:
            addresses = machine.start(env or data / "env")
            _show(machine, addresses, env or data / "env")
            machine.watch()
        except _StopAsked:
            pass
        except LocalFault as fault:
            print(fault, file=sys.stderr)
            code = 1
        _kill_on_signal(machine)
        _put("stopping; Ctrl-C once more kills")
    _put("stopped")
    raise typer.Exit(code)


def _stop_on_signal(machine: Machine) -> None:
    def ask(_number: int, _frame: FrameType | None) -> NoReturn:
        _kill_on_signal(machine)
        raise _StopAsked

    _handle(ask)


def _kill_on_signal(machine: Machine) -> None:
    def kill(_number: int, _frame: FrameType | None) -> NoReturn:
        machine.kill()
        os._exit(1)

    _handle(kill)


def _handle(handler: Callable[[int, FrameType | None], NoReturn]) -> None:
    signal.signal(signal.SIGINT, handler)
    signal.signal(signal.SIGTERM, handler)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under nohup
        signal.signal(signal.SIGHUP, handler)


def _say(name: str, line: str) -> None:
    colour = _COLOURS[NAMES.index(name)] if name in NAMES else "white"
    _put(typer.style(f"{name:<{_WIDTH}} │ ", fg=colour) + line)


def _put(text: str) -> None:
    """A line on standard output, which may be gone (a closed terminal or pipe): the logs are in files as well."""
    with contextlib.suppress(OSError):
        typer.echo(text)


def _show(machine: Machine, addresses: Addresses, env_path: Path) -> None:
    """What is where, a first order to paste, and how to look at it."""
    here = machine.names
    rows = [("Kafka", addresses.kafka), ("PostgreSQL", _without_password(addresses.postgres))]
    if "sandbox" in here:
        rows.append(("provider (sandbox)", f"http://127.0.0.1:{addresses.sandbox_port}/ledger"))
    if "gateway" in here:
        rows.append(("gateway", f"http://localhost:{addresses.gateway_port}"))
        rows.append(("dashboard", f"http://localhost:{addresses.gateway_port}/dashboard/admin/fulfillment"))
    rows += [(f"{name}'s metrics", f"http://127.0.0.1:{port}/metrics") for name, port in addresses.health_ports.items()]
    rows += [("settings", str(env_path)), ("logs", str(machine.data_dir / "logs"))]
    _put("")
    for what, where in rows:
        _put(f"  {what:<20} {where}")
    if "gateway" in here:
        url = f"http://localhost:{addresses.gateway_port}/api/orders"
        body = '{"network":"AT-iShare","size":"1GB","phoneNumber":"+233123456789"}'
        if machine.demo_password:
            _put(f"\nThe dashboard shows demonstration orders to {demo.USER}, password {machine.demo_password}")
        else:
            _put("\nSomebody who may open the dashboard (a password is asked for):\n")
            _put(f"  set -a; . {env_path}; {sys.executable} -m services.gateway users create ama --role admin")
        _put("\nA first order:\n")
        _put(f"  curl -X POST {url}/purchase -H 'Content-Type: application/json' -d '{body}'")
        _put("\nWhat became of it (its id is in the answer), in the API, the table and the log:\n")
        _put(f"  curl '{url}/fulfillment?orderId=ID'")
    topic = f"{machine.settings.topic_prefix}fulfillment.events"
    _put(f"  . {env_path}; {binary('psql')} \"$DATABASE_URL\" -c 'TABLE fulfillment_logs'")
    _put(f"  kcat -b {addresses.kafka} -C -t {topic} -o beginning -e")
    _put("\nready")


def _without_password(url: str) -> str:
    """It may be an operator's own."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()


if __name__ == "__main__":
    typer.run(main)
