"""Multipart uploads: a file of any size is streamed to disk, with a few kilobytes of it in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from airflow_provider_mistral_batch.emulator.http.errors import ApiError

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

#: Bytes that are kept of a form field that is not a file.
_LONGEST_FIELD = 10_000

#: Parts that a form may have, and bytes that the headers of one part may have.
_MOST_PARTS = 100
_LONGEST_HEAD = 20_000


@dataclass
class UploadedFile:
    """
    The file of a form, whose content is on disk.

    :param size: Bytes.
    :param lines: Lines. The last one counts even if it has no line break.
    :param signature: Digest of the content.
    """

    filename: str
    content_type: str | None
    size: int = 0
    lines: int = 0
    signature: str = ""


@dataclass
class Form:
    """A form: its text fields, and its file if it has one."""

    fields: dict[str, str] = field(default_factory=dict)
    file: UploadedFile | None = None


async def read_form(content_type: str, chunks: AsyncIterator[bytes], path: Path, limit: int) -> Form:
    """
    Read a ``multipart/form-data`` body, and write its part ``file`` to disk.

    A file that is too large is read to its end, too: a client that is cut off while it sends gets a broken connection
    instead of the answer.

    :param content_type: The header ``Content-Type``.
    :param chunks: The body.
    :param path: Where to write the file.
    :param limit: Bytes that the file may have.
    :raises ApiError: 413 if the file has more bytes than that, 400 if the body is not such a form.
    """
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise ApiError(400, "The body must be multipart/form-data with a boundary")
    with path.open("wb") as file:
        reader = _FormReader(file, limit)
        try:
            parser = MultipartParser(boundary, reader.callbacks())
            async for chunk in chunks:
                parser.write(chunk)
            parser.finalize()
        except FormParserError as error:
            raise ApiError(400, f"The body is not valid multipart/form-data: {error}") from None
        if not reader.ended:
            raise ApiError(400, "The body is not valid multipart/form-data: it ends before its last boundary")
        return reader.finished()


class _FormReader:
    """Makes a form from the parser's events; ``ended`` says whether the last boundary has come."""

    def __init__(self, file: BinaryIO, limit: int) -> None:
        self.form = Form()
        self.ended = False
        self._parts = 0
        self._head = 0
        self._file = file
        self._limit = limit
        self._hash = blake2b(digest_size=8)
        self._last = b"\n"
        self._headers: dict[bytes, bytes] = {}
        self._header = b""
        self._value = b""
        self._name = ""
        self._is_file = False
        self._text = bytearray()

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._part_begin,
            "on_part_data": self._part_data,
            "on_part_end": self._part_end,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_end": self._end,
        }

    def finished(self) -> Form:
        """
        Return the form, once all of it was read.

        :raises ApiError: 413 if its file is too large.
        """
        file = self.form.file
        if file is not None:
            if file.size > self._limit:
                raise ApiError(
                    413,
                    f"The file has {file.size} bytes, at most {self._limit} are allowed",
                    "payload_too_large",
                )
            file.signature = self._hash.hexdigest()
            if self._last != b"\n":
                file.lines += 1
        return self.form

    def _part_begin(self) -> None:
        self._parts += 1
        if self._parts > _MOST_PARTS:
            raise FormParserError(f"it has more than {_MOST_PARTS} parts")
        self._headers = {}
        self._head = 0
        self._text = bytearray()
        self._is_file = False

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._count_head(end - start)
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._count_head(end - start)
        self._value += data[start:end]

    def _count_head(self, size: int) -> None:
        self._head += size
        if self._head > _LONGEST_HEAD:
            raise FormParserError(f"the headers of a part have more than {_LONGEST_HEAD} bytes")

    def _header_end(self) -> None:
        self._headers[self._header.lower()] = self._value
        self._header = self._value = b""

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        if b"filename" in options and self._name == "file":
            if self.form.file is not None:
                raise FormParserError("it has more than one file")
            self._is_file = True
            content_type = self._headers.get(b"content-type")
            self.form.file = UploadedFile(
                filename=options[b"filename"].decode("utf-8", "replace"),
                content_type=content_type.decode("latin-1") if content_type else None,
            )

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        chunk = data[start:end]
        if not self._is_file:
            self._text += chunk[: _LONGEST_FIELD - len(self._text)]
            return
        file = self.form.file
        assert file is not None
        file.size += len(chunk)
        if file.size <= self._limit:
            self._file.write(chunk)
            self._hash.update(chunk)
            file.lines += chunk.count(b"\n")
            self._last = chunk[-1:] or self._last

    def _end(self) -> None:
        self.ended = True

    def _part_end(self) -> None:
        if not self._is_file:
            self.form.fields[self._name] = self._text.decode("utf-8", "replace")
