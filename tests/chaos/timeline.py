"""What was done, when, line by line in a file; and what the wall clock did meanwhile."""

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Final, Self

import orjson

LOOK_S: Final = 0.02
STEP_S: Final = 0.005
"""A wall clock that moves so far against the monotonic one within a look was set by somebody."""


class Timeline:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._began_s = time.monotonic()
        self._file: IO[bytes] | None = None
        self.steps: list[float] = []
        """Of the wall clock, seconds; backwards is negative."""
        self.lag_s = 0.0
        """The longest that a process which was ready to run had to wait for this machine."""

    def __enter__(self) -> Self:
        self._file = self._path.open("wb", buffering=0)
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def note(self, what: str, whom: str = "", how: str = "") -> None:
        if self._file is not None:
            line = {
                "s": round(time.monotonic() - self._began_s, 3),
                "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "what": what,
                "whom": whom,
                "how": how,
            }
            self._file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))

    async def watch_the_clock(self) -> None:
        """Until cancelled. A step backwards makes an effect look older than its cause."""
        before_s = time.time() - time.monotonic()
        while True:
            due_s = time.monotonic() + LOOK_S
            await asyncio.sleep(LOOK_S)
            self.lag_s = max(self.lag_s, time.monotonic() - due_s)
            now_s = time.time() - time.monotonic()
            if abs(now_s - before_s) > STEP_S:
                self.steps.append(now_s - before_s)
                self.note("the wall clock stepped", how=f"{now_s - before_s:+.4f} s")
            before_s = now_s
