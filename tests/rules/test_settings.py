"""A wrong setting is named; production refuses what only development may have."""

import os
import subprocess
import sys

import pytest
from pydantic import ValidationError

from services.settings import Settings
from tests.processes import ROOT

PRODUCTION = {
    "environment": "production",
    "at_ishare_api_key": "k",
    "at_ishare_api_secret": "s",
    "database_url": "postgresql://u:p@db/f",
}


@pytest.mark.parametrize("name", ["at_ishare_api_key", "at_ishare_api_secret", "database_url"])
def test_production_refuses_the_developments_secrets(name: str) -> None:
    Settings.model_validate(PRODUCTION)
    with pytest.raises(ValidationError, match=name.upper()):
        Settings.model_validate({key: value for key, value in PRODUCTION.items() if key != name})


def test_the_ladder_of_questions_must_reach_beyond_the_proof_time() -> None:
    with pytest.raises(ValidationError, match="VERIFY_DELAYS"):
        Settings.model_validate({"verify_delays": "10s,20s", "at_ishare_not_found_final_s": "30s"})


def test_idempotency_keys_live_shorter_than_orders_are_remembered() -> None:
    with pytest.raises(ValidationError, match="DEDUPE_WINDOW"):
        Settings.model_validate(PRODUCTION | {"dedupe_window": "24h"})


def test_durations_are_read_as_people_write_them() -> None:
    settings = Settings.model_validate({"retry_delays": "250ms,15s,5m,1h,2d", "at_ishare_timeout_s": "2"})
    assert settings.retry_delays == (0.25, 15.0, 300.0, 3600.0, 172800.0)
    assert settings.at_ishare_timeout_s == 2


def test_secrets_are_not_shown() -> None:
    shown = repr(
        Settings.model_validate(PRODUCTION | {"at_ishare_api_secret": "hunter2", "kafka_sasl_password": "p4ss"})
    )
    assert "hunter2" not in shown
    assert "p4ss" not in shown
    assert "u:p@db" not in shown


def _passes_a_crashpoint(**env: str) -> subprocess.CompletedProcess[str]:
    code = "from services.crashpoints import crashpoint; crashpoint('here'); print('passed')"
    return subprocess.run(
        [sys.executable, "-c", code], env=os.environ | env, cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_crash_points_are_off_unless_asked_for_and_refused_in_production() -> None:
    assert _passes_a_crashpoint().stdout == "passed\n"
    assert _passes_a_crashpoint(CRASHPOINTS="there:kill").stdout == "passed\n"
    assert _passes_a_crashpoint(CRASHPOINTS="here:kill").returncode == -9
    refused = _passes_a_crashpoint(CRASHPOINTS="here:kill", ENVIRONMENT="production")
    assert (refused.returncode, refused.stderr.strip()) == (1, "setting CRASHPOINTS: refused in production")


def test_calls_at_once_are_at_least_one_a_partition() -> None:
    Settings.model_validate({"partitions": 4, "at_ishare_max_in_flight": 4})
    with pytest.raises(ValidationError, match=r"AT_ISHARE_MAX_IN_FLIGHT: 3 calls .* PARTITIONS=4"):
        Settings.model_validate({"partitions": 4, "at_ishare_max_in_flight": 3})


def test_networks_are_routed_to_providers_that_there_are() -> None:
    settings = Settings.model_validate({"routes": "at ishare=at-ishare, AT-BigTime = at-ishare"})
    assert settings.routes == {"AT-iShare": "at-ishare", "AT-BigTime": "at-ishare"}
    for wrong in ("MTN=mtn", "AT-iShare", "Glo=at-ishare"):
        with pytest.raises(ValidationError, match="routes"):
            Settings.model_validate({"routes": wrong})
