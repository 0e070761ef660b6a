"""Compares millions of custom ids in nearly constant memory: which ones repeat, and which are in another set, too?"""

from __future__ import annotations

import math
import os
import secrets
import sys
import tempfile
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import compress, count, islice, pairwise
from operator import and_, eq
from pathlib import Path
from struct import Struct, pack
from types import TracebackType
from typing import Any, Protocol

_KEY_BYTES = 8

# One of them stands before each id when it is hashed. They are secret, and other ones in each process: so nobody can
# prepare ids whose hashes are equal, even where PYTHONHASHSEED is fixed. The first character makes Python hold every
# text in one form, four bytes for each character. Otherwise "ab" and the one character of the same bytes have one hash.
_SECRETS = tuple(f"\U0010ffff{secrets.token_urlsafe(16)}" for _ in range(2))

# A sum of keys is one of so many: as good as the keys themselves.
_SUMS = 2**64

# Bit 62 of a key is cleared (in the byte that holds it), so that its 8 bytes read as a double are a number: neither NaN
# nor infinite. Python sorts doubles three times as fast as integers, and equal keys are equal doubles.
_TOP_BYTE = 7 if sys.byteorder == "little" else 0
_CLEAR_BIT_62 = bytes(byte & 0b1011_1111 for byte in range(256))
_MASK = ~(1 << 62)

_NEGATED = bytes([1]) + bytes(255)


