"""Documents and recordings as a source: each file is uploaded once, and its row has the id of the upload."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.storage.folders import sized_files
from airflow_provider_mistral_batch.storage.many import side_by_side
from airflow_provider_mistral_batch.storage.paths import storage_path
from airflow_provider_mistral_batch.tables.sources.base import ROWS_IN_BATCH, RowSource, import_pyarrow

if TYPE_CHECKING:
    import pyarrow

    from airflow_provider_mistral_batch.api.endpoints import UploadedFiles
    from airflow_provider_mistral_batch.storage.paths import StoragePath

PATH, FILE_ID = "path", "file_id"
COLUMNS = (PATH, "name", "size", FILE_ID)

_FILES_SHOWN = 5


class Upload(NamedTuple):
    """
    A file that is in the account.

    :param file_id: Its id there.
    :param sha256: The hash of its content, hexadecimal.
    """

    file_id: str
    sha256: str


class Documents(RowSource):
    """
    Documents for ``/v1/ocr``, and recordings for ``/v1/audio/transcriptions``: a row for each file.

    A folder stands for all its files, also in folders below it; hidden files are left out. Each file is uploaded once,
    a few at a time, and found again by its content: in a retry, after a clear, and by other tasks, unless
    ``delete_files="on_success"`` gives the task files of its own. The requests name the uploads.

    Columns: ``path``, which is the key unless you choose another one, ``name``, ``size`` in bytes, and ``file_id``.

    :param path: A folder, a glob or a file, local or on any object storage; or a list of them.
    """

    template_fields: ClassVar[Sequence[str]] = ("path",)

    def __init__(self, path: Any) -> None:
        self.path = path
        self._upload: Callable[[StoragePath], Upload] | None = None
        self._may_be: UploadedFiles | None = None
        self._content = hashlib.sha256()

    def __repr__(self) -> str:
        path = str(self.path) if not isinstance(self.path, (list, tuple)) else [str(one) for one in self.path]
        return f"{type(self).__name__}({path!r:.200}{self._part_shown()})"

    def bound(self, upload: Callable[[StoragePath], Upload], may_be: UploadedFiles) -> Documents:
        """
        Make a source that can upload its files.

        :param upload: Uploads a file, or finds it; called in several threads.
        :param may_be: What the files may be.
        """
        bound = copy.copy(self)
        bound._upload, bound._may_be, bound._content = upload, may_be, hashlib.sha256()
        return bound

    def columns(self) -> list[str]:
        """Name the columns."""
        return list(COLUMNS)

    def read(self, columns: Sequence[str]) -> Iterator[pyarrow.RecordBatch]:
        """
        Check all files, upload them, and give their rows.

        :param columns: The columns.
        :raises InvalidInputError: When there is no file, or one cannot be sent; then none was uploaded.
        """
        import_pyarrow()
        if self._upload is None or self._may_be is None:
            raise InvalidInputError(
                f"{self!r} has to upload its files, and only a task with an endpoint can: give it to "
                "MistralBatchInferenceOperator, or return it from @task.mistral_batch"
            )
        files = self._files()
        _refuse_unfit(files, self._may_be)
        rows: list[tuple[Any, ...]] = []
        uploads = side_by_side(self._upload, (path for path, _ in files))
        for (path, size), upload in zip(files, uploads, strict=True):
            self._content.update(f"{len(str(path))}:{path}{upload.sha256}".encode())
            rows.append((str(path), path.name, size, upload.file_id))
            if len(rows) >= ROWS_IN_BATCH:
                yield _batch(rows, columns)
                rows = []
        if rows:
            yield _batch(rows, columns)

    def fingerprint(self) -> str:
        """Hash the paths and contents of the files that were read: uploads of the same files have other ids."""
        return self._content.hexdigest()

    def partitions(self, number: int) -> list[RowSource]:
        """
        Cut the source by file, by a hash of each file's path.

        No file is looked for: each part does so when it is read.

        :param number: How many parts. A part may have no file; its task is skipped.
        """
        return self._parts(number)

    def _files(self) -> list[tuple[StoragePath, int]]:
        given = self.path if isinstance(self.path, (list, tuple)) else [self.path]
        paths = [storage_path(one, field="path") for one in given]
        found = {str(file[0]): file for files in side_by_side(sized_files, paths) for file in files}
        if not found:
            raise InvalidInputError(
                f"path={self.path!r:.200}: there are no files but hidden ones; check the path"
            )
        return self._own(list(found.values()), lambda file: str(file[0]))


def _refuse_unfit(files: Sequence[tuple[StoragePath, int]], may_be: UploadedFiles) -> None:
    """
    Refuse files that cannot be sent, before any is.

    :raises InvalidInputError: Names the first of them.
    """
    known = ", ".join(sorted(may_be.suffixes))
    checks: tuple[tuple[Callable[[str, int], bool], str], ...] = (
        (lambda name, _: not _is_text(name), "have names that are not UTF-8: rename them"),
        (
            lambda name, _: not name.lower().endswith(tuple(may_be.suffixes)),
            f"are of a kind that the endpoint does not read; use a glob such as '*.pdf'. It reads {known}",
        ),
        (lambda _, size: not size, "are empty: write them again, or move them away"),
        (
            lambda _, size: size > may_be.max_bytes,
            f"have more than the {may_be.max_bytes:,} bytes that the API takes: split them, or move them away",
        ),
    )
    for is_unfit, reason in checks:
        unfit = [str(path) for path, size in files if is_unfit(path.name, size)]
        if unfit:
            more = f" and {len(unfit) - _FILES_SHOWN} more" if len(unfit) > _FILES_SHOWN else ""
            shown = ", ".join(f"{name!a:.200}" for name in unfit[:_FILES_SHOWN])
            raise InvalidInputError(
                f"path: {len(unfit)} of {len(files)} files {reason}. They are {shown}{more}"
            )


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _batch(rows: Sequence[tuple[Any, ...]], columns: Sequence[str]) -> pyarrow.RecordBatch:
    import pyarrow

    values = dict(zip(COLUMNS, zip(*rows, strict=True), strict=True))
    kinds = {name: pyarrow.int64() if name == "size" else pyarrow.string() for name in COLUMNS}
    return pyarrow.record_batch(
        [pyarrow.array(values[name], kinds[name]) for name in columns], names=list(columns)
    )
