"""Lines from files and byte streams, compressed or not, in blocks of bounded size."""

from __future__ import annotations

import gzip
import sys
import zlib
from collections.abc import Iterable, Iterator
from typing import IO, Any, NamedTuple

from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.storage.paths import StoragePath
from airflow_provider_mistral_batch.storage.reading import reading

# So small that a block and what is decoded from it stay in the processor's cache.
CHUNK_BYTES = 1 << 16

#: Most bytes in a request row: our own limit, so that one line cannot fill the memory. The API only limits whole
#: files. A document of 50 MB, the limit of the OCR endpoint, fits in as Base64.
MAX_ROW_BYTES = 100 * 1000 * 1000

#: Most bytes in a result row. It is paid for, so the limit is beyond any answer, even one with a document's images.
MAX_RESULT_ROW_BYTES = 1000 * 1000 * 1000

#: No limit, for request files that we wrote ourselves: their rows fitted into memory before.
ANY_LENGTH = sys.maxsize

_GZIP_MAGIC = b"\x1f\x8b"
# How a frame of data begins, and how the skippable frames do that pzstd writes first.
_ZSTANDARD_MAGICS = (b"\x28\xb5\x2f\xfd", *(bytes([kind]) + b"\x2a\x4d\x18" for kind in range(0x50, 0x60)))
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

# Data may expand 30,000 times: reading it in small pieces bounds the chunks that come out.
_ZSTANDARD_PIECE_BYTES = 1 << 11


class DamagedFileError(InvalidInputError):
    """A compressed file is cut or damaged, or takes too much memory to decompress."""


class MissingExtraError(InvalidInputError):
    """An optional dependency is not installed; the message names the extra."""


class LineBlock(NamedTuple):
    """
    Some consecutive lines.

    :param data: The lines as they were, joined by newlines, without the last newline.
    :param lines: The lines without their line ends.
    :param first_line: Number of the first line, from 1.
    :param ends_cut: Whether the last line is the stream's last and came without a newline.
    """

    data: bytes
    lines: list[bytes]
    first_line: int
    ends_cut: bool

    @property
    def last_line(self) -> int:
        """Number of the last line."""
        return self.first_line + len(self.lines) - 1


def line_blocks(chunks: Iterable[bytes], *, max_line_bytes: int = MAX_ROW_BYTES) -> Iterator[LineBlock]:
    """
    Cut a byte stream into lines.

    Line ends may be LF or CR LF; a UTF-8 byte order mark at the start is dropped; blank lines stay, as empty lines.

    :param chunks: The stream, cut anywhere.
    :param max_line_bytes: Of a longer line only the first ``max_line_bytes + 1`` bytes are kept, so that the
        reader sees that it is too long without holding all of it.
    """
    line_number = 1
    for data, ends_cut in whole_lines(chunks, max_line_bytes=max_line_bytes):
        lines = data.split(b"\n")
        if b"\r" in data:
            lines = [line.removesuffix(b"\r") for line in lines]
            data = b"\n".join(lines)
        yield LineBlock(data, lines, line_number, ends_cut)
        line_number += len(lines)


def whole_lines(
    chunks: Iterable[bytes], *, max_line_bytes: int = MAX_ROW_BYTES
) -> Iterator[tuple[bytes, bool]]:
    """
    Regroup a byte stream so that no line is in two pieces.

    :param chunks: The stream, cut anywhere.
    :param max_line_bytes: Of a longer line only the first ``max_line_bytes + 1`` bytes are kept.
    :return: Whole lines, without the last newline; and whether the stream ends after them without a newline.
    """
    pending: list[bytes] = []
    size = 0
    for chunk in _without_byte_order_mark(chunks):
        end = chunk.rfind(b"\n")
        if end < 0:
            pending.append(chunk[: max(0, max_line_bytes + 1 - size)])
            size += len(pending[-1])
            continue
        if size:
            first_end = chunk.find(b"\n")
            pending.append(chunk[: min(first_end, max(0, max_line_bytes + 1 - size))])
            pending.append(chunk[first_end:end])
            yield b"".join(pending), False
        else:
            yield chunk[:end], False
        pending = [chunk[end + 1 :]]
        size = len(pending[0])
    if size:
        yield b"".join(pending), True


