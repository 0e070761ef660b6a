"""Files of plain records as a source: Parquet, CSV, JSONL and Arrow IPC, on any storage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import unquote

from airflow_provider_mistral_batch.api.checks import check_choice
from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.storage.ahead import read_ahead, whole_if_small
from airflow_provider_mistral_batch.storage.folders import sized_files
from airflow_provider_mistral_batch.storage.many import side_by_side
from airflow_provider_mistral_batch.storage.parquet_batches import parquet_batches
from airflow_provider_mistral_batch.storage.paths import local_path, storage_path, without_connection
from airflow_provider_mistral_batch.storage.reading import reading
from airflow_provider_mistral_batch.tables.sources.base import (
    BYTES_IN_BATCH,
    ROWS_IN_BATCH,
    RowSource,
    import_pyarrow,
)
from airflow_provider_mistral_batch.tables.sources.text_files import CsvFile, JsonlFile
from airflow_provider_mistral_batch.tables.sources.types import common_type, widened

if TYPE_CHECKING:
    import pyarrow
    from pyarrow import dataset

    from airflow_provider_mistral_batch.storage.paths import StoragePath

#: The formats, and how their files end.
FORMATS = {
    "parquet": (".parquet", ".pq"),
    "csv": (".csv", ".tsv"),
    "jsonl": (".jsonl", ".ndjson", ".json"),
    "arrow": (".arrow", ".feather", ".ipc"),
}
_BINARY = ("parquet", "arrow")

#: In the name of a folder, what stands for a null.
_HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"

_COMPRESSIONS = (".gz", ".zst")

#: Bytes that are read ahead of each Parquet column. Each reading is a request to an object store.
_BUFFER_BYTES = 4 << 20


class FileRows(RowSource):
    """
    Rows of plain records in files, local or on any object storage.

    A folder stands for all its files, also in folders below it. Names of folders such as ``day=2026-01-31`` become
    columns. Only the columns that are needed are read, in constant memory. All files have the columns of the first; a
    file that lacks one has nulls there.

    CSV has no types, so its columns are texts, as they are written.

    :param path: A file, a folder or a glob; or a list of files.
    :param file_format: ``parquet``, ``csv``, ``jsonl`` or ``arrow``; by default what the names say. CSV and JSONL may
        be compressed: ``.gz``, ``.zst``.
    :param delimiter: What separates the fields of CSV; by default a comma, and a tabulator in ``.tsv``.
    """

    template_fields: ClassVar[Sequence[str]] = ("path",)

    def __init__(self, path: Any, *, file_format: str | None = None, delimiter: str | None = None) -> None:
        if file_format is not None:
            check_choice("file_format", file_format, FORMATS)
        if delimiter is not None and (len(delimiter) != 1 or not delimiter.isascii()):
            raise InvalidInputError(
                f"delimiter={delimiter!r:.80} is not one ASCII character: pass one such as ';'"
            )
        self.path = path
        self.file_format = file_format
        self.delimiter = delimiter
        self._place: str | None = None

    @property
    def place(self) -> str | None:
        """The file whose rows were read last."""
        return self._place

    def __repr__(self) -> str:
        path = str(self.path) if not isinstance(self.path, (list, tuple)) else [str(one) for one in self.path]
        return f"{type(self).__name__}({path!r}{self._part_shown()})"

    def columns(self) -> list[str]:
        """Name the columns of the first file, and those that folders' names give."""
        files = self._files()
        if self._format(files[0].name) in _BINARY:
            return list(self._dataset(files, files[0]).schema.names)
        return [*self._text_file(files[0]).columns(), *_folder_columns(files[0])]

    def read(self, columns: Sequence[str]) -> Iterator[pyarrow.RecordBatch]:
        """
        Read some columns of all files.

        :param columns: The columns.
        :raises InvalidInputError: When a file cannot be read to its end, or has another type in one of these columns.
        """
        files = self._files()
        if self._format(files[0].name) in _BINARY:
            yield from self._read_binary(files, columns)
        else:
            yield from self._read_texts(files, columns)

    def _read_binary(self, files: list[StoragePath], columns: Sequence[str]) -> Iterator[pyarrow.RecordBatch]:
        from pyarrow import dataset

        # It is opened for its schema, and again for its rows.
        files[0] = whole_if_small(files[0])
        whole = self._dataset(files, files[0])
        given = {
            str(file): dataset.get_partition_keys(fragment.partition_expression)
            for file, fragment in zip(files, whole.get_fragments(), strict=True)
        }
        read = _parquet_batches if self._format(files[0].name) == "parquet" else _arrow_batches
        for file in read_ahead(self._own(files)):
            self._place = str(file)
            for batch in read(file, columns, whole.schema, given[str(file)]):
                if batch.num_rows:
                    yield batch

    def _read_texts(self, files: list[StoragePath], columns: Sequence[str]) -> Iterator[pyarrow.RecordBatch]:
        import pyarrow

        first: pyarrow.Schema | None = None
        for file in read_ahead(self._own(files)):
            self._place = str(file)
            given = _folder_columns(file)
            for batch in self._text_file(file).read([name for name in columns if name not in given]):
                for name in given:
                    value = pyarrow.scalar(given[name], pyarrow.string())
                    batch = batch.append_column(name, pyarrow.repeat(value, batch.num_rows))
                first = first or batch.schema
                _common_schema(str(file), batch.schema, first, columns)
                yield batch.select(list(columns))

    def _text_file(self, file: StoragePath) -> CsvFile | JsonlFile:
        if self._format(file.name) == "jsonl":
            return JsonlFile(file)
        return CsvFile(file, self.delimiter or ("\t" if ".tsv" in file.name else ","))

    def partitions(self, number: int) -> list[RowSource]:
        """
        Cut the source by file, by a hash of each file's path.

        No file is looked for: each part does so when it is read. So a file that is written in between is in one part,
        and moves no other file to another part.

        :param number: How many parts. A part may have no file; its task is skipped.
        """
        return self._parts(number)

    def _files(self) -> list[StoragePath]:
        import_pyarrow()
        given = self.path if isinstance(self.path, (list, tuple)) else [self.path]
        paths = [storage_path(one, field="path") for one in given]
        found = [
            file
            for path, files in zip(paths, side_by_side(sized_files, paths), strict=True)
            for file, _ in files
            if not _is_of_writer(file, path)
        ]
        if not found:
            raise InvalidInputError(f"path={self.path!r:.200}: there are no files; check the path")
        for file in found:
            # A pipe, say: to open it may take for ever.
            if local_path(file) is not None and not file.is_file():
                raise InvalidInputError(f"path={str(file)!r:.200}: there is no such file; check the path")
        first = self._format(found[0].name)
        for path in found:
            if (other := self._format(path.name)) != first:
                raise InvalidInputError(
                    f"path: {path} is {other}, and {found[0]} is {first}: name the files of one format, for example "
                    f"with '*{FORMATS[first][0]}'"
                )
        return found

    def _format(self, name: str) -> str:
        if self.file_format is not None:
            return self.file_format
        plain = name
        for compression in _COMPRESSIONS:
            plain = plain.removesuffix(compression)
        for file_format, endings in FORMATS.items():
            if plain.lower().endswith(endings):
                if file_format in _BINARY and plain != name:
                    raise InvalidInputError(
                        f"path={name!r:.200} is compressed as a whole, and such files are read in parts: decompress "
                        f"it; {file_format} compresses what is in it"
                    )
                return file_format
        raise InvalidInputError(
            f"path={name!r:.200} does not say its format: pass file_format, one of {', '.join(FORMATS)}"
        )

    def _dataset(self, files: list[StoragePath], first: StoragePath) -> dataset.FileSystemDataset:
        """Read the schema of the first file, and what the names of all files' folders give."""
        from pyarrow import ArrowTypeError, PythonFile, dataset, fs

        names = [str(local_path(file) or without_connection(file)) for file in files]
        is_parquet = self._format(files[0].name) == "parquet"
        with _opened(first, in_blocks=not is_parquet) as file:
            # It opens no file but the first.
            handler = fs.FSSpecHandler(None)
            handler.open_input_file = lambda _: file if local_path(first) else PythonFile(file, mode="r")
            try:
                return dataset.dataset(
                    names,
                    format="parquet" if is_parquet else "ipc",
                    filesystem=fs.PyFileSystem(handler),
                    partitioning=dataset.partitioning(flavor="hive") if "=" in names[0] else None,
                )
            except ArrowTypeError as error:
                raise InvalidInputError(
                    f"{first}: a column has the name that a folder gives a column, such as day=2026-01-31, and another "
                    f"type ({str(error).rstrip('.')}): write the files without that column, or rename the folders"
                ) from None


