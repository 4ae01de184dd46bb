"""docker-compose.yml and Dockerfile, held against the compose specification, the settings and the modules.

No engine is needed for this, so none of it is ever left out.
"""

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.local import kafka
from services.sandbox.settings import SandboxSettings

ROOT = Path(__file__).parent.parent
COMPOSE = ROOT / "docker-compose.yml"
OURS = "bundle-fulfillment"


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    return dict(yaml.safe_load(COMPOSE.read_text())["services"])


def ours(services: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name: service for name, service in services.items() if service["image"] == OURS}


def environment_as_set(service: dict[str, Any]) -> dict[str, str]:
    """What the container gets where the operator sets nothing: `${NAME:-default}` is its default."""
    return {name.lower(): re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value) for name, value in service["environment"].items()}


def test_it_is_what_the_compose_specification_allows() -> None:
    checked = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(COMPOSE)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_service_has_a_container(services: dict[str, dict[str, Any]]) -> None:
    assert services.keys() == {"kafka", "postgres", "setup", "sandbox", "gateway", "fulfiller", "projector", "monitor"}
    for name, service in ours(services).items():
        assert service["command"] == ["python", "-m", f"services.{name}"]
        assert find_spec(f"services.{name}"), f"services.{name} does not exist"


def test_every_setting_exists_and_is_valid(services: dict[str, dict[str, Any]]) -> None:
    for name, service in ours(services).items():
        environment = environment_as_set(service)
        unknown = environment.keys() - SandboxSettings.model_fields.keys()
        assert not unknown, f"{name}: no such settings: {unknown}"
        SandboxSettings.model_validate(environment)


def test_the_addresses_lead_to_containers_and_ports_that_exist(services: dict[str, dict[str, Any]]) -> None:
    listeners = services["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    for service in ours(services).values():
        environment = environment_as_set(service)
        assert f"INSIDE://{environment['kafka_bootstrap_servers']}" in listeners
        assert environment["at_ishare_api_url"] == "http://sandbox:3001/v1"
        account = services["postgres"]["environment"]
        user, password, database = (
            re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", account[f"POSTGRES_{part}"]) for part in ("USER", "PASSWORD", "DB")
        )
        assert environment["database_url"] == f"postgresql://{user}:{password}@postgres:5432/{database}"


def test_everything_is_published_on_the_loopback_alone(services: dict[str, dict[str, Any]]) -> None:
    for service in services.values():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:")


def test_nothing_runs_as_root_or_with_privileges(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["image"] == OURS or service["user"] not in ("root", "0"), name
    users = re.findall(r"^USER (\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert users == ["fulfillment"]


def test_everything_that_stays_up_says_whether_it_is_well(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        assert ("healthcheck" in service) == (name != "setup")
        own_port = service["environment"].get("HEALTH_PORT") or service["environment"].get("PORT")
        if own_port:
            assert f"127.0.0.1:{own_port}/readyz" in service["healthcheck"]["test"][-1]


def test_what_depends_on_what_exists_and_is_waited_for(services: dict[str, dict[str, Any]]) -> None:
    for service in services.values():
        for name, dependency in service.get("depends_on", {}).items():
            once = name == "setup"
            assert dependency["condition"] == ("service_completed_successfully" if once else "service_healthy")
            assert ("healthcheck" in services[name]) != once


def test_what_is_kept_is_on_declared_volumes(services: dict[str, dict[str, Any]]) -> None:
    declared = yaml.safe_load(COMPOSE.read_text())["volumes"].keys()
    used = {volume.partition(":")[0] for service in services.values() for volume in service.get("volumes", [])}
    assert used == declared
    mounts = [volume.partition(":")[2] for volume in services["sandbox"]["volumes"]]
    assert Path(services["sandbox"]["environment"]["SANDBOX_LEDGER"]).parent in map(Path, mounts)


def test_the_broker_is_set_as_on_one_machine(services: dict[str, dict[str, Any]]) -> None:
    container = services["kafka"]["environment"]
    for name, value in kafka.SETTINGS.items():
        if "listener" not in name:
            assert container[f"KAFKA_{name.upper().replace('.', '_')}"] == str(value), name


def test_the_image_copies_what_exists_and_nothing_is_kept_from_it() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    sources = re.findall(r"^COPY (?!--from)(\S+) ", dockerfile, re.MULTILINE)
    allowed = re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    assert set(sources) == set(allowed)
    assert all((ROOT / source).exists() for source in sources)
    assert "--require-hashes" in dockerfile
