"""Reads landed tables of answers: as Arrow record batches, and as the user's own models."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.jsonl.results.rows import no_match
from airflow_provider_mistral_batch.observability.lineage.reads import note_read
from airflow_provider_mistral_batch.storage.ahead import read_ahead
from airflow_provider_mistral_batch.storage.many import side_by_side
from airflow_provider_mistral_batch.storage.parquet_batches import parquet_batches
from airflow_provider_mistral_batch.storage.paths import StoragePath, storage_path
from airflow_provider_mistral_batch.storage.reading import reading
from airflow_provider_mistral_batch.tables.columns import IS_JSON
from airflow_provider_mistral_batch.tables.python_values import python_values
from airflow_provider_mistral_batch.tables.sources.base import BYTES_IN_BATCH, ROWS_IN_BATCH, import_pyarrow
from airflow_provider_mistral_batch.tables.sources.types import common_type, widened

if TYPE_CHECKING:
    import pyarrow

ModelT = TypeVar("ModelT")


def read_table(
    manifest: Mapping[str, Any] | Iterable[Mapping[str, Any]], *, failed: bool = False
) -> pyarrow.RecordBatchReader:
    """
    Read a table of answers in constant memory; ``read_table(manifest).read_pandas()`` makes a data frame.

    :param manifest: What the task returned; or several of mapped tasks, whose tables become one.
    :param failed: Read the rows without an answer instead.
    :return: A reader, which can be read once.
    :raises InvalidInputError: When the results are no table.
    """
    import_pyarrow()
    import pyarrow

    manifests = _manifests(manifest)
    name = "errors_path" if failed else "results_path"
    paths = [storage_path(one[name], field=name) for one in manifests]
    schema = _common_schema(_with_sizes(list(side_by_side(_schema, paths))))

    def batches() -> Iterator[pyarrow.RecordBatch]:
        for path in read_ahead(paths):
            for batch in _batches(path):
                yield _fitted(batch, schema)

    return pyarrow.RecordBatchReader.from_batches(schema, batches())


def read_models(
    manifest: Mapping[str, Any] | Iterable[Mapping[str, Any]], model: type[ModelT]
) -> Iterator[tuple[Any, ModelT]]:
    """
    Read the answers of a table as instances of the model that the task had as ``response_model``.

    They are as of the answers' own JSON. But a table does not tell a null from a field that was left out: a field that
    takes a null is then null, whatever its default.

    :param manifest: What the task returned; or several of mapped tasks.
    :param model: The pydantic model class.
    :return: The key of each row, a tuple if it has several columns, and its answer.
    :raises InvalidInputError: When the results are no table, or an answer is none of this model.
    """
    manifests = _manifests(manifest)
    key: Sequence[str] = manifests[0]["table"]["key"]
    if not isinstance(model, type) or not hasattr(model, "model_validate"):
        raise InvalidInputError(
            f"model={model!r:.80} is not a pydantic model class: pass the response_model of the task"
        )
    reader = read_table(manifests)
    fields = [name for name in manifests[0]["table"]["answer"] if name in reader.schema.names]
    encoded = {name for name in fields if IS_JSON in (reader.schema.field(name).metadata or {})}
    for batch in reader:
        keys = list(zip(*(python_values(batch.column(name), name, field="key") for name in key), strict=True))
        columns = {
            name: list(map(_from_json, values)) if name in encoded else values
            for name in fields
            for values in [batch.column(name).to_pylist()]
        }
        for index, row_key in enumerate(keys):
            answer = {name: values[index] for name, values in columns.items()}
            one_key = row_key if len(key) > 1 else row_key[0]
            try:
                read = _instance(model, answer)
            # Pydantic's own errors are of this kind.
            except ValueError as error:
                raise no_match(one_key, model, error) from error
            yield one_key, read


def _instance(model: type[ModelT], answer: dict[str, Any]) -> ModelT:
    """
    Make an instance of a model, as of the answer's own JSON.

    A null may be the answer's, or stand for a field that it left out: it is left out where the model takes no null.

    :raises ValueError: When the answer does not match the model.
    """
    from pydantic_core import ValidationError, to_json

    validate: Callable[[bytes], ModelT] = model.model_validate_json  # type: ignore[attr-defined]
    try:
        return validate(to_json(answer))
    except ValidationError as error:
        if not _leave_out_nulls(answer, error):
            raise
    return validate(to_json(answer))


def _leave_out_nulls(answer: dict[str, Any], error: Any) -> bool:
    """Take out the nulls that a model has refused; tell whether there are any."""
    places = [one["loc"] for one in error.errors() if one["input"] is None]
    for place in places:
        within: Any = answer
        try:
            for step in place[:-1]:
                within = within[step]
            del within[place[-1]]
        except (LookupError, TypeError):
            return False
    return bool(places)


def _from_json(text: str | None) -> Any:
    return None if text is None else msgspec.json.decode(text)


def _manifests(manifest: Any) -> list[Mapping[str, Any]]:
    """Give the manifests of the tasks that have one: a mapped task that was skipped has none."""
    several = isinstance(manifest, Iterable) and not isinstance(manifest, (Mapping, str, bytes))
    found = [one for one in manifest if one is not None] if several else [manifest]
    if not found:
        raise InvalidInputError("manifest is empty: pass what the task returned")
    for one in found:
        _check_is_table(one)
    return found


def _check_is_table(manifest: Any) -> None:
    if not isinstance(manifest, Mapping) or "results_path" not in manifest:
        raise InvalidInputError(f"manifest={manifest!r:.80} is not a manifest: pass what the task returned")
    if not manifest.get("table"):
        raise InvalidInputError(
            f"manifest: {manifest['results_path']} is not a table, because the task had no prompt over columns: use "
            "read_results"
        )


def _schema(path: StoragePath) -> pyarrow.Schema:
    from pyarrow import parquet

    with reading(path) as file:
        return parquet.read_schema(file)


def _batches(path: StoragePath) -> Iterator[pyarrow.RecordBatch]:
    from pyarrow import parquet

    note_read(str(path))
    with reading(path) as file, parquet.ParquetFile(file) as table:
        yield from parquet_batches(
            table, table.schema_arrow.names, most_rows=ROWS_IN_BATCH, most_bytes=BYTES_IN_BATCH
        )


def _with_sizes(schemas: Sequence[pyarrow.Schema]) -> list[pyarrow.Schema]:
    """Give vectors the size that they have in other tables: a table without any vector has none."""
    import pyarrow
    from pyarrow import types

    sized = {
        field.name: field for schema in schemas for field in schema if types.is_fixed_size_list(field.type)
    }
    return [
        pyarrow.schema(
            [sized.get(field.name, field) if types.is_list(field.type) else field for field in schema]
        )
        for schema in schemas
    ]


def _common_schema(schemas: Sequence[pyarrow.Schema]) -> pyarrow.Schema:
    """Give all columns of some tables, each with a type that has room for the values of all."""
    import pyarrow

    fields: dict[str, pyarrow.Field] = {}
    for field in chain.from_iterable(schemas):
        before = fields.setdefault(field.name, field)
        if before.type != field.type:
            try:
                kind = common_type(field.name, before.type, field.type)
            except InvalidInputError as error:
                raise InvalidInputError(f"manifest: the tables have different columns: {error}") from None
            fields[field.name] = before.with_type(kind)
    return pyarrow.schema(list(fields.values()))


def _fitted(batch: pyarrow.RecordBatch, schema: pyarrow.Schema) -> pyarrow.RecordBatch:
    import pyarrow

    columns = [
        widened(field.name, batch.column(field.name), field.type)
        if field.name in batch.schema.names and batch.column(field.name).null_count < batch.num_rows
        else pyarrow.nulls(batch.num_rows, field.type)
        for field in schema
    ]
    return pyarrow.record_batch(columns, schema=schema)
