"""Which TCP ports are taken, and which are free."""

import random
import socket

from services.local.fault import LocalFault

# Below the range from which systems lend ports to outgoing connections: a client that looks for a dead broker
# may else be lent the broker's own port, and then connects to itself.
_FREE_PORTS = range(20_000, 32_000)
_TRIES = 200


def is_taken(port: int, host: str = "127.0.0.1") -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return True
    return False


def answers(port: int, host: str = "127.0.0.1") -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((host, port)) == 0


def free_port() -> int:
    for _ in range(_TRIES):
        port = random.choice(_FREE_PORTS)  # noqa: S311 - spread, not secrecy
        if not is_taken(port):
            return port
    raise LocalFault(f"no free port found between {_FREE_PORTS.start} and {_FREE_PORTS.stop}")


def claim(setting: str, port: int, host: str = "127.0.0.1") -> int:
    """The port to use: itself, or any free one for 0. Raises LocalFault, naming the setting, when it is taken."""
    if port == 0:
        return free_port()
    if is_taken(port, host):
        raise LocalFault(
            f"{setting}: port {port} on {host} is taken. Stop what listens there, or set {setting} to another "
            f"port (0: any free one)"
        )
    return port