class CustomIds:
    """
    Keys of custom ids (63 bits of their hashes), in the order of their rows, in a temporary file.

    A Python set of a million strings takes 130 MB. This takes 16 bytes of disk for each id and, while it compares,
    one byte of memory for each id and some MB whatever their number. Every step over all ids is a loop in C.

    Keys are sorted in runs when it is needed. A comparison takes one range of keys at a time out of all runs.

    Two different ids share a key once in 2^63 pairs. So different keys are certain to mean different ids, but equal
    keys are a suspicion: either the ids themselves are compared afterwards, or :class:`CertainIds` are used instead.

    :param directory: Where the temporary files are made; the system's default if None. They have no names, so the
        system removes them when they are closed or the process ends.
    :param digest: The hash of a text: of a secret of this process and the id.
    :param window: How many keys are held in memory at once.
    :param number: Which of the two secrets: keys of one number say nothing of those of the other.
    """

    def __init__(
        self,
        directory: Path | None = None,
        *,
        digest: Callable[[str], int] = hash,
        window: int = 1 << 17,
        number: int = 0,
    ) -> None:
        self._digest = digest
        self._secret = _SECRETS[number]
        self._window = window
        self._in_order = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 - closed by close()
        self._in_runs = tempfile.TemporaryFile(dir=directory, buffering=0)  # noqa: SIM115
        self._runs: list[tuple[int, int]] = []
        self._tail = bytearray()
        self._written = 0

    def __enter__(self) -> CustomIds:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return self._written + len(self._tail) // _KEY_BYTES

    def close(self) -> None:
        """Free the disk space."""
        self._in_order.close()
        self._in_runs.close()

    def extend(self, ids: Sequence[str]) -> None:
        """Add the ids of the next rows."""
        secret = self._secret
        self._tail += pack(f"={len(ids)}q", *map(self._digest, [secret + id_ for id_ in ids]))
        if len(self._tail) >= self._window * _KEY_BYTES:
            self._flush()

    def key(self, id_: str) -> int:
        """Give the key of an id."""
        return self._digest(self._secret + id_) & _MASK

    def repeated(self, later: bytes | bytearray = b"") -> bytearray:
        """
        Find ids that repeat.

        :param later: One flag for each row: 1 if it counts as coming after all rows without one. None if empty.
        :return: One flag for each row: 1 if a row before it has the same id.
        """
        flags = bytearray(len(self))
        later = later or bytes(len(self))
        for keys in _gathered(map(_repeated, self._keys_by_range(self._parts())), self._window):
            seen: set[int] = set()
            for turn in range(1 + (1 in later)):
                start = 0
                for window in self._windows():
                    rows = zip(count(start), window, later[start : start + len(window)], strict=False)
                    for row, key, is_later in compress(rows, map(keys.__contains__, window)):
                        if is_later == turn:
                            flags[row] = key in seen
                            seen.add(key)
                    start += len(window)
        return flags

    def shared(self, others: CustomIds) -> bytearray:
        """
        Find ids that another set has, too.

        :param others: The other set.
        :return: One flag for each id of this set: 1 if the other one has it.
        """
        flags = bytearray(len(self))
        for keys in _gathered(
            (set(some).intersection(more) for some, more in self._pairs(others)), self._window
        ):
            self._mark(flags, keys)
        return flags

    def unshared(self, others: CustomIds) -> tuple[bytearray, bytearray]:
        """
        Find ids that only one of two sets has.

        :param others: The other set.
        :return: One flag for each id of this set, and one for each of the other: 1 if only that set has it.
        """
        flags, other_flags = bytearray(len(self)), bytearray(len(others))
        for keys in _gathered((_unshared(*pair) for pair in self._pairs(others)), self._window):
            self._mark(flags, keys)
            others._mark(other_flags, keys)
        return flags, other_flags

    def keys_at(self, flags: bytearray, limit: int) -> set[int]:
        """Give the distinct keys of flagged ids, ``limit`` of them at most."""
        keys: set[int] = set()
        for key in self._flagged(flags):
            keys.add(key)
            if len(keys) >= limit:
                break
        return keys

    def sum_of(self, unwanted: bytearray | None = None) -> int:
        """
        Sum the keys: with few exceptions, equal sums mean equal keys.

        :param unwanted: One flag for each id: 1 if it is left out. All count if None.
        """
        total = start = 0
        for window in self._windows():
            end = start + len(window)
            wanted = None if unwanted is None else unwanted[start:end].translate(_NEGATED)
            total += sum(window if wanted is None else compress(window, wanted))
            start = end
        return total % _SUMS

    def _parts(self) -> int:
        self._sort()
        return 1 + self._written // self._window

    def _flush(self) -> None:
        if not self._tail:
            return
        keys, self._tail = self._tail, bytearray()
        keys[_TOP_BYTE::_KEY_BYTES] = keys[_TOP_BYTE::_KEY_BYTES].translate(_CLEAR_BIT_62)
        self._in_order.seek(0, os.SEEK_END)
        self._in_order.write(keys)
        self._written += len(keys) // _KEY_BYTES

    def _sort(self) -> None:
        """Sort the keys that came after the last question that needed it, in runs of one window each."""
        self._flush()
        start = self._runs[-1][1] if self._runs else 0
        self._in_runs.seek(0, os.SEEK_END)
        while start < self._written:
            self._in_order.seek(start * _KEY_BYTES)
            keys = array("d", self._in_order.read(self._window * _KEY_BYTES))
            self._in_runs.write(array("d", sorted(keys)).tobytes())
            self._runs.append((start, start + len(keys)))
            start += len(keys)

    def _windows(self) -> Iterator[array[int]]:
        """Give all keys in the order of their rows, one window at a time."""
        self._flush()
        for start in range(0, self._written, self._window):
            self._in_order.seek(start * _KEY_BYTES)
            yield array("q", self._in_order.read(self._window * _KEY_BYTES))

    def _keys_by_range(self, parts: int) -> Iterator[list[float]]:
        """Give all keys sorted, one part of their range at a time."""
        runs = _Doubles(self._in_runs)
        for low, high in _ranges(parts):
            found = array("d")
            for start, end in self._runs:
                first = bisect_left(runs, low, start, end)
                last = bisect_left(runs, high, first, end)
                self._in_runs.seek(first * _KEY_BYTES)
                found.frombytes(self._in_runs.read((last - first) * _KEY_BYTES))
            yield sorted(found)

    def _pairs(self, others: CustomIds) -> Iterator[tuple[list[float], list[float]]]:
        """Give all keys of both sets sorted, one part of their range at a time."""
        parts = max(self._parts(), others._parts())
        return zip(self._keys_by_range(parts), others._keys_by_range(parts), strict=True)

    def _flagged(self, flags: bytearray) -> Iterator[int]:
        """Give the keys of flagged ids in the order of their rows."""
        start = 0
        for window in self._windows():
            end = start + len(window)
            yield from compress(window, flags[start:end])
            start = end

    def _mark(self, flags: bytearray, keys: set[int]) -> None:
        """Set the flags of all rows that have one of the keys."""
        start = 0
        for window in self._windows():
            end = start + len(window)
            flags[start:end] = _either(flags[start:end], bytes(map(keys.__contains__, window)))
            start = end