@contextmanager
def _opened(file: StoragePath, *, in_blocks: bool) -> Iterator[Any]:
    """Open a file for pyarrow, and let errors name it."""
    from pyarrow import fs

    with ExitStack() as stack:
        local = local_path(file)
        opened = stack.enter_context(
            reading(file, field="path", in_blocks=in_blocks)
            if local is None
            else fs.LocalFileSystem().open_input_file(str(local))
        )
        stack.enter_context(_named(str(file)))
        yield opened


def _parquet_batches(
    file: StoragePath, columns: Sequence[str], first: pyarrow.Schema, given: Mapping[str, Any]
) -> Iterator[pyarrow.RecordBatch]:
    """
    Read a Parquet file, a part of a row group at a time: row groups may have any size.

    The dataset's own reader holds whole row groups, and takes twice the time.

    :param file: The file.
    :param columns: The columns to read.
    :param first: The columns of the first file.
    :param given: The values that the names of the file's folders give.
    """
    import pyarrow
    from pyarrow import parquet

    with (
        # The reader has a buffer for each column.
        _opened(file, in_blocks=False) as opened,
        parquet.ParquetFile(opened, buffer_size=_BUFFER_BYTES, pre_buffer=False) as table,
    ):
        schema = _common_schema(str(file), table.schema_arrow, first, columns)
        own = [name for name in columns if name in table.schema_arrow.names and name not in given]
        for batch in parquet_batches(table, own, most_rows=ROWS_IN_BATCH, most_bytes=BYTES_IN_BATCH):
            count = batch.num_rows
            yield pyarrow.record_batch(
                [
                    widened(name, batch.column(name), schema.field(name).type)
                    if name in own
                    else pyarrow.repeat(pyarrow.scalar(given.get(name), schema.field(name).type), count)
                    for name in columns
                ],
                names=list(columns),
            )


