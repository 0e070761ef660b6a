"""Landed rows become a table: the key's columns, those to keep, and the answer as columns beside them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from airflow_provider_mistral_batch.api.checks import check_choice
from airflow_provider_mistral_batch.api.errors import MistralBatchError
from airflow_provider_mistral_batch.jsonl.results.placeholder_rows import MISSING_MESSAGE, is_missing_row
from airflow_provider_mistral_batch.jsonl.results.row_columns import read_row_columns
from airflow_provider_mistral_batch.tables.columns import ABOUT_ANSWER, ANSWER
from airflow_provider_mistral_batch.tables.key import custom_ids
from airflow_provider_mistral_batch.tables.rows_beside import SKIPPED, read_rows_beside, schema_of
from airflow_provider_mistral_batch.tables.shapes import EmbeddingType, Shape
from airflow_provider_mistral_batch.tables.staging import BYTES_IN_STEP, ID, PLACE, Staged, rows_in_step

if TYPE_CHECKING:
    import pyarrow

    from airflow_provider_mistral_batch.storage.paths import StoragePath

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class AnswerColumns:
    """
    What a table of answers has beside the answers.

    :param raw: Whether it has the column ``raw``: the row as the API gave it.
    :param failed: Whether failed rows are in the results, too, with nulls. They are always in the errors.
    :param embedding: The type of an embedding's numbers: ``float32``, ``float16`` or ``int8``.
    :param markdown: Whether each answer is also a file, ``markdown/<name>.md`` beside the results: the pages of a
        document, or the text of another answer.
    """

    raw: bool = False
    failed: bool = False
    embedding: EmbeddingType = "float32"
    markdown: bool = False

    def __post_init__(self) -> None:
        check_choice("embedding", self.embedding, get_args(EmbeddingType))


class TableSummary(NamedTuple):
    """
    What became of a table's rows.

    :param skipped: Rows that were not asked about.
    :param unfit: Answers that do not fit their columns; they are among the errors.
    :param missing: Rows with neither an answer nor an error; they are among the errors, too.
    """

    skipped: int
    unfit: int
    missing: int


class AnswerTable:
    """
    The table of answers beside the rows that were asked about.

    :param rows_beside: Files of the rows that were asked about.
    :param key: The columns of the key.
    :param shape: The columns that answers become.
    :param columns: What the table has beside them.
    """

    def __init__(
        self, rows_beside: Sequence[StoragePath], *, key: Sequence[str], shape: Shape, columns: AnswerColumns
    ) -> None:
        self._rows_beside = rows_beside
        self._key = key
        self._shape = shape
        self._columns = columns

    def schema(self) -> pyarrow.Schema:
        """Give the table's columns, as far as they are known before the first answer."""
        return self._schema_with(self._shape.fields())

    def null_columns(self) -> list[str]:
        """Name the columns that have nulls, whatever is answered."""
        if not self._columns.failed:
            return ["error"]
        answer = [field.name for field in self._shape.fields()]
        return [*answer, *(name for name in ABOUT_ANSWER if name != "status")]

    def write(
        self, results: StoragePath, errors: StoragePath, *, results_path: Path, errors_path: Path
    ) -> TableSummary:
        """
        Write the table, in the order of its source, and the table of the rows without an answer.

        Memory is bounded, whatever the number of rows: the answers are staged on the local disk.

        :param results: The landed rows that succeeded, as JSONL.
        :param errors: All other landed rows.
        :param results_path: Where the table goes; its folder takes temporary files, too.
        :param errors_path: Where the other one goes.
        :raises MistralBatchError: When an answer belongs to no row: rather no table than one that lacks a paid answer.
        """
        # The folder may be the system's temporary one: other tasks write their tables there at the same moment.
        with TemporaryDirectory(prefix="mistral-batch-", dir=results_path.parent) as name:
            answers, failures = Staged(Path(name) / "answers"), Staged(Path(name) / "failures")
            unfit = self._stage(results, errors, answers, failures)
            ids = self._ids()
            step = rows_in_step(len(ids), answers, failures)
            answers.sort(ids, step)
            failures.sort(ids, step)
            del ids
            _refuse_strays(answers)
            skipped, missing = self._write_staged(answers, failures, step, results_path, errors_path)
        return TableSummary(skipped, unfit, missing)

    def _stage(self, results: StoragePath, errors: StoragePath, answers: Staged, failures: Staged) -> int:
        """Read the landed rows; tell how many answers do not fit their columns."""
        import pyarrow

        unfit_rows = 0
        for rows in read_row_columns(results):
            unfit: dict[int, str] = {}
            batch = _answer_batch(rows, self._shape, self._columns, unfit)
            if unfit:
                failures.add(_unfit_batch(rows, unfit, self._columns))
                batch = batch.filter(pyarrow.array([number not in unfit for number in range(rows.num_rows)]))
                unfit_rows += len(unfit)
            answers.add(batch)
        for rows in read_row_columns(errors):
            failures.add(_failure_batch(rows, self._columns))
        return unfit_rows

    def _ids(self) -> pyarrow.Array:
        """Give the id of each row of the source; null for a row that was skipped, which no answer is of."""
        import pyarrow
        from pyarrow import compute

        nothing = pyarrow.scalar(None, pyarrow.string())
        return pyarrow.chunked_array(
            [
                compute.if_else(batch.column(SKIPPED), nothing, custom_ids(batch, self._key))
                for batch in read_rows_beside(self._rows_beside, [*self._key, SKIPPED])
            ],
            pyarrow.string(),
        ).combine_chunks()

    def _write_staged(
        self, answers: Staged, failures: Staged, step: int, results_path: Path, errors_path: Path
    ) -> tuple[int, int]:
        """Write what is staged; tell how many rows were skipped, and of how many nothing is known."""
        import pyarrow
        from pyarrow import parquet

        result_schema = self.schema()
        error_schema = self._schema_with([pyarrow.field(ANSWER, pyarrow.string())])
        skipped_rows = missing_rows = 0
        with (
            parquet.ParquetWriter(results_path, result_schema, compression="zstd") as results,
            parquet.ParquetWriter(errors_path, error_schema, compression="zstd") as errors,
        ):
            for start, rows in _pieces(self._rows_beside, step):
                end = start + rows.num_rows
                skipped = _skipped(rows, start)
                skipped_rows += skipped.num_rows
                found = [table for table in (answers.places(start, end),) if table is not None]
                others = [table for table in (failures.places(start, end), skipped) if table is not None]
                if (missing := _missing([*found, *others], start, end)) is not None:
                    missing_rows += missing.num_rows
                    others.append(missing)
                if self._columns.failed:
                    # The text of a failure is no value of the answer's column, whatever that one's name.
                    found += [
                        table.select([name for name in table.column_names if name != ANSWER])
                        for table in others
                    ]
                for tables, writer, schema in (
                    (found, results, result_schema),
                    (others, errors, error_schema),
                ):
                    if any(table.num_rows for table in tables):
                        writer.write_table(_beside(rows, start, tables, schema))
            if (unknown := failures.nowhere()) is not None:
                errors.write_table(_fitted(unknown, error_schema))
        if missing_rows:
            log.warning(
                "%d rows of the table have neither an answer nor an error: they are among the errors, as missing.",
                missing_rows,
            )
        return skipped_rows, missing_rows

    def _schema_with(self, answer: Sequence[pyarrow.Field]) -> pyarrow.Schema:
        import pyarrow

        kept = [field for field in schema_of(self._rows_beside) if field.name != SKIPPED]
        about = [pyarrow.field(name, kind) for name, kind in ABOUT_ANSWER.items()]
        raw = [pyarrow.field("raw", pyarrow.binary())] if self._columns.raw else []
        return pyarrow.schema([*kept, *answer, *about, *raw])


