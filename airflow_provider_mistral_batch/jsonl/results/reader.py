"""Landed result files, JSONL or Parquet, read lazily: by blocks, as lines, as typed rows."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from msgspec.structs import replace

from airflow_provider_mistral_batch.jsonl.lines import MAX_RESULT_ROW_BYTES, file_chunks, line_blocks
from airflow_provider_mistral_batch.jsonl.results.parquet import PARQUET_MAGIC, read_parquet
from airflow_provider_mistral_batch.jsonl.results.rows import ResultRow, result_row
from airflow_provider_mistral_batch.storage.paths import StoragePath
from airflow_provider_mistral_batch.storage.reading import reading


def read_rows(path: StoragePath | str) -> Iterator[ResultRow]:
    """
    Read the rows of a landed file.

    :param path: A results or errors file, JSONL (compressed or not) or Parquet.
    """
    return map(result_row, read_lines(path))


def read_failed_rows(path: StoragePath | str) -> Iterator[ResultRow]:
    """
    Read the rows of an errors file, each with an error: answers are among them if nobody asked for them.

    :param path: The errors file.
    """
    for row in read_rows(path):
        yield row if row.error else replace(row, error="nobody asked for this custom_id")


def read_lines(path: StoragePath | str) -> Iterator[bytes]:
    """
    Read the rows of a landed file as the API gave them.

    :param path: A results or errors file, JSONL (compressed or not) or Parquet.
    """
    return chain.from_iterable(read_blocks(path))


def read_blocks(path: StoragePath | str) -> Iterator[list[bytes]]:
    """
    Read the rows of a landed file as the API gave them, in blocks: the longer the rows, the fewer in one block.

    :param path: A results or errors file, JSONL (compressed or not) or Parquet.
    """
    with reading(path) as file:
        is_parquet = file.read(len(PARQUET_MAGIC)) == PARQUET_MAGIC
    if is_parquet:
        yield from read_parquet(path)
        return
    for block in line_blocks(file_chunks(path), max_line_bytes=MAX_RESULT_ROW_BYTES):
        yield list(filter(None, block.lines))
