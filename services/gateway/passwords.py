"""Passwords: what one may be, and its Argon2id hash (RFC 9106's choice for little memory: 64 MiB, 3 passes)."""

import asyncio
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import VerificationError

MIN_LENGTH: Final = 12
MAX_LENGTH: Final = 256
_AT_ONCE: Final = 1
"""A hash keeps four threads busy: whoever wants many of them must not take the machine from the purchases."""

_hasher: Final = PasswordHasher()
_NOBODYS: Final = _hasher.hash("of nobody: it is verified for unknown names, so that these take as long as known ones")


def check(name: str, password: str) -> None:
    """ValueError for what is too easy, or too long to be meant."""
    if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
        raise ValueError(f"password: {MIN_LENGTH} to {MAX_LENGTH} characters")
    if name in password.lower() and len(password) < len(name) + MIN_LENGTH:
        raise ValueError("password: it must not be made of the user's name")
    if len(set(password)) < 5:
        raise ValueError("password: too few different characters")


def hashed(password: str) -> str:
    """Takes a tenth of a second, by design."""
    return _hasher.hash(password)


class Passwords:
    """Hashing beside the event loop, never more at once than the machine has room for."""

    def __init__(self) -> None:
        self._room = asyncio.Semaphore(_AT_ONCE)

    async def hashed(self, password: str) -> str:
        async with self._room:
            return await asyncio.to_thread(hashed, password)

    async def matches(self, stored: str | None, password: str) -> bool:
        """Whether it is the password; where there is none, False, and no sooner."""
        async with self._room:
            return await asyncio.to_thread(_matches, _NOBODYS if stored is None else stored, password) and bool(stored)

    async def renewed(self, stored: str, password: str) -> str | None:
        """Its hash as one would make it today, where that differs."""
        return await self.hashed(password) if _hasher.check_needs_rehash(stored) else None


def _matches(stored: str, password: str) -> bool:
    try:
        return _hasher.verify(stored, password)
    except VerificationError:
        return False