def _without_byte_order_mark(chunks: Iterable[bytes]) -> Iterator[bytes]:
    rest = iter(chunks)
    head = b""
    for chunk in rest:
        head += chunk
        if len(head) >= len(_BYTE_ORDER_MARK):
            break
    yield head.removeprefix(_BYTE_ORDER_MARK)
    yield from rest


def file_chunks(path: StoragePath | str, *, field: str = "") -> Iterator[bytes]:
    """
    Read a file in chunks, decompressed if it is compressed.

    Its first bytes tell how it is compressed. A file named ``.gz`` or ``.zst`` must be compressed so.

    :param path: The file.
    :param field: The parameter that names it, for messages.
    :raises NotAFileError: If it is a directory, a pipe, a device or a socket.
    :raises StorageError: If it cannot be read.
    :raises DamagedFileError: If a compressed file is cut or damaged, or takes too much memory.
    :raises MissingExtraError: If the file is compressed by Zstandard and the extra ``zstd`` is not installed.
    """
    with reading(path, field=field) as file:
        first = file.read(CHUNK_BYTES)
        name = str(path)
        if first.startswith(_GZIP_MAGIC):
            yield from _gunzipped(_Replayed(first, file), name)
        elif first.startswith(_ZSTANDARD_MAGICS):
            yield from _unzstandarded(_Replayed(first, file), name)
        elif name.endswith((".gz", ".zst")):
            kind = "gzip" if name.endswith(".gz") else "Zstandard"
            what = "is empty" if not first else f"does not start like a {kind} file"
            raise DamagedFileError(
                f"{name} {what}: it may be cut, or not compressed at all. Write it again, or rename it"
            )
        else:
            while first:
                yield first
                first = file.read(CHUNK_BYTES)


class _Replayed:
    """A file that gives the bytes once more that were read first: in an object store, a seek costs a call."""

    def __init__(self, first: bytes, file: IO[Any]) -> None:
        self._first = first
        self._file = file

    def read(self, size: int = -1) -> bytes:
        if self._first and size >= 0:
            piece, self._first = self._first[:size], self._first[size:]
            return piece
        return bytes(self._file.read(size))


def _gunzipped(file: _Replayed, name: str) -> Iterator[bytes]:
    with gzip.GzipFile(fileobj=file, mode="rb") as unzipped:  # type: ignore[call-overload]
        while True:
            try:
                chunk = unzipped.read(CHUNK_BYTES)
            except EOFError:
                raise DamagedFileError(
                    f"{name} is cut, because its gzip stream is incomplete: write or copy the file again"
                ) from None
            except (OSError, zlib.error) as error:
                if isinstance(error, OSError) and not isinstance(error, gzip.BadGzipFile):
                    raise
                raise DamagedFileError(f"{name} is damaged ({error}): write or copy the file again") from None
            if not chunk:
                return
            yield chunk


def _unzstandarded(file: _Replayed, name: str) -> Iterator[bytes]:
    try:
        import zstandard
    except ImportError:
        raise MissingExtraError(
            f"{name} is compressed by Zstandard: install airflow-provider-mistral-batch[zstd]"
        ) from None
    decompressor = zstandard.ZstdDecompressor()
    frame = decompressor.decompressobj()
    fresh = True
    try:
        while piece := file.read(_ZSTANDARD_PIECE_BYTES):
            while piece:
                if frame.eof:
                    frame = decompressor.decompressobj()
                chunk = frame.decompress(piece)
                fresh = False
                piece = frame.unused_data if frame.eof else b""
                if chunk:
                    yield chunk
    except zstandard.ZstdError as error:
        if "too much memory" in str(error):
            raise DamagedFileError(
                f"{name} takes more than 128 MB of memory to decompress: compress it with zstd --long=27 or less"
            ) from None
        raise DamagedFileError(f"{name} is damaged ({error}): write or copy the file again") from None
    if not fresh and not frame.eof:
        raise DamagedFileError(
            f"{name} is cut, because its Zstandard frame is incomplete: write or copy the file again"
        )
