"""Answers as Markdown files beside the table: one for each row, named after its key."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from airflow_provider_mistral_batch.api.endpoints import DOCUMENT_SUFFIXES, RECORDING_SUFFIXES
from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.storage.atomic import write_whole
from airflow_provider_mistral_batch.storage.many import side_by_side
from airflow_provider_mistral_batch.tables.columns import ANSWER
from airflow_provider_mistral_batch.tables.python_values import python_values

if TYPE_CHECKING:
    from airflow_provider_mistral_batch.storage.paths import StoragePath
    from airflow_provider_mistral_batch.tables.shapes import Shape

_SUFFIX = ".md"

#: Texts in memory at once.
_ROWS_AT_ONCE = 50

#: Bytes of a name without its end; file systems take 255, and a temporary name is longer.
_LONGEST = 120

_NOT_IN_NAMES = re.compile(r"[^\w.\- ]+")
_DROPPED = DOCUMENT_SUFFIXES | RECORDING_SUFFIXES


def markdown_column(shape: Shape, endpoint: str) -> str:
    """
    Choose the column that becomes files.

    :param shape: The columns of the answers.
    :param endpoint: The job's endpoint.
    :raises InvalidInputError: When the answers are no texts.
    """
    from pyarrow import types

    columns = {field.name for field in shape.fields() if types.is_string(field.type)}
    for name in ("markdown", ANSWER):
        if name in columns:
            return name
    raise InvalidInputError(
        f"columns: markdown=True: the answers of {endpoint} have no column with a text, but "
        f"{', '.join(field.name for field in shape.fields())}: leave markdown out"
    )


class FileNames:
    """Names for files, one for each key: safe on any storage, and no two alike, also where case does not count."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def name(self, key: Sequence[Any]) -> str:
        """
        Name the file of a row: ``a.md`` for the path ``s3://bucket/a.pdf``, ``2026-01-31-7.md`` for a day and a number.

        :param key: The values of the key.
        """
        path = "-".join(map(str, key)) if len(key) > 1 else PurePosixPath(str(key[0])).name
        stem = path[: -len(suffix)] if (suffix := PurePosixPath(path).suffix).lower() in _DROPPED else path
        stem = _NOT_IN_NAMES.sub("_", unicodedata.normalize("NFC", stem)).strip(". ")
        stem = stem.encode()[:_LONGEST].decode(errors="ignore") or "document"
        if stem.casefold() in self._taken:
            stem += "-" + hashlib.sha256(repr(list(map(str, key))).encode()).hexdigest()[:12]
        self._taken.add(stem.casefold())
        return stem + _SUFFIX


def write_markdown(results: Path, folder: StoragePath, *, key: Sequence[str], column: str) -> int:
    """
    Write a file for each answer of a table.

    :param results: The table, a local Parquet file.
    :param folder: Where the files go.
    :param key: The columns of the key.
    :param column: The column with the texts.
    :return: How many there are.
    """
    return sum(1 for _ in side_by_side(_write, _files(results, folder, key, column)))


def _files(
    results: Path, folder: StoragePath, key: Sequence[str], column: str
) -> Iterator[tuple[StoragePath, str]]:
    from pyarrow import parquet

    names = FileNames()
    with parquet.ParquetFile(results) as table:
        for batch in table.iter_batches(_ROWS_AT_ONCE, columns=[*key, column, "status"], use_threads=False):
            keys = zip(*(python_values(batch.column(name), name, field="key") for name in key), strict=True)
            texts, statuses = (batch.column(name).to_pylist() for name in (column, "status"))
            for row_key, text, status in zip(keys, texts, statuses, strict=True):
                if status == "ok" and text is not None:
                    yield folder / names.name(row_key), text


def _write(file: tuple[StoragePath, str]) -> None:
    path, text = file
    write_whole(path, text.encode("utf-8", "replace"))