class CertainIds:
    """
    Custom ids with two keys each, made with two secrets: where both are equal, the ids are the same (2^-126 remains).

    :param directory: Where the temporary files are made; the system's default if None.
    :param options: ``digest`` and ``window``, as for :class:`CustomIds`.
    """

    def __init__(self, directory: Path | None = None, **options: Any) -> None:
        self._first, self._second = (CustomIds(directory, number=number, **options) for number in range(2))

    def __enter__(self) -> CertainIds:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._first)

    def close(self) -> None:
        """Free the disk space."""
        self._first.close()
        self._second.close()

    def extend(self, ids: Sequence[str]) -> None:
        """Add the ids of the next rows."""
        self._first.extend(ids)
        self._second.extend(ids)

    def repeated(self, later: bytes | bytearray = b"") -> bytearray:
        """
        Find ids that repeat, as :meth:`CustomIds.repeated` does.

        :param later: One flag for each row: 1 if it counts as coming after all rows without one. None if empty.
        """
        flags = self._first.repeated(later)
        return bytearray(map(and_, flags, self._second.repeated(later))) if 1 in flags else flags

    def unshared(self, others: CertainIds) -> tuple[bytearray, bytearray]:
        """
        Find ids that only one of two sets has, as :meth:`CustomIds.unshared` does.

        :param others: The other set.
        """
        flags, other_flags = bytearray(len(self)), bytearray(len(others))
        if all(mine.sum_of() == theirs.sum_of() for mine, theirs in self._pairs(others)):
            # Every request has one row: nothing needs to be sorted.
            return flags, other_flags
        for mine, theirs in self._pairs(others):
            if mine.sum_of(flags) != theirs.sum_of(other_flags):
                more, other_more = mine.unshared(theirs)
                flags, other_flags = (
                    bytearray(_either(flags, more)),
                    bytearray(_either(other_flags, other_more)),
                )
        return flags, other_flags

    def _pairs(self, others: CertainIds) -> tuple[tuple[CustomIds, CustomIds], ...]:
        return (self._first, others._first), (self._second, others._second)


def _repeated(keys: list[float]) -> set[float]:
    return set(compress(keys, map(eq, keys, islice(keys, 1, None))))


def _unshared(some: list[float], others: list[float]) -> set[float]:
    """Give the keys that only one of two sorted lists has."""
    if some == others:
        return set()
    some, others = (sorted(set(keys)) if _repeated(keys) else keys for keys in (some, others))
    both = sorted(some + others)
    like_next = bytes(map(eq, both, islice(both, 1, None)))
    shared = _either(like_next + b"\0", b"\0" + like_next)
    return set(compress(both, shared.translate(_NEGATED)))


def _gathered(key_sets: Iterable[set[float]], least: int) -> Iterator[set[int]]:
    """Join small sets of keys to larger ones, as integers: each set costs one pass over all rows."""
    keys: set[int] = set()
    for more in key_sets:
        keys.update(array("q", array("d", more).tobytes()))
        if len(keys) > least:
            yield keys
            keys = set()
    if keys:
        yield keys


def _either(flags: bytes | bytearray, others: bytes | bytearray) -> bytes:
    joined = int.from_bytes(flags, "big") | int.from_bytes(others, "big")
    return joined.to_bytes(len(flags), "big")


class _RawFile(Protocol):
    def fileno(self) -> int: ...


class _Doubles:
    """The doubles of a file as a sequence, so that bisect finds one without reading all of them."""

    def __init__(self, file: _RawFile) -> None:
        self._descriptor = file.fileno()

    def __len__(self) -> int:
        return os.fstat(self._descriptor).st_size // _KEY_BYTES

    def __getitem__(self, index: int) -> float:
        key: float = _DOUBLE.unpack(os.pread(self._descriptor, _KEY_BYTES, index * _KEY_BYTES))[0]
        return key


_DOUBLE = Struct("=d")
_WHOLE = Struct("=Q")


def _ranges(parts: int) -> Iterator[tuple[float, float]]:
    """Cut the range of all keys, read as doubles, into parts that hold about as many keys each."""
    bounds = [-math.inf, *(_bound(part / parts) for part in range(1, parts)), math.inf]
    return pairwise(bounds)


def _bound(share: float) -> float:
    # The bits of a positive double, read as an integer, grow with it; a negative one's with its distance from zero.
    place = int((2 * share - 1) * (1 << 62))
    key: float = _DOUBLE.unpack(_WHOLE.pack(abs(place) | (1 << 63 if place < 0 else 0)))[0]
    return key