def _answer_batch(
    rows: pyarrow.RecordBatch, shape: Shape, columns: AnswerColumns, unfit: dict[int, str]
) -> pyarrow.RecordBatch:
    import pyarrow

    answer = shape.read(rows, unfit)
    named = zip([field.name for field in shape.fields()], answer, strict=True)
    return _batch(rows, dict(named), pyarrow.repeat("ok", rows.num_rows), columns)


def _failure_batch(rows: pyarrow.RecordBatch, columns: AnswerColumns) -> pyarrow.RecordBatch:
    lines = rows.column("raw").to_pylist()
    status = _texts(["missing" if is_missing_row(line) else "failed" for line in lines])
    return _batch(rows, {ANSWER: rows.column("content")}, status, columns)


def _unfit_batch(
    rows: pyarrow.RecordBatch, unfit: dict[int, str], columns: AnswerColumns
) -> pyarrow.RecordBatch:
    """Make failed rows of answers that do not fit their columns; they keep their text."""
    some = _failure_batch(rows, columns).take(list(unfit))
    return some.set_column(some.schema.get_field_index("error"), "error", _texts(list(unfit.values())))


def _batch(
    rows: pyarrow.RecordBatch, answer: dict[str, Any], status: Any, columns: AnswerColumns
) -> pyarrow.RecordBatch:
    import pyarrow

    arrays = {ID: rows.column("custom_id"), **answer}
    for name in ABOUT_ANSWER:
        arrays[name] = status if name == "status" else rows.column(name)
    if columns.raw:
        arrays["raw"] = rows.column("raw")
    return pyarrow.record_batch(list(arrays.values()), names=list(arrays))


