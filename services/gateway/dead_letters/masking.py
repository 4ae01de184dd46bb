"""What a viewer sees of bytes that anybody may have written: whatever looks like a phone number is hidden."""

import re
from typing import Final

# An id and a time of RFC 3339 have as many digits, and are nobody's number.
_KEPT: Final = (
    r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    r"|[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?"
)
_SEEN: Final = re.compile(
    rf"(?P<kept>{_KEPT})|(?P<number>\+?\d(?:[ ().\-\0]{{0,3}}\d){{6,}})|(?P<packed>[A-Za-z0-9+/=]{{48,}})",
    re.IGNORECASE,
)
_ESCAPED_DIGIT: Final = re.compile(r"\\u003([0-9])")


def masked(text: str) -> str:
    """Without phone numbers, nor what may hold one in base64."""
    return _SEEN.sub(_hidden, _ESCAPED_DIGIT.sub(r"\1", text))


def _hidden(match: re.Match[str]) -> str:
    said = match[0]
    if match["kept"]:
        return said
    if match["packed"]:
        return "•••"
    digits = [at for at, character in enumerate(said) if character.isdigit()]
    return f"{said[: digits[min(len(digits) - 5, 8)]]}•••{said[-2:]}"
