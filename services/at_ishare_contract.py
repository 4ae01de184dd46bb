"""What AT-iShare's API says and hears: paths, codes, headers, signature. The adapter and the sandbox share it,
so that the real contract can replace it in one place.

- `POST {url}/data/purchase`: a `Purchase` → a `Reply`
- `GET {url}/data/purchase/{reference}` → a `Reply`, or 404 with code `NOT_FOUND`
- `GET {url}/balance` → a `BalanceReply`

No public specification exists; this was gathered from integrations of bundle providers in Ghana.
"""

import hashlib
import hmac
from dataclasses import dataclass
from enum import StrEnum

NAME = "at-ishare"
"""What we call the provider."""

PURCHASE_PATH = "/data/purchase"
BALANCE_PATH = "/balance"

KEY_HEADER = "X-API-Key"
TIMESTAMP_HEADER = "X-Timestamp"
"""Unix seconds."""
SIGNATURE_HEADER = "X-Signature"

CLOCK_SKEW_S = 300
REFERENCE_MEMORY_S = 30 * 86400.0
"""For how long a reference that was taken or delivered is remembered."""


class Status(StrEnum):
    SUCCESS = "success"
    PROCESSING = "processing"
    FAILED = "failed"


class Code(StrEnum):
    OK = "OK"
    INVALID_MSISDN = "INVALID_MSISDN"
    NO_SUCH_SUBSCRIBER = "NO_SUCH_SUBSCRIBER"
    NOT_ELIGIBLE = "NOT_ELIGIBLE"
    UNKNOWN_BUNDLE = "UNKNOWN_BUNDLE"
    BARRED = "BARRED"
    RATE_LIMITED = "RATE_LIMITED"
    BUSY = "BUSY"
    TRY_AGAIN = "TRY_AGAIN"
    INSUFFICIENT_BALANCE = "INSUFFICIENT_BALANCE"
    BAD_CREDENTIALS = "BAD_CREDENTIALS"
    ACCOUNT_SUSPENDED = "ACCOUNT_SUSPENDED"
    DUPLICATE_REFERENCE = "DUPLICATE_REFERENCE"
    NOT_FOUND = "NOT_FOUND"
    INTERNAL = "INTERNAL"


@dataclass(frozen=True, slots=True)
class Purchase:
    """The body of a purchase."""

    reference: str
    phone_number: str
    network: str
    size_mb: int


@dataclass(frozen=True, slots=True)
class Reply:
    """What a purchase or a status query is answered with."""

    status: Status
    code: str
    message: str
    reference: str | None
    transaction_id: str | None = None
    duplicate: bool = False


@dataclass(frozen=True, slots=True)
class BalanceReply:
    available_mb: int
    reserved_mb: int


def sign(secret: bytes, timestamp: str, method: str, path: str, body: bytes) -> str:
    """Hex HMAC-SHA256 of `timestamp.METHOD.path.sha256hex(body)`.

    `path` is the whole path as sent (`/v1/data/purchase`), `body` the exact bytes sent (empty for GET).
    """
    signed = f"{timestamp}.{method}.{path}.{hashlib.sha256(body).hexdigest()}"
    return hmac.digest(secret, signed.encode(), "sha256").hex()
