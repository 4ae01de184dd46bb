"""Ids that follow from what they name, so that whoever derives one again derives the same (UUIDv5, RFC 9562)."""

import re
import uuid
from hashlib import sha1
from typing import Final

NAMESPACE: Final = uuid.UUID("6f1c1a53-9a44-5d0e-8f6d-2b8f3f6f0a51")
_NAMESPACE_BYTES: Final = NAMESPACE.bytes
_CANONICAL_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)


def canonical_uuid(text: str) -> str:
    """Lower-case with hyphens; upper case is taken too. ValueError for any other form."""
    lowered = text.lower() if len(text) == 36 else ""
    if _CANONICAL_UUID.fullmatch(lowered):
        return lowered
    raise ValueError("not a UUID of the form xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx")


def derived(name: str) -> str:
    """`str(uuid.uuid5(NAMESPACE, name))`, at a quarter of its cost: there are several for every order."""
    digest = sha1(_NAMESPACE_BYTES + name.encode(), usedforsecurity=False).hexdigest()
    variant = "89ab"[int(digest[16], 16) & 3]
    return f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-{variant}{digest[17:20]}-{digest[20:32]}"


def event_id(order_id: str, sequence: int) -> str:
    """The id of an order's nth fulfilment event."""
    return derived(f"event:{order_id}:{sequence}")


def delayed_id(order_id: str, schedule_id: int) -> str:
    """The id of the delayed record that a plan of an order has."""
    return derived(f"delayed:{order_id}:{schedule_id}")


def order_id(account: str, idempotency_key: str) -> str:
    """The order that an account means by a key, whoever is asked and however often."""
    return derived(f"order:{account}:{idempotency_key}")


def retry_command_id(job_id: str, order_id: str) -> str:
    """The id of the command with which a bulk retry has an order retried, however often it is sent."""
    return derived(f"retry:{job_id}:{order_id}")


def log_id(order_id: str) -> str:
    """The primary key of an order's row in fulfillment_logs; the same after every rebuild."""
    return derived(f"log:{order_id}")


def reference(order_id: str, override: int) -> str:
    """What the provider knows an order by; an override (1, 2, …) has a reference of its own."""
    return order_id if override == 0 else f"{order_id}-r{override + 1}"
