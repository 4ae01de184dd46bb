"""`python -m tests.fuzz [SECONDS] [TARGET…]`: atheris looks for bytes that a decoder cannot take, so long for each.

New inputs that led to another place are kept small and few in `corpus`. 1: something was found.
"""

import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

from tests.fuzz.targets import CORPUS, TARGETS, seeds

SECONDS: Final = 60
MAX_BYTES: Final = 4096
KEPT: Final = 40
KEPT_BYTES: Final = 300
"""Of a target: so many inputs, none larger."""


class Tried(NamedTuple):
    name: str
    inputs: int
    fault: str


def fuzz(name: str, seconds: int) -> Tried:
    with TemporaryDirectory(prefix="fuzz-") as directory:
        begun, found = Path(directory) / "begun", Path(directory) / "found"
        begun.mkdir()
        found.mkdir()
        for number, data in enumerate(seeds(name)):
            (begun / str(number)).write_bytes(data)
        options = [f"-max_total_time={seconds}", f"-max_len={MAX_BYTES}", f"-artifact_prefix={directory}/", "-seed=1"]
        command = [sys.executable, "-m", "tests.fuzz.one", name, str(found), str(begun), *options]
        ran = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        inputs = re.findall(r"^(?:#|Done )(\d+)", ran.stderr, re.MULTILINE)
        if ran.returncode:
            culprits = [path.read_bytes() for path in Path(directory).glob("*-*") if path.is_file()]
            return Tried(name, int(inputs[-1]) if inputs else 0, f"{culprits[:1]}\n{ran.stdout}{ran.stderr[-3000:]}")
        _keep(name, [path.read_bytes() for path in found.iterdir()])
        return Tried(name, int(inputs[-1]), "")


def _keep(name: str, found: list[bytes]) -> None:
    path = CORPUS / f"{name}.txt"
    kept = path.read_text().split() if path.exists() else []
    small = sorted({data.hex() for data in found if len(data) <= KEPT_BYTES} - set(kept), key=len)
    CORPUS.mkdir(exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in sorted([*kept, *small][:KEPT])))


def main() -> int:
    asked = sys.argv[1:]
    seconds = int(asked.pop(0)) if asked and asked[0].isdigit() else SECONDS
    began_s = time.monotonic()
    with ThreadPoolExecutor(2) as executor:
        tried = list(executor.map(lambda name: fuzz(name, seconds), asked or TARGETS))
    for name, inputs, fault in tried:
        print(f"{name:10} {inputs:>12,} inputs  {fault or 'nothing found'}")
    faults = sum(bool(one.fault) for one in tried)
    total = sum(one.inputs for one in tried)
    print(f"{total:,} inputs in {time.monotonic() - began_s:.0f} s, {faults} crashes")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
