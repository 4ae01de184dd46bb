"""What only the sandbox needs to know, beside the settings that it shares with the adapter."""

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field

from services.settings import Settings, parse_duration_s

LatencyS = Annotated[float, BeforeValidator(parse_duration_s), Field(ge=0, le=3600)]


class SandboxSettings(Settings):
    sandbox_latency_s: LatencyS = 0.05
    """Between a request's receipt and its reply."""
    sandbox_balance_mb: int = Field(default=10**12, ge=0)
    sandbox_ledger: Path | None = None
    """An append-only file that carries references and deliveries over restarts; in memory alone when unset."""
    sandbox_seed: int = 0
    """Of the draws that faults by share make."""
