"""Files of plain records as a source: Parquet, CSV, JSONL and Arrow IPC, on any storage."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, cast

from airflow_provider_mistral_batch.api.checks import check_choice
from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.storage.folders import matching_files
from airflow_provider_mistral_batch.storage.paths import ObjectPath, local_path, storage_path
from airflow_provider_mistral_batch.tables.sources.base import ROWS_IN_BATCH, RowSource, import_pyarrow

if TYPE_CHECKING:
    import pyarrow
    from pyarrow import dataset, fs

    from airflow_provider_mistral_batch.storage.paths import StoragePath

#: The formats, and how their files end.
FORMATS = {
    "parquet": (".parquet", ".pq"),
    "csv": (".csv", ".tsv"),
    "jsonl": (".jsonl", ".ndjson", ".json"),
    "arrow": (".arrow", ".feather", ".ipc"),
}
_COMPRESSIONS = (".gz", ".zst", ".bz2", ".lz4")

#: Bytes that are read ahead of a Parquet column, and of a text file. Row groups may have any size: they are not read
#: whole.
_BUFFER_BYTES = 1 << 20


class FileRows(RowSource):
    """
    Rows of plain records in files, local or on any object storage.

    A folder stands for all its files, also in folders below it. Names of folders such as ``day=2026-01-31`` become
    columns. Only the columns that are needed are read, in constant memory. All files have the columns of the first; a
    file that lacks one has nulls there.

    CSV has no types, so its columns are texts, as they are written.

    :param path: A file, a folder or a glob; or a list of files.
    :param file_format: ``parquet``, ``csv``, ``jsonl`` or ``arrow``; by default what the names say. Text files may be
        compressed: ``.gz``, ``.zst``, ``.bz2``, ``.lz4``.
    :param delimiter: What separates the fields of CSV; by default a comma, and a tabulator in ``.tsv``.
    """

    template_fields: ClassVar[Sequence[str]] = ("path",)
    # Files are as they are: other content is other work.
    alive: ClassVar[bool] = False

    def __init__(self, path: Any, *, file_format: str | None = None, delimiter: str | None = None) -> None:
        if file_format is not None:
            check_choice("file_format", file_format, FORMATS)
        if delimiter is not None and (len(delimiter) != 1 or not delimiter.isascii()):
            raise InvalidInputError(f"delimiter={delimiter!r} is not one ASCII character")
        self.path = path
        self.file_format = file_format
        self.delimiter = delimiter

    def __repr__(self) -> str:
        path = str(self.path) if not isinstance(self.path, (list, tuple)) else [str(one) for one in self.path]
        return f"{type(self).__name__}({path!r})"

    def columns(self) -> list[str]:
        """Name the columns of the first file, and those that folders' names give."""
        return list(self._dataset().schema.names)

    def read(self, columns: Sequence[str]) -> Iterator[pyarrow.RecordBatch]:
        """
        Read some columns of all files.

        :param columns: The columns.
        :raises InvalidInputError: When a file cannot be read to its end, or has another type in one of these columns.
        """
        files = self._dataset()
        for fragment in files.get_fragments():
            _check_types(fragment, files.schema, columns)
            try:
                for batch in fragment.to_batches(
                    schema=files.schema,
                    columns=list(columns),
                    batch_size=ROWS_IN_BATCH,
                    batch_readahead=1,
                    fragment_readahead=0,
                    use_threads=False,
                ):
                    if batch.num_rows:
                        yield batch
            except (ValueError, OSError) as error:
                raise _unreadable(fragment.path, error) from error

    def partitions(self, number: int) -> list[RowSource]:
        """
        Cut the source by file.

        :param number: Most parts; there are no more than files.
        """
        files = self._files()
        count = min(number, len(files))
        return [
            FileRows(files[index::count], file_format=self._format(files[0].name), delimiter=self.delimiter)
            for index in range(count)
        ]

    def _files(self) -> list[StoragePath]:
        given = self.path if isinstance(self.path, (list, tuple)) else [self.path]
        found: list[StoragePath] = []
        for one in given:
            for path in matching_files(storage_path(one, field="path")):
                found += _in_folder(path) if path.is_dir() else [path]
        if not found:
            raise InvalidInputError(f"path={self.path!r:.200}: there are no files; check the path")
        return found

    def _format(self, name: str) -> str:
        if self.file_format is not None:
            return self.file_format
        for compression in _COMPRESSIONS:
            name = name.removesuffix(compression)
        for file_format, endings in FORMATS.items():
            if name.lower().endswith(endings):
                return file_format
        raise InvalidInputError(
            f"path={name!r:.200} does not say its format: pass file_format, one of {', '.join(FORMATS)}"
        )

    def _dataset(self) -> dataset.FileSystemDataset:
        import_pyarrow()
        from pyarrow import dataset

        files = self._files()
        for file in files:
            if not file.is_file():
                raise InvalidInputError(f"path={str(file)!r:.200}: there is no such file; check the path")
        filesystem, names = _filesystem(files)
        file_format = self._format(files[0].name)
        options = {
            "filesystem": filesystem,
            "partitioning": dataset.partitioning(flavor="hive") if "=" in names[0] else None,
        }
        try:
            found = dataset.dataset(names, format=self._file_format(file_format, files[0].name), **options)
            if file_format in ("parquet", "arrow"):
                return found
            # Their types were guessed from the first file. Read again with those that change no value.
            as_written = self._file_format(
                file_format, files[0].name, next(found.get_fragments()).physical_schema
            )
            return dataset.dataset(names, format=as_written, **options)
        except (ValueError, OSError) as error:
            raise _unreadable(str(files[0]), error) from error

    def _file_format(
        self, file_format: str, name: str, guessed: pyarrow.Schema | None = None
    ) -> dataset.FileFormat:
        import pyarrow
        from pyarrow import csv, dataset, json

        if file_format == "parquet":
            options = dataset.ParquetFragmentScanOptions(
                use_buffered_stream=True, buffer_size=_BUFFER_BYTES, pre_buffer=False
            )
            return dataset.ParquetFileFormat(default_fragment_scan_options=options)
        if file_format == "csv":
            delimiter = self.delimiter or ("\t" if ".tsv" in name else ",")
            return dataset.CsvFileFormat(
                parse_options=csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
                read_options=csv.ReadOptions(block_size=_BUFFER_BYTES),
                # CSV has no types: "007" is no number, and "NA" may be a name.
                convert_options=csv.ConvertOptions(
                    column_types=dict.fromkeys(guessed.names if guessed else (), pyarrow.string()),
                    null_values=[""],
                    strings_can_be_null=True,
                ),
            )
        if file_format == "jsonl":
            return dataset.JsonFileFormat(
                parse_options=json.ParseOptions(explicit_schema=guessed and _texts_kept(guessed)),
                read_options=json.ReadOptions(block_size=_BUFFER_BYTES),
            )
        return dataset.IpcFileFormat()


