"""How far the view has followed the log, as an id that a client can come back with. Pure."""

import re
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple, Self

_ID: Final = re.compile(r"(\d{1,18}(?:\.\d{1,18}){0,999})_(\d{1,18}(?:\.\d{1,18}){0,999})", re.ASCII)


class Stretch(NamedTuple):
    """Offsets of one partition: from `first`, up to and without `beyond`."""

    partition: int
    first: int
    beyond: int


class Stand(NamedTuple):
    """The next offset of each partition, from partition 0 on."""

    events: tuple[int, ...]
    dead_letters: tuple[int, ...]

    @classmethod
    def of(cls, events: Mapping[int, int], dead_letters: Mapping[int, int]) -> Self:
        return cls(_in_order(events), _in_order(dead_letters))

    @classmethod
    def read(cls, text: str) -> Self:
        """ValueError where it is none."""
        match = _ID.fullmatch(text)
        if match is None:
            raise ValueError("not an id of this stream")
        return cls(*(tuple(int(part) for part in group.split(".")) for group in match.groups()))

    def __str__(self) -> str:
        return "_".join(".".join(str(offset) for offset in part) for part in self)

    def precedes(self, other: Self) -> bool:
        """In every partition, and of as many."""
        return all(
            len(mine) == len(theirs) and all(here <= there for here, there in zip(mine, theirs, strict=True))
            for mine, theirs in zip(self, other, strict=True)
        )


def stretches(since: Iterable[int], until: Iterable[int]) -> list[Stretch]:
    """Of partitions that went on."""
    both = enumerate(zip(since, until, strict=True))
    return [Stretch(partition, first, beyond) for partition, (first, beyond) in both if first < beyond]


def _in_order(offsets: Mapping[int, int]) -> tuple[int, ...]:
    return tuple(offsets.get(partition, 0) for partition in range(max(offsets, default=0) + 1))
