"""What somebody typed to find a phone number by: the whole of it or any part, in any spelling. Pure."""

import re
from dataclasses import dataclass
from typing import Final, NamedTuple

from schemas.bundle import canonical_phone

MAX_DIGITS: Final = 15

_COUNTRY: Final = "233"
_TRIGRAM: Final = 3
_PUNCTUATION: Final = str.maketrans("", "", " -().")
_TYPED: Final = re.compile(r"(\+?)([0-9]{1,15})", re.ASCII)
_MAX_TEXT: Final = 40


class Fit(NamedTuple):
    """How a number may fit: all that is given must hold.

    `holds` goes by trigrams, of which those of +233 are in every number and lead nowhere: the rest is looked at after.
    """

    holds: str | None = None
    """Digits that it holds."""
    begins: str | None = None
    """With a plus and digits."""
    contains: str | None = None

    @property
    def beyond(self) -> str | None:
        """The first number, in their order, that no longer begins so; None where there is none."""
        begins = (self.begins or "").removeprefix("+")
        return f"+{int(begins) + 1}" if begins.strip("9") else None


@dataclass(frozen=True, slots=True)
class PhonePart:
    """A whole number, or ways of which one must fit."""

    whole: str | None = None
    ways: tuple[Fit, ...] = ()

    @property
    def leads(self) -> bool:
        """Whether it can lead to few numbers. A digit or two are no trigram: every one would be looked at."""
        return all(way.holds is None or len(way.holds) >= _TRIGRAM for way in self.ways)


def phone_part(text: str) -> PhonePart:
    """`0241234567`, `233 24 123 4567`, `+23324…`, `024`, `4567`. ValueError where it can be no part of a number.

    What begins with `+` or a zero may only be a number's beginning; a zero may stand within one as well.
    """
    if not text.isascii() or len(text) > _MAX_TEXT:
        raise ValueError("not a part of a phone number")
    typed = _TYPED.fullmatch(text.translate(_PUNCTUATION))
    if typed is None:
        raise ValueError(f"not a part of a phone number: 1 to {MAX_DIGITS} digits, with or without a + before them")
    plus, digits = typed[1], typed[2]
    try:
        return PhonePart(whole=canonical_phone(plus + digits))
    except ValueError:
        if plus:
            return PhonePart(ways=(_beginning(digits),))
    if digits.startswith("00") and digits[2:]:
        return PhonePart(ways=(_beginning(digits[2:]), _within(digits)))
    if digits.startswith("0") and digits[1:]:
        return PhonePart(ways=(_beginning(f"{_COUNTRY}{digits[1:]}"), _within(digits)))
    return PhonePart(ways=(_within(digits),))


def _beginning(digits: str) -> Fit:
    return Fit(begins=f"+{digits}")


def _within(digits: str) -> Fit:
    if digits.startswith(_COUNTRY):
        return Fit(holds=_leading(digits), contains=digits)
    return Fit(holds=digits)


def _leading(digits: str) -> str | None:
    """What is left without the country, if that is enough to go by."""
    national = digits.removeprefix(_COUNTRY)
    return national if digits.startswith(_COUNTRY) and len(national) >= _TRIGRAM else None
