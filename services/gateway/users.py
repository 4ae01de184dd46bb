"""Users of the dashboard: made, listed, changed. The first admin is made on the command line."""

from __future__ import annotations  # asyncpg's classes take parameters in its stubs alone

import re
from typing import Any, Final

import asyncpg

from services.gateway.access import Role
from services.gateway.audit import By
from services.gateway.database import QUERIES

NAME: Final = r"[a-z0-9][a-z0-9._@-]{0,63}"


async def create(connection: asyncpg.Connection[Any], by: By, name: str, role: Role, password_hash: str) -> bool:
    """False where the name is taken. ValueError for what is no name."""
    if not re.fullmatch(NAME, name, re.ASCII):
        raise ValueError("a user's name is 1 to 64 of a-z 0-9 . _ @ -, and begins with a letter or digit")
    row = await connection.fetchrow(QUERIES["create_user"], by.actor, by.address, name, password_hash, role)
    return row is not None


async def list_all(connection: asyncpg.Connection[Any]) -> list[asyncpg.Record]:
    return await connection.fetch(QUERIES["list_users"])


async def change(
    connection: asyncpg.Connection[Any],
    by: By,
    name: str,
    *,
    role: Role | None = None,
    password_hash: str | None = None,
    disabled: bool | None = None,
) -> bool:
    """What is None stays. False where there is no such user."""
    row = await connection.fetchrow(QUERIES["change_user"], by.actor, by.address, name, role, password_hash, disabled)
    return row is not None
