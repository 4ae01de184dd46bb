import pytest


@pytest.fixture(autouse=True)
def _patient_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """On virtual time a shard that looks again every moment, to no purpose, is what the tests would take time for."""
    monkeypatch.setattr("services.fulfiller.shard.POLL_S", 60.0)
    monkeypatch.setattr("services.fulfiller.shard.SWEEP_S", 60.0)
    monkeypatch.setattr("services.fulfiller.bulletin.POLL_S", 600.0)
