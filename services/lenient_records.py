r"""aiokafka's records, without its stop at a header whose name is not UTF-8.

Kafka takes such a header from any producer; aiokafka 0.14 raises at it, for ever, and everything behind it in the
partition is never read. Here its name is read with the odd bytes escaped (`\\xff`), and all else as it is.
"""

import struct
from collections.abc import Iterator
from typing import Any, Final

from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords

_BATCH_HEAD: Final = struct.Struct(">qi")
"""Base offset; length of what follows."""


class _Text(bytearray):
    """Bytes whose slices decode, whatever they are."""

    def __getitem__(self, at: Any) -> Any:
        piece = super().__getitem__(at)
        return _Text(piece) if isinstance(at, slice) else piece

    def decode(self, encoding: str = "utf-8", errors: str = "backslashreplace") -> str:
        return super().decode(encoding, errors)


class _Batch:
    def __init__(self, batch: Any, data: memoryview) -> None:
        self._batch = batch
        self._data = data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        try:
            return iter(list(self._batch))
        except (UnicodeDecodeError, CorruptRecordException):  # the latter by aiokafka's parser without extensions
            again = _DefaultRecordBatchPy(self._data)
            again._maybe_uncompress()  # noqa: SLF001 - so that what is sliced is what was compressed
            again._buffer = _Text(again._buffer)  # noqa: SLF001 - no other way in; aiokafka is pinned, a test holds it
            return iter(again)


class LenientRecords:
    """What a fetch brought of one partition, batch by batch."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._records = MemoryRecords(data)
        self._begin = 0

    def size_in_bytes(self) -> int:
        return len(self._data)

    def has_next(self) -> bool:
        return bool(self._records.has_next())

    def next_batch(self) -> _Batch:
        _, length = _BATCH_HEAD.unpack_from(self._data, self._begin)
        begin, self._begin = self._begin, self._begin + _BATCH_HEAD.size + length
        return _Batch(self._records.next_batch(), memoryview(self._data)[begin : self._begin])


def install() -> None:
    """For every consumer of this process."""
    fetcher.MemoryRecords = LenientRecords