def _arrow_batches(
    file: StoragePath, columns: Sequence[str], first: pyarrow.Schema, given: Mapping[str, Any]
) -> Iterator[pyarrow.RecordBatch]:
    """Read an Arrow file; the parameters are those of :func:`_parquet_batches`."""
    import pyarrow
    from pyarrow import compute, dataset

    with _opened(file, in_blocks=True) as opened:
        fragment = dataset.IpcFileFormat().make_fragment(opened)
        schema = _common_schema(str(file), fragment.physical_schema, first, columns)
        there = fragment.physical_schema
        for batch in fragment.to_batches(
            # With the file's own types: the scanner would not say which column has no room.
            schema=pyarrow.schema(
                there.field(one.name) if one.name in there.names else one for one in schema
            ),
            columns={
                name: compute.scalar(pyarrow.scalar(given[name], schema.field(name).type))
                if name in given
                else compute.field(name)
                for name in columns
            },
            batch_size=ROWS_IN_BATCH,
            batch_readahead=1,
            fragment_readahead=0,
            use_threads=False,
        ):
            arrays = [widened(name, batch.column(name), schema.field(name).type) for name in columns]
            yield pyarrow.record_batch(arrays, names=list(columns))


def _folder_columns(file: StoragePath) -> dict[str, str | None]:
    """Give the columns that the names of a text file's folders stand for, as pyarrow does for other files."""
    steps = [step.split("=", 1) for step in str(file).split("/")[:-1]]
    return {
        unquote(step[0]): None if step[1] == _HIVE_NULL else unquote(step[1])
        for step in steps
        if len(step) == 2 and step[0]
    }


def _is_of_writer(file: StoragePath, folder: StoragePath) -> bool:
    """Tell whether a file below a folder belongs to a writer at work, or is a table's log."""
    steps = str(file).removeprefix(str(folder).rstrip("/") + "/").split("/")
    return str(file) != "/".join(steps) and any(step.startswith("_") and "=" not in step for step in steps)


def _common_schema(
    path: str, own: pyarrow.Schema, first: pyarrow.Schema, columns: Sequence[str]
) -> pyarrow.Schema:
    """
    Give the first file's schema, with types that have room for this file's values.

    :raises InvalidInputError: When a column has a type in which a value would change or be lost.
    """
    schema = first
    for name in columns:
        if own.get_field_index(name) >= 0 and own.field(name).type != first.field(name).type:
            try:
                kind = common_type(name, first.field(name).type, own.field(name).type)
            except InvalidInputError as error:
                raise InvalidInputError(f"{path}: {error}") from None
            schema = schema.set(schema.get_field_index(name), first.field(name).with_type(kind))
    return schema


@contextmanager
def _named(path: str) -> Iterator[None]:
    """Name the file whose content cannot be read. Errors of a disk or a store stay as they are: they may pass."""
    try:
        yield
    except InvalidInputError as error:
        if str(error).startswith(path):
            raise
        raise InvalidInputError(f"{path}: {error}") from None
    except (ValueError, OSError) as error:
        # Arrow's own have neither a number nor a kind.
        if isinstance(error, OSError) and (type(error) is not OSError or error.errno is not None):
            raise
        # A dataset repeats the path, and asks whether it is Parquet, before it says what is wrong.
        reason = str(error).split("\n", 1)[0].rsplit(f"'{path}': ", 1)[-1][:300].rstrip(".")
        if reason == "Not an Arrow file":
            reason = "it is no Arrow file. Of a stream, make a file with pyarrow.ipc.new_file"
        raise InvalidInputError(f"{path} cannot be read: {reason}. Write or copy the file again") from error
