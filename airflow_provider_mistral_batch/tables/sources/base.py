"""What every source of rows can do."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar
from zlib import crc32

from airflow_provider_mistral_batch.api.checks import check_whole
from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.jsonl.lines import MissingExtraError

if TYPE_CHECKING:
    import pyarrow

File = TypeVar("File")
Row = TypeVar("Row")

#: Rows in one record batch. So few that a batch and what is made of it stay small, so many that its own cost is small.
ROWS_IN_BATCH = 5_000

#: Bytes of one record batch, about: wide rows make small batches.
BYTES_IN_BATCH = 8 << 20


_SIZED = (str, bytes, memoryview, list, dict)


class RowSource(ABC):
    """
    Where rows come from.

    Airflow renders the attributes that ``template_fields`` names. Parsing a Dag imports neither pyarrow nor a database
    driver: a source does so when it reads. Its ``repr`` is part of the serialized Dag, so it is short, always the same,
    and shows no secret.
    """

    template_fields: ClassVar[Sequence[str]] = ()

    #: Which part of how many this is, from 0; None for the whole.
    partition: tuple[int, int] | None = None

    @property
    def place(self) -> str | None:
        """Where the rows are from that were read last, such as a file of many; ``None`` if the source is one."""
        return None

    @property
    def definition(self) -> dict[str, str]:
        """What the Dag says of the source: with another definition, what an earlier try was given does not count."""
        named = {name: repr(value) for name, value in sorted(vars(self).items()) if not name.startswith("_")}
        return {"type": type(self).__name__, **named}

    @abstractmethod
    def columns(self) -> list[str]:
        """
        Name all columns, before any row is read.

        :raises InvalidInputError: When there is no such source.
        """

    @abstractmethod
    def read(self, columns: Sequence[str]) -> Iterator[pyarrow.RecordBatch]:
        """
        Read the rows, in record batches of bounded size.

        :param columns: The columns to read, in this order; no others are read.
        :raises InvalidInputError: When a row cannot be read.
        """

    def fingerprint(self) -> str | None:
        """Hash what was read, if its rows have values that another reading changes; ``None`` if they have none."""
        return None

    def partitions(self, number: int) -> list[RowSource]:
        """
        Cut the source into parts for mapped tasks: ``.partial(…).expand(source=rows.partitions(8))``.

        :param number: Most parts.
        :return: Sources that have no row in common, and together all rows.
        :raises InvalidInputError: When the source cannot be cut.
        """
        raise InvalidInputError(f"{self!r} cannot be cut into partitions: use one task, or another source")

    def _parts(self, number: int) -> list[RowSource]:
        """Make copies that know which part they are."""
        check_whole("number", number, at_least=1, unit="parts")
        if self.partition is not None:
            raise InvalidInputError(
                f"{self!r} is a part already: cut the whole into as many parts as are needed"
            )
        parts: list[RowSource] = []
        for index in range(number):
            part = copy.copy(self)
            part.partition = (index, number)
            parts.append(part)
        return parts

    def _own(self, files: Sequence[File], path: Callable[[File], str] = str) -> list[File]:
        """Choose the files of this part, by a hash of their paths."""
        if self.partition is None:
            return list(files)
        index, number = self.partition
        return [one for one in files if crc32(path(one).encode("utf-8", "surrogateescape")) % number == index]

    def _part_shown(self) -> str:
        return f", partition {self.partition[0] + 1} of {self.partition[1]}" if self.partition else ""


def row_bytes(values: Iterable[Any]) -> int:
    """
    Estimate the bytes of a row.

    :param values: Its values, as Python's.
    """
    return sum([len(value) if isinstance(value, _SIZED) else 8 for value in values])


def in_batches(rows: Iterable[Row], size: Callable[[Row], int]) -> Iterator[list[Row]]:
    """
    Gather rows for record batches of bounded size.

    :param rows: The rows.
    :param size: Gives the bytes of a row, about.
    """
    waiting: list[Row] = []
    total = 0
    for row in rows:
        waiting.append(row)
        total += size(row)
        if total >= BYTES_IN_BATCH or len(waiting) >= ROWS_IN_BATCH:
            yield waiting
            waiting, total = [], 0
    if waiting:
        yield waiting


def import_pyarrow() -> None:
    """
    Import pyarrow, which carries all rows.

    :raises MissingExtraError: If the extra ``parquet`` is not installed.
    """
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise MissingExtraError(
            "tables need pyarrow: install airflow-provider-mistral-batch[parquet]"
        ) from None
