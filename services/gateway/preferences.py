"""Request headers that say how a client would like its answer: `Prefer`, `If-None-Match`, `Idempotency-Key`."""

import re
from collections.abc import Iterable
from typing import Final

MAX_WAIT_S: Final = 30
_WAIT = re.compile(r"wait\s*=\s*\"?(\d{1,9})\"?", re.ASCII | re.IGNORECASE)
_ETAG = re.compile(r'(?:W/)?("[\x21\x23-\x7e]*")', re.ASCII)
_VISIBLE_ASCII = re.compile(r"[\x21-\x7e]{1,255}", re.ASCII)


def wait_s(prefer: Iterable[str]) -> int | None:
    """Seconds to wait, at most MAX_WAIT_S, from the values of `Prefer` (RFC 7240); None where none are named.

    What cannot be read is passed over, as the RFC asks.
    """
    for preference in ",".join(prefer).split(","):
        if match := _WAIT.fullmatch(preference.split(";")[0].strip()):
            return min(int(match[1]), MAX_WAIT_S)
    return None


def matches(etag: str, if_none_match: str | None) -> bool:
    """Weakly, as RFC 9110 (13.1.2) asks of If-None-Match."""
    if if_none_match is None:
        return False
    return if_none_match.strip() == "*" or etag in _ETAG.findall(if_none_match)


def idempotency_key(values: Iterable[str]) -> str | None:
    """The key, None without one. ValueError for one that is none, or more than one."""
    keys = list(values)
    if not keys:
        return None
    if len(keys) > 1 or not _VISIBLE_ASCII.fullmatch(keys[0]):
        raise ValueError("Idempotency-Key: send one, of 1 to 255 visible ASCII characters without spaces")
    return keys[0]