def _texts_kept(guessed: pyarrow.Schema) -> pyarrow.Schema:
    """Take texts that look like times for what they are."""
    import pyarrow

    return pyarrow.schema(
        [
            field.with_type(pyarrow.string()) if pyarrow.types.is_timestamp(field.type) else field
            for field in guessed
        ]
    )


def _in_folder(folder: StoragePath) -> list[StoragePath]:
    """List the files in a folder and below it, but hidden ones and those of writers at work."""
    found = (path for path in folder.glob("**/*") if path.is_file())
    return sorted((path for path in found if not path.name.startswith((".", "_"))), key=str)


def _filesystem(files: Sequence[StoragePath]) -> tuple[fs.FileSystem, list[str]]:
    from pyarrow import fs

    if all(local_path(file) is not None for file in files):
        return fs.LocalFileSystem(), [str(local_path(file)) for file in files]
    paths = [cast("ObjectPath", file) for file in files]
    return fs.PyFileSystem(fs.FSSpecHandler(paths[0].fs)), [path.path for path in paths]


def _check_types(fragment: Any, schema: pyarrow.Schema, columns: Sequence[str]) -> None:
    """Refuse a file with another type in a column than the first file has: a value would change or be lost."""
    try:
        own = fragment.physical_schema
    except (ValueError, OSError) as error:
        raise _unreadable(fragment.path, error) from error
    for name in columns:
        if own.get_field_index(name) < 0:
            continue
        expected, found = schema.field(name).type, own.field(name).type
        if found != expected and str(found) != "null":
            raise InvalidInputError(
                f"{fragment.path}: column {name!r} is {found}, and {expected} in the first file: write all files with "
                "one type, or give each its own task"
            )


_ROW = re.compile(r"[Rr]ow #?(\d+)")


def _unreadable(path: str, error: Exception) -> Exception:
    """Name the file, and the row if pyarrow knows it."""
    reason = str(error).split("\n", 1)[0][:300]
    if isinstance(error, OSError) and not isinstance(error, FileNotFoundError) and "Parquet" not in reason:
        return error
    return InvalidInputError(f"{path} cannot be read: {reason}. Write or copy the file again")
