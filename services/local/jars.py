"""The broker's jars: fetched once by their Maven coordinates, each held against the SHA-256 in `jars.lock`.

`python -m services.local.jars` resolves the coordinates anew and writes the lock.
"""

import hashlib
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from services.local.fault import LocalFault

# kafka-clients is named although kafka_2.13 needs it: the resolver would else mix in an older one.
COORDINATES = (
    "org.apache.kafka:kafka_2.13:4.4.0",
    "org.apache.kafka:kafka-clients:4.4.0",
    "org.apache.logging.log4j:log4j-slf4j-impl:2.25.5",
)
LOCK_PATH = Path(__file__).with_name("jars.lock")
_HEADER = "# The broker's jars and their SHA-256. Made anew by: python -m services.local.jars\n"
_CONNECTIONS = 4
_TIMEOUT_S = 60


@dataclass(frozen=True)
class Jar:
    group: str
    artifact: str
    version: str
    sha256: str

    def line(self) -> str:
        return f"{self.group}:{self.artifact}:{self.version} sha256:{self.sha256}\n"


def locked() -> list[Jar]:
    jars = []
    for line in LOCK_PATH.read_text().splitlines():
        if line and not line.startswith("#"):
            coordinate, digest = line.split(" sha256:")
            group, artifact, version = coordinate.split(":")
            jars.append(Jar(group, artifact, version, digest))
    return jars


def class_path(progress: Progress | None = None) -> list[Path]:
    """Every locked jar on this machine, fetched where missing. Raises LocalFault when one is not what was locked."""
    jars = locked()
    found = {jar: path for jar in jars if _sha256(path := _stored(jar)) == jar.sha256}
    missing = [jar for jar in jars if jar not in found]
    if missing:
        with _shown(progress, len(missing)) as shown, ThreadPoolExecutor(_CONNECTIONS) as pool:
            for jar, path in zip(missing, pool.map(_fetch, missing), strict=True):
                found[jar] = path
                shown()
    return [found[jar] for jar in jars]


@contextmanager
def _shown(progress: Progress | None, count: int) -> Iterator[Any]:
    with progress or Progress(console=Console(stderr=True)) as bars:
        task = bars.add_task("Fetching Kafka", total=count)
        yield lambda: bars.advance(task)


def _context(repository: Path | None = None) -> Any:
    """jgo's, over the user's local Maven repository (M2_REPO, or Maven's usual place)."""
    from jgo.maven import MavenContext

    return MavenContext(repo_cache=repository, timeout=_TIMEOUT_S)


def _artifact(context: Any, jar: Jar) -> Any:
    return context.project(jar.group, jar.artifact).at_version(jar.version).artifact()


def _stored(jar: Jar) -> Path:
    return Path(_artifact(_context(), jar).cached_path)


def _fetch(jar: Jar) -> Path:
    """Into a directory of its own and then moved, so that no half-written jar is ever found, by us or by Maven."""
    stored = _stored(jar)
    stored.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=stored.parent, prefix=".fetch-") as private:
        try:
            fetched = Path(_artifact(_context(Path(private)), jar).resolve())
        except (OSError, RuntimeError) as error:  # requests' errors are OSErrors
            raise LocalFault(f"{jar.artifact} {jar.version} could not be fetched: {error}") from error
        digest = _sha256(fetched)
        if digest != jar.sha256:
            raise LocalFault(
                f"{stored.name} is not the jar that was locked: its SHA-256 is {digest}, "
                f"{LOCK_PATH.name} says {jar.sha256}"
            )
        fetched.replace(stored)
    return stored


def _sha256(path: Path) -> str | None:
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def lock() -> None:
    """Writes the lock for COORDINATES as resolved now."""
    import jgo

    lines = []
    for artifact in sorted(jgo.resolve("+".join(COORDINATES)), key=lambda one: str(one.filename)):
        digest = _sha256(Path(artifact.resolve()))
        lines.append(Jar(artifact.groupId, artifact.artifactId, artifact.version, str(digest)).line())
    LOCK_PATH.write_text(_HEADER + "".join(lines))


if __name__ == "__main__":
    lock()
