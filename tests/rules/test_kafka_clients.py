"""Every client of Kafka takes the settings' SASL and TLS, and says nothing else about them."""

import ast
import asyncio
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth
from pydantic import SecretStr

from services import kafka
from services.monitor import stream
from services.settings import Settings
from tests.conftest import copied
from tests.processes import ROOT, Processes, environment
from tests.waiting import until

CLIENTS = {"AIOKafkaClient", "AIOKafkaConsumer", "AIOKafkaProducer", "AIOKafkaAdminClient"}
ARGUMENTS = {"connection", "consumer_arguments"}
SECURITY = {"bootstrap_servers", "security_protocol", "ssl_context"}


def made(path: Path) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and _name(node.func) in CLIENTS:
            yield node


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def faults(client: ast.Call) -> Iterator[str]:
    unpacked = [keyword.value for keyword in client.keywords if keyword.arg is None]
    # `arguments | {…}` is the arguments, with what the dictionary says further.
    firsts = [value.left if isinstance(value, ast.BinOp) else value for value in unpacked]
    if not any(isinstance(value, ast.Call) and _name(value.func) in ARGUMENTS for value in firsts):
        yield "not made of kafka.connection(settings)"
    said = {keyword.arg for keyword in client.keywords if keyword.arg}
    said |= {node.value for value in unpacked for node in ast.walk(value) if isinstance(node, ast.Constant)}
    yield from (f"says {name} itself" for name in said if name in SECURITY or str(name).startswith(("sasl_", "ssl_")))


def test_every_client_is_made_of_the_settings_connection() -> None:
    clients = [(path, client) for path in (ROOT / "services").rglob("*.py") for client in made(path)]
    assert len(clients) > 12
    assert [f"{path.name}:{client.lineno}: {fault}" for path, client in clients for fault in faults(client)] == []


@pytest.mark.parametrize(
    "code",
    [
        "AIOKafkaConsumer(bootstrap_servers='x')",
        "aiokafka.AIOKafkaProducer(**arguments)",
        "AIOKafkaClient(**kafka.connection(settings), security_protocol='PLAINTEXT')",
        "AIOKafkaConsumer(**kafka.consumer_arguments(settings) | {'sasl_mechanism': 'PLAIN'})",
    ],
)
def test_another_client_is_seen(tmp_path: Path, code: str) -> None:
    (tmp_path / "odd.py").write_text(code)
    [client] = made(tmp_path / "odd.py")
    assert list(faults(client))


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of its own."""
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            *("-keyout", str(folder / "key.pem"), "-out", str(folder / "certificate.pem")),
        ],
        check=True,
        capture_output=True,
    )
    return folder


def secured(authority: Path, **said: Any) -> Settings:
    return Settings(
        kafka_sasl_username="ama",
        kafka_sasl_password=SecretStr("hunter22"),
        kafka_ssl_cafile=str(authority / "certificate.pem"),
        kafka_ssl_certfile=str(authority / "certificate.pem"),
        kafka_ssl_keyfile=str(authority / "key.pem"),
        **said,
    )


@pytest.mark.parametrize("protocol", ["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"])
def test_each_protocol_has_what_it_takes_and_faust_has_the_same(authority: Path, protocol: str) -> None:
    settings = secured(authority, kafka_security_protocol=protocol, kafka_sasl_mechanism="SCRAM-SHA-512")
    arguments = kafka.connection(settings)
    assert arguments["security_protocol"] == protocol
    assert ("ssl_context" in arguments) == protocol.endswith("SSL")
    sasl = [arguments.get(f"sasl_{name}") for name in ("mechanism", "plain_username", "plain_password")]
    assert sasl == (["SCRAM-SHA-512", "ama", "hunter22"] if "SASL" in protocol else [None] * 3)
    if "ssl_context" in arguments:
        context = arguments["ssl_context"]
        assert context.check_hostname, "a broker is who it says it is"
        assert len(context.get_ca_certs()) == 1
    told = credentials_to_aiokafka_auth(stream._configuration(settings)["broker_credentials"])  # noqa: SLF001 - what Faust is told
    of_ours = ("security_protocol", "sasl_mechanism", "sasl_plain_username", "sasl_plain_password")
    assert {name: told.get(name) for name in of_ours} == {name: arguments.get(name) for name in of_ours}
    assert (told.get("ssl_context") is None) == ("ssl_context" not in arguments)


# --- on the wire ------------------------------------------------------------------------------------------------------


class Guarded:
    """A broker's door: TLS, then who it is, by SASL PLAIN. Nobody comes further."""

    def __init__(self) -> None:
        self.told: list[bytes] = []
        """Of each who came: name and password, as RFC 4616 has them."""

    async def admit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                request = await reader.readexactly(int.from_bytes(await reader.readexactly(4)))
                api, correlation = int.from_bytes(request[:2]), request[4:8]
                if api not in _ANSWERS:
                    self.told.append(request)
                    return
                answer = correlation + _ANSWERS[api]
                writer.write(len(answer).to_bytes(4) + answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            return  # whoever it was has left
        finally:
            writer.close()


_NO_ERROR = b"\0\0"
_ANSWERS = {
    # ApiVersions: SaslHandshake 0 and 1, SaslAuthenticate 0, and itself.
    18: _NO_ERROR + b"\0\0\0\3" + b"\0\x11\0\0\0\1" + b"\0\x24\0\0\0\0" + b"\0\x12\0\0\0\0",
    17: _NO_ERROR + b"\0\0\0\1" + b"\0\5PLAIN",
}


@pytest.mark.parametrize("service", ["gateway", "fulfiller", "projector", "monitor", "setup"])
async def test_every_service_says_who_it_is_and_only_under_tls(
    authority: Path, postgres: str, migrated: str, tmp_path: Path, service: str
) -> None:
    guarded = Guarded()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority / "certificate.pem", authority / "key.pem")
    server = await asyncio.start_server(guarded.admit, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    async with copied(postgres, migrated) as database_url, server:
        settings = secured(
            authority,
            kafka_security_protocol="SASL_SSL",
            kafka_bootstrap_servers=f"localhost:{port}",
            database_url=SecretStr(database_url),
            port=0,
            health_port=0,
        )
        with Processes(tmp_path) as processes:
            started = processes.start([f"services.{service}"], environment(settings))
            await until(lambda: guarded.told, f"{service} to come: {started.log}")
    assert all(told.endswith(b"\0ama\0hunter22") for told in guarded.told)
