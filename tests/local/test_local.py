"""`python -m services.local` on real processes: up, down, killed, up again."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import asyncpg
import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from services.local.fault import LocalFault
from services.local.jars import COORDINATES, locked
from services.local.machine import NAMES
from services.local.postgres import Postgres
from services.local.process import Process, stop_orphan
from tests.waiting import until

ANY_PORTS = {"KAFKA_PORT": "0", "POSTGRES_PORT": "0", "PORT": "0", "SANDBOX_PORT": "0", "HEALTH_PORT": "0"}
TOPIC = "kept"


def started(data_dir: Path, *, only: str = "kafka,postgres", **env: str) -> subprocess.Popen[str]:
    """In a process group of its own, as a shell would start it."""
    return subprocess.Popen(
        [sys.executable, "-m", "services.local", "--only", only, "--data", str(data_dir)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **ANY_PORTS, **env},
        process_group=0,
    )


def refused(data_dir: Path, only: str = "kafka,postgres", **env: str) -> tuple[int, str]:
    """The exit code and the output of a run that does not come up."""
    with started(data_dir, only=only, **env) as run:
        output, _ = run.communicate(timeout=30)
        return run.returncode, output


class Run:
    """One run, which has said that it is ready."""

    def __init__(self, process: subprocess.Popen[str], data_dir: Path) -> None:
        self.process = process
        self.data_dir = data_dir
        assert process.stdout
        output = []
        for line in process.stdout:
            output.append(line)
            if line == "ready\n":
                break
        assert output[-1:] == ["ready\n"], "".join(output)
        lines = (data_dir / "env").read_text().splitlines()
        self.env = dict(line.split("=", 1) for line in lines)
        self.children = psutil.Process(self.process.pid).children(recursive=True)

    def child(self, name: str) -> psutil.Process:
        return psutil.Process(int((self.data_dir / "run" / f"{name}.pid").read_text().split()[0]))

    def ended(self) -> tuple[int, str]:
        """Its exit code and the rest of its output, once nothing of it is left."""
        rest, _ = self.process.communicate(timeout=40)
        _, alive = psutil.wait_procs(self.children, timeout=10)
        assert not alive
        return self.process.returncode, rest


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Begins a run on the test's data; whatever a failed test leaves running is stopped."""
    processes: list[subprocess.Popen[str]] = []

    def one_more() -> subprocess.Popen[str]:
        processes.append(started(tmp_path))
        return processes[-1]

    yield one_more
    for process in processes:
        with process:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.communicate(timeout=40)


async def keep(run: Run, what: str) -> None:
    connection = await asyncpg.connect(run.env["DATABASE_URL"])
    await connection.execute("CREATE TABLE IF NOT EXISTS kept (what text)")
    await connection.execute("INSERT INTO kept VALUES ($1)", what)
    await connection.close()
    admin = AIOKafkaAdminClient(bootstrap_servers=run.env["KAFKA_BOOTSTRAP_SERVERS"])
    await admin.start()
    if TOPIC not in await admin.list_topics():
        await admin.create_topics([NewTopic(TOPIC, num_partitions=1, replication_factor=1)])
    await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=run.env["KAFKA_BOOTSTRAP_SERVERS"], acks="all") as producer:
        await producer.send_and_wait(TOPIC, what.encode(), partition=0)


async def kept(run: Run) -> tuple[list[str], list[str]]:
    """What PostgreSQL has, and what Kafka has."""
    connection = await asyncpg.connect(run.env["DATABASE_URL"])
    rows = [row["what"] for row in await connection.fetch("SELECT what FROM kept")]
    await connection.close()
    records: list[str] = []
    async with AIOKafkaConsumer(bootstrap_servers=run.env["KAFKA_BOOTSTRAP_SERVERS"]) as consumer:
        partition = TopicPartition(TOPIC, 0)
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        end = (await consumer.end_offsets([partition]))[partition]
        while await consumer.position(partition) < end:
            for batch in (await consumer.getmany(partition, timeout_ms=500)).values():
                records += [record.value.decode() for record in batch]
    return rows, records


async def test_it_goes_on_where_it_stopped_or_was_killed(
    tmp_path: Path, begin: Callable[[], subprocess.Popen[str]]
) -> None:
    first = Run(begin(), tmp_path)
    await keep(first, "before the stop")
    code, output = refused(tmp_path)
    assert code == 1
    assert f"in use by another run (process {first.process.pid})" in output
    first.process.send_signal(signal.SIGTERM)
    code, output = first.ended()
    assert code == 0, output
    assert not list((tmp_path / "run").iterdir())

    second = Run(begin(), tmp_path)
    assert await kept(second) == (["before the stop"], ["before the stop"])
    await keep(second, "before the kill")
    os.killpg(second.process.pid, signal.SIGKILL)
    code, _ = second.ended()
    assert code == -signal.SIGKILL
    assert list((tmp_path / "run").iterdir()), "a killed run cannot tidy up"

    third = Run(begin(), tmp_path)
    assert await kept(third) == (["before the stop", "before the kill"],) * 2
    third.child("postgres").kill()
    code, output = third.ended()
    assert code == 1
    assert "postgres ended with exit code -9. The end of" in output


