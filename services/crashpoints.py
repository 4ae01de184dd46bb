"""Named points at which a test kills, freezes or fails a process. Without CRASHPOINTS set they cost nothing.

CRASHPOINTS=`name:action[:nth]`, comma-separated. Actions: `kill` (SIGKILL to itself), `stop` (SIGSTOP to itself),
`raise` (an exception). `nth` (1 by default) is the passage at which it acts, once. In production it is refused.
"""

import os
import signal
import sys
from collections import Counter
from collections.abc import Callable

_VARIABLE = "CRASHPOINTS"


class CrashpointError(RuntimeError):
    """What the action `raise` raises."""


def _parse(text: str) -> dict[str, tuple[str, int]]:
    points: dict[str, tuple[str, int]] = {}
    for entry in filter(None, text.split(",")):
        name, action, *nth = entry.split(":")
        points[name] = (action, int(nth[0]) if nth else 1)
    return points


def _act(name: str, action: str) -> None:
    # The line is what tests look for: the point was hit.
    print(f"crashpoint {name} {action}", file=sys.stderr, flush=True)  # noqa: T201 - as said
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    else:
        raise CrashpointError(name)


def _make(text: str) -> Callable[[str], None]:
    if not text:
        return lambda _name: None
    if os.environ.get("ENVIRONMENT") == "production":
        raise SystemExit(f"setting {_VARIABLE}: refused in production")
    points = _parse(text)
    passages: Counter[str] = Counter()

    def crashpoint(name: str) -> None:
        if name in points:
            action, nth = points[name]
            passages[name] += 1
            if passages[name] == nth:
                _act(name, action)

    return crashpoint


crashpoint = _make(os.environ.get(_VARIABLE, ""))
