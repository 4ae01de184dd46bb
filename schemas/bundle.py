"""What is bought: a bundle of so many megabytes, on a network, for a phone. Canonical forms of the three."""

import re
from decimal import Decimal
from typing import Final

MB_PER_GB: Final = 1000
NETWORKS: Final = ("AT-iShare", "AT-BigTime", "MTN", "Telecel")

_PHONE = re.compile(r"(?:\+?233|0)?([1-9][0-9]{8})", re.ASCII)
_PHONE_PUNCTUATION = str.maketrans("", "", " -().")
_SIZE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?) ?(GB|MB|G|M)?", re.ASCII | re.IGNORECASE)
_NETWORKS: Final = {
    "atishare": "AT-iShare",
    "atnishare": "AT-iShare",
    "airteltigoishare": "AT-iShare",
    "ishare": "AT-iShare",
    "at": "AT-iShare",
    "airteltigo": "AT-iShare",
    "atbigtime": "AT-BigTime",
    "atnbigtime": "AT-BigTime",
    "airteltigobigtime": "AT-BigTime",
    "bigtime": "AT-BigTime",
    "mtn": "MTN",
    "mtnghana": "MTN",
    "telecel": "Telecel",
    "telecelghana": "Telecel",
    "vodafone": "Telecel",
}
_MAX_TEXT = 40


def canonical_phone(text: str) -> str:
    """`+233` and nine digits, from 0XXXXXXXXX, 233XXXXXXXXX, +233XXXXXXXXX or the nine digits alone.

    Whether a prefix belongs to a network is not asked: numbers are ported. ValueError otherwise.
    """
    if len(text) <= _MAX_TEXT and (match := _PHONE.fullmatch(text.translate(_PHONE_PUNCTUATION))):
        return "+233" + match[1]
    raise ValueError("not a Ghanaian phone number: write it as 0XXXXXXXXX, 233XXXXXXXXX or +233XXXXXXXXX")


def masked_phone(phone: str) -> str:
    """For logs: a canonical phone without the three digits before the last two."""
    return f"{phone[:-5]}•••{phone[-2:]}"


def canonical_size_mb(size: object) -> int:
    """Whole megabytes (1 GB = 1000 MB) from "1GB", "1.5GB", "500MB", or a bare number, which is gigabytes.

    ValueError for anything else, for zero, and for what is not a whole number of megabytes.
    """
    if isinstance(size, bool) or not isinstance(size, str | int | float):
        raise ValueError('not a size: write it as "1GB", "1.5GB" or "500MB"')
    text = str(size).strip()
    match = _SIZE.fullmatch(text) if len(text) <= _MAX_TEXT else None
    if match is None:
        raise ValueError('not a size: write it as "1GB", "1.5GB" or "500MB"')
    factor = 1 if (match[2] or "GB").upper().startswith("M") else MB_PER_GB
    size_mb = Decimal(match[1]) * factor
    if size_mb <= 0 or size_mb != size_mb.to_integral_value():
        raise ValueError("not a size: it must be a positive whole number of megabytes")
    return int(size_mb)


def spoken_size(size_mb: int) -> str:
    """As people say it: 1000 → `1GB`, 1500 → `1.5GB`, 500 → `500MB`."""
    if size_mb < MB_PER_GB:
        return f"{size_mb}MB"
    return f"{(Decimal(size_mb) / MB_PER_GB).normalize():f}GB"


def canonical_network(text: str) -> str:
    """One of NETWORKS, from any spelling ("AT - iShare", "at_ishare", "ATN-iShare"). ValueError otherwise."""
    if text in NETWORKS:
        return text
    if len(text) <= _MAX_TEXT:
        key = re.sub(r"[\s_\-./]+", "", text.lower())
        if key in _NETWORKS:
            return _NETWORKS[key]
    raise ValueError(f"unknown network: write one of {', '.join(NETWORKS)}")