def test_a_signal_during_the_start_ends_it_cleanly(tmp_path: Path, begin: Callable[[], subprocess.Popen[str]]) -> None:
    run = begin()
    pid_path = tmp_path / "run" / "postgres.pid"
    while not pid_path.exists():
        assert run.poll() is None
    children = psutil.Process(run.pid).children(recursive=True)
    run.send_signal(signal.SIGINT)
    output, _ = run.communicate(timeout=30)
    assert run.returncode == 0, output
    assert not psutil.wait_procs(children, timeout=10)[1]


@pytest.mark.parametrize("setting", ["KAFKA_PORT", "POSTGRES_PORT", "PORT", "SANDBOX_PORT", "HEALTH_PORT"])
def test_a_taken_port_is_named_with_its_setting(tmp_path: Path, setting: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, output = refused(tmp_path, only=",".join(NAMES), **{setting: str(port)})
    assert code == 1
    assert f"{setting}: port {port} on 127.0.0.1 is taken" in output
    assert "Traceback" not in output


def test_a_wrong_name_is_refused(tmp_path: Path) -> None:
    code, output = refused(tmp_path, only="kafka,zookeeper")
    assert code == 1
    assert "--only: zookeeper is none of kafka, postgres" in output


async def test_a_database_can_be_killed_and_started_again_by_its_handle(tmp_path: Path) -> None:
    with Postgres(tmp_path) as postgres:
        connection = await asyncpg.connect(postgres.url)
        await connection.execute("CREATE TABLE kept (what text); INSERT INTO kept VALUES ('this')")
        postgres.kill()
        with pytest.raises((asyncpg.PostgresError, OSError, asyncpg.InterfaceError)):
            await connection.fetch("SELECT 1")
        await connection.close()
        postgres.restart()
        connection = await asyncpg.connect(postgres.url)
        assert await connection.fetchval("SELECT what FROM kept") == "this"
        await connection.close()
    assert postgres.process.exit_code == 0


async def test_a_database_starts_again_though_sessions_of_the_killed_one_are_left(tmp_path: Path) -> None:
    with Postgres(tmp_path) as postgres:
        connection = await asyncpg.connect(postgres.url)
        session = psutil.Process(connection.get_server_pid())
        busy = asyncio.create_task(connection.fetchval("SELECT count(*) FROM generate_series(1, 100000000000)"))
        watching = await asyncpg.connect(postgres.url)
        is_active = "SELECT state = 'active' FROM pg_stat_activity WHERE pid = $1"
        await until(lambda: watching.fetchval(is_active, session.pid), "the busy session")
        os.kill(postgres.process.pid, signal.SIGKILL)
        await until(lambda: postgres.process.exit_code is not None, "the end of the server alone")
        assert session.is_running()
        await asyncio.to_thread(postgres.start)
        assert not session.is_running()
        with pytest.raises((asyncpg.PostgresError, OSError)):
            await busy
        again = await asyncpg.connect(postgres.url)
        assert await again.fetchval("SELECT 1") == 1
        await again.close()
        for each in (connection, watching):
            each.terminate()


def test_only_the_very_process_that_was_left_behind_is_stopped(tmp_path: Path) -> None:
    pid_path = tmp_path / "run" / "sleeper.pid"
    sleeper = Process("sleeper", ["sleep", "60"], log_path=tmp_path / "sleeper.log", pid_path=pid_path)
    recorded = pid_path.read_text()
    pid_path.write_text(f"{sleeper.pid} 1.0\n")  # the same pid, of a process long gone
    assert stop_orphan(pid_path) is None
    assert sleeper.exit_code is None
    pid_path.write_text(recorded)
    assert stop_orphan(pid_path) == sleeper.pid
    assert sleeper.exit_code is not None


@pytest.mark.parametrize(("command", "fault"), [("true", ""), ("exit 3", "exit code 3"), ("sleep 60", "not ended")])
def test_a_program_is_complete_once_it_has_ended_well(tmp_path: Path, command: str, fault: str) -> None:
    process = Process("program", ["sh", "-c", command], log_path=tmp_path / "log", pid_path=tmp_path / "pid")
    try:
        with pytest.raises(LocalFault, match=fault) if fault else nullcontext():
            process.complete(0.5 if "sleep" in command else 30.0)
    finally:
        process.stop()


def test_every_coordinate_is_locked() -> None:
    in_lock = {f"{jar.group}:{jar.artifact}:{jar.version}" for jar in locked()}
    assert in_lock.issuperset(COORDINATES)
