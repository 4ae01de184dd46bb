"""Who did what: access.audit, which is only added to, and forgotten from its old end."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from services.gateway.database import Database

_TIMEOUT_S: Final = 5.0
_FORGET_AT_ONCE: Final = 2000
"""Lines, so that nobody who adds one waits for long."""


@dataclass(frozen=True, slots=True)
class By:
    """Who acts, and from which address."""

    actor: str
    address: str = ""


COMMAND_LINE: Final = By("command-line")
GATEWAY: Final = By("gateway")


class Audit:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def forget(self, older_than_s: float) -> None:
        """Lines from the old end, and note how many they were. DatabaseAwayError."""
        forgotten, batch = 0, _FORGET_AT_ONCE
        while batch == _FORGET_AT_ONCE:
            row = await self._database.fetchrow("forget_audit", older_than_s, _FORGET_AT_ONCE, timeout_s=60)
            batch = row["forgotten"] if row else 0
            forgotten += batch
        if forgotten:
            await self.note(GATEWAY, "audit_forgotten", detail={"lines": forgotten, "older_than_s": older_than_s})

    async def note(self, by: By, action: str, target: str = "", detail: Mapping[str, Any] | None = None) -> None:
        """Before the act: what cannot be noted is not done. DatabaseAwayError then."""
        await self._database.fetchrow(
            "note", by.actor, by.address, action, target, dict(detail or {}), timeout_s=_TIMEOUT_S
        )
