"""CSV and JSONL as record batches: each value as it is written, and each problem with its line."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_provider_mistral_batch.api.decoding import UNREADABLE, decoded, is_utf8
from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.jsonl.lines import file_chunks, line_blocks
from airflow_provider_mistral_batch.jsonl.requests.problems import shortened
from airflow_provider_mistral_batch.tables.sources.base import BYTES_IN_BATCH, ROWS_IN_BATCH, in_batches
from airflow_provider_mistral_batch.tables.sources.values import array_of

if TYPE_CHECKING:
    import pyarrow

    from airflow_provider_mistral_batch.storage.paths import StoragePath

# The longest field. Python's own limit is too low for documents.
_MAX_FIELD_BYTES = 100 * 1000 * 1000


class CsvFile:
    """
    A CSV file with a header. It has no types, so each value is a text as it is written; an empty one is null.

    :param path: The file.
    :param delimiter: What separates fields.
    """

    def __init__(self, path: StoragePath, delimiter: str) -> None:
        self._path = path
        self._delimiter = delimiter

    def columns(self) -> list[str]:
        """
        Read the header.

        :raises InvalidInputError: When there is none.
        """
        return self._header(self._records())

    def _header(self, records: Iterator[list[str]]) -> list[str]:
        names = next(records, None)
        if not names or not all(names) or len(set(names)) < len(names):
            found = (
                f"is no header with a name of its own for each column: {names!r:.200}"
                if names
                else "is missing"
            )
            raise InvalidInputError(f"{self._path}: the first line {found}; write the columns' names there")
        return names

    def read(self, columns: Sequence[str]) -> Iterator[pyarrow.RecordBatch]:
        """
        Read some columns.

        :param columns: The columns; those that the file lacks are null.
        :raises InvalidInputError: When a row has more or fewer fields than the header.
        """
        import pyarrow

        records = self._records()
        names = self._header(records)
        for some in in_batches(records, _characters):
            fields = list(zip(*some, strict=True))
            arrays = [
                pyarrow.array([value or None for value in fields[names.index(name)]], pyarrow.string())
                if name in names
                else pyarrow.nulls(len(some), pyarrow.string())
                for name in columns
            ]
            yield pyarrow.record_batch(arrays, names=list(columns))

    def _records(self) -> Iterator[list[str]]:
        csv.field_size_limit(_MAX_FIELD_BYTES)
        reader = csv.reader(self._lines(), delimiter=self._delimiter, strict=True)
        width = None
        try:
            for record in reader:
                if not record:
                    continue
                if width is None:
                    width = len(record)
                if len(record) != width:
                    raise InvalidInputError(
                        f"{self._path}, line {reader.line_num}: the row has {len(record)} fields, and the header "
                        f"{width}: {shortened(record[0])} …. Put quotes around texts that have {self._delimiter!r} or "
                        "line ends in them"
                    )
                yield record
        except csv.Error as error:
            raise InvalidInputError(
                f"{self._path}, line {reader.line_num} is no CSV: {error}. Put quotes around texts that have "
                f"{self._delimiter!r}, quotes or line ends in them, close them, and double those within"
            ) from None

    def _lines(self) -> Iterator[str]:
        for block in line_blocks(file_chunks(self._path, field="path")):
            if not is_utf8(block.data):
                number = [is_utf8(line) for line in block.lines].index(False) + block.first_line
                raise InvalidInputError(f"{self._path}, line {number} is not UTF-8: write the file in UTF-8")
            yield from (line.decode() + "\n" for line in block.lines)


def _characters(record: list[str]) -> int:
    return sum(map(len, record))


class JsonlFile:
    """
    A file with one JSON object in each line. Its columns are the fields of the first.

    :param path: The file.
    """

    def __init__(self, path: StoragePath) -> None:
        self._path = path

    def columns(self) -> list[str]:
        """
        Name the fields of the first row.

        :raises InvalidInputError: When it is no object.
        """
        first, _ = next(self._rows(msgspec.json.Decoder().decode), ([], 0))
        return list(first[0]) if first else []

    def read(self, columns: Sequence[str]) -> Iterator[pyarrow.RecordBatch]:
        """
        Read some fields; the others are not decoded.

        :param columns: The fields; where a row lacks one, it is null.
        :raises InvalidInputError: When a line is no object, or the values of a field are not of one type.
        """
        fields: list[Any] = [
            (f"field_{number}", Any, msgspec.field(default=None, name=name))
            for number, name in enumerate(columns)
        ]
        decode = msgspec.json.Decoder(msgspec.defstruct("Row", fields, gc=False)).decode
        first = 1
        waiting: list[Any] = []
        size = 0
        for rows, row_bytes in self._rows(decode):
            waiting += rows
            size += row_bytes
            if size >= BYTES_IN_BATCH or len(waiting) >= ROWS_IN_BATCH:
                yield self._batch(waiting, columns, first)
                first += len(waiting)
                waiting, size = [], 0
        if waiting:
            yield self._batch(waiting, columns, first)

    def _batch(self, rows: list[Any], columns: Sequence[str], first: int) -> pyarrow.RecordBatch:
        import pyarrow

        try:
            arrays = [
                array_of(name, [getattr(row, f"field_{number}") for row in rows], first)
                for number, name in enumerate(columns)
            ]
        except InvalidInputError as error:
            raise InvalidInputError(f"{self._path}: {error}") from None
        return pyarrow.record_batch(arrays, names=list(columns))

    def _rows(self, decode: Callable[[bytes], Any]) -> Iterator[tuple[list[Any], int]]:
        """Decode rows, some at a time; with the bytes of their lines."""
        for block in line_blocks(file_chunks(self._path, field="path")):
            try:
                rows = [decoded(decode, line) for line in block.lines if line.strip()]
            except UNREADABLE:
                raise self._problem(block.lines, block.first_line, decode) from None
            if not all(isinstance(row, (dict, msgspec.Struct)) for row in rows):
                raise self._problem(block.lines, block.first_line, decode)
            yield rows, len(block.data)

    def _problem(self, lines: list[bytes], first: int, decode: Callable[[bytes], Any]) -> InvalidInputError:
        for number, line in enumerate(lines, first):
            if line.strip():
                try:
                    row = decoded(decode, line)
                except UNREADABLE as error:
                    return InvalidInputError(
                        f"{self._path}, line {number} is not valid JSON ({error}): write one object in each line"
                    )
                if not isinstance(row, (dict, msgspec.Struct)):
                    break
        return InvalidInputError(
            f"{self._path}, line {number} is not a JSON object: write one object in each line"
        )