def _texts(values: Sequence[str | None]) -> pyarrow.Array:
    import pyarrow

    return pyarrow.array(values, pyarrow.string())


def _refuse_strays(answers: Staged) -> None:
    strays = answers.nowhere()
    if strays is not None:
        raise MistralBatchError(
            f"{strays.num_rows:,} answers belong to no row of those that were kept beside the requests, so the table "
            "would lack them. They are safe in the account: land them with MistralDownloadBatchResultsOperator, and "
            "report this"
        )


def _pieces(rows_beside: Sequence[StoragePath], step: int) -> Iterator[tuple[int, pyarrow.Table]]:
    """
    Give the rows of the source in pieces of bounded size, each with the place of its first row.

    No piece has rows of two steps; it is a whole one if that is not too large.
    """
    import pyarrow

    waiting: list[pyarrow.RecordBatch] = []
    start = rows = size = 0
    for batch in read_rows_beside(rows_beside):
        while batch.num_rows:
            part = batch.slice(0, step - (start + rows) % step)
            batch = batch.slice(part.num_rows)
            waiting.append(part)
            rows += part.num_rows
            size += part.nbytes
            if (start + rows) % step == 0 or size >= BYTES_IN_STEP:
                yield start, pyarrow.Table.from_batches(waiting).combine_chunks()
                start += rows
                waiting, rows, size = [], 0, 0
    if waiting:
        yield start, pyarrow.Table.from_batches(waiting).combine_chunks()


def _skipped(rows: pyarrow.Table, start: int) -> pyarrow.Table:
    import pyarrow

    places = [
        start + number for number, is_skipped in enumerate(rows.column(SKIPPED).to_pylist()) if is_skipped
    ]
    return pyarrow.table(
        {PLACE: pyarrow.array(places, pyarrow.int32()), "status": pyarrow.repeat("skipped", len(places))}
    )


def _missing(known: Sequence[pyarrow.Table], start: int, end: int) -> pyarrow.Table | None:
    """
    Give the rows of which nothing is known, as if the API had given none; None if there are none.

    If the request files are gone, nobody has told which requests have no result.
    """
    import pyarrow
    from pyarrow import compute

    if sum(table.num_rows for table in known) == end - start:
        return None
    places = pyarrow.array(range(start, end), pyarrow.int32())
    seen = pyarrow.chunked_array(
        [chunk for table in known for chunk in table.column(PLACE).chunks], pyarrow.int32()
    )
    lost = places.filter(compute.invert(compute.is_in(places, value_set=seen)))
    said = {"status": "missing", "error": MISSING_MESSAGE}
    return pyarrow.table(
        {PLACE: lost, **{name: pyarrow.repeat(text, len(lost)) for name, text in said.items()}}
    )


def _beside(
    rows: pyarrow.Table, start: int, tables: list[pyarrow.Table], schema: pyarrow.Schema
) -> pyarrow.Table:
    """Put answers beside the rows that they belong to."""
    import pyarrow
    from pyarrow import compute

    about = pyarrow.concat_tables(tables, promote_options="permissive").sort_by(PLACE)
    asked = rows.take(compute.subtract(about.column(PLACE), start))
    for field in asked.schema:
        if field.name != SKIPPED:
            about = about.append_column(field, asked.column(field.name))
    return _fitted(about, schema)


def _fitted(table: pyarrow.Table, schema: pyarrow.Schema) -> pyarrow.Table:
    """Give a table exactly the columns of a schema: what it lacks is null."""
    import pyarrow

    columns = []
    for field in schema:
        if field.name not in table.column_names:
            columns.append(pyarrow.nulls(table.num_rows, field.type))
        elif pyarrow.types.is_dictionary(field.type):
            encoded = table.column(field.name).dictionary_encode().unify_dictionaries()
            columns.append(encoded.cast(field.type))
        else:
            columns.append(table.column(field.name).cast(field.type))
    return pyarrow.table(columns, schema=schema)
