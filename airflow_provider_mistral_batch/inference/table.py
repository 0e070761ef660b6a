"""A batch over a table: its requests are made of rows, and its answers come back as columns beside them."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow_provider_mistral_batch.api.errors import InvalidInputError, MistralBatchError
from airflow_provider_mistral_batch.storage.atomic import AtomicFiles, write_whole
from airflow_provider_mistral_batch.storage.folders import entries, refuse_link, remove_folder
from airflow_provider_mistral_batch.storage.reading import read_small
from airflow_provider_mistral_batch.tasks.destination import ROWS

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow

    from airflow_provider_mistral_batch.inference.options import BatchOptions
    from airflow_provider_mistral_batch.inference.request_files import RequestFiles
    from airflow_provider_mistral_batch.storage.paths import StoragePath
    from airflow_provider_mistral_batch.tables.answers import AnswerTable
    from airflow_provider_mistral_batch.tables.requests import TableRequests
    from airflow_provider_mistral_batch.tasks.destination import Destination

log = logging.getLogger(__name__)

#: The folder of answers as files, beside the results.
_MARKDOWN = "markdown"


class BatchTable:
    """
    The table of a batch.

    :param options: The options of the batch.
    :param destination: Where the results go.
    :param files: The request files, and how to talk to the API.
    """

    def __init__(self, options: BatchOptions, destination: Destination, files: RequestFiles) -> None:
        self._options = options
        self._destination = destination
        self._files = files
        self._directory = files.directory

    def requests(self, source: Any) -> TableRequests:
        """
        Make requests of rows.

        :param source: Where the rows come from.
        :raises InvalidInputError: When it is no table, or a column has the name of another one.
        """
        from airflow_provider_mistral_batch.tables.columns import ABOUT_ANSWER, check_names
        from airflow_provider_mistral_batch.tables.requests import TableRequests
        from airflow_provider_mistral_batch.tables.sources.documents import Documents
        from airflow_provider_mistral_batch.tables.sources.memory import rows_of

        question = self._options.question
        names = [field.name for field in self._options.shape.fields()]
        raw = ["raw"] if self._options.answer_columns.raw else []
        check_names(question.kept_columns, names, [*ABOUT_ANSWER, *raw])
        rows = rows_of(source)
        if isinstance(rows, Documents):
            from airflow_provider_mistral_batch.inference.budget import check_no_documents
            from airflow_provider_mistral_batch.inference.documents import bound_documents

            check_no_documents(self._options)
            question.check_asks_about_documents()
            rows = bound_documents(
                rows,
                self._files.hook,
                endpoint=self._options.endpoint,
                directory=self._directory,
                owner=self._files.owner,
            )
        return TableRequests(rows, question, directory=self._directory)

    def keep_rows(self, requests: TableRequests, key: str) -> None:
        """
        Check the target, and keep the rows beside the rounds, before anything is sent.

        :param requests: What :meth:`requests` made, after it was read.
        :param key: The batch's key. Rows of another input are never mixed with these.
        :raises InvalidInputError: When the answers do not fit the target, or somebody else's files are where they go.
        """
        paths = requests.rows.paths
        if self._options.target is not None:
            table = self._answers(paths)
            self._options.target.check(
                table.schema(), self._options.question.key_columns, nulls=table.null_columns()
            )
        if self._options.answer_columns.markdown:
            self._check_markdown()
        self._check_moments(paths)
        with AtomicFiles() as files:
            for path in paths:
                files.take(path, self._destination.work_path(ROWS, self._name(key), path.name))
            files.publish()

    def _check_moments(self, paths: Sequence[Path]) -> None:
        """Check the values that a target, and the names of files, will need as Python's."""
        from airflow_provider_mistral_batch.tables.rows_beside import check_moments

        question = self._options.question
        fields = dict.fromkeys(question.kept_columns, "keep") if self._options.target is not None else {}
        if fields or self._options.answer_columns.markdown:
            check_moments(paths, {**fields, **dict.fromkeys(question.key_columns, "key")})

    def land(
        self, results: StoragePath, errors: StoragePath, key: str
    ) -> tuple[tuple[StoragePath, StoragePath], dict[str, Any]]:
        """
        Write the tables of answers and of failures, where they are not final yet.

        :param results: The rows that succeeded, as JSONL.
        :param errors: All others.
        :param key: The batch's key.
        :return: Where the tables are, and what the manifest says of them.
        """
        targets = (
            self._destination.work_path("table", self._destination.results_path.name),
            self._destination.work_path("table", self._destination.errors_path.name),
        )
        with AtomicFiles() as files:
            spools = [files.spool(target) for target in targets]
            table = self._answers(self._rows(key))
            summary = table.write(results, errors, results_path=spools[0], errors_path=spools[1])
            about_markdown = self._write_markdown(spools[0])
            files.publish()
        about = {
            **self._options.table_form,
            "skipped": summary.skipped,
            "unfit": summary.unfit,
            "missing": summary.missing,
            **about_markdown,
        }
        return targets, {"table": about}

    def _answers(self, rows_beside: Sequence[StoragePath]) -> AnswerTable:
        from airflow_provider_mistral_batch.tables.answers import AnswerTable

        return AnswerTable(
            rows_beside,
            key=self._options.question.key_columns,
            shape=self._options.shape,
            columns=self._options.answer_columns,
        )

    def _check_markdown(self) -> None:
        refuse_link(self._markdown)
        if entries(self._markdown) and not self._markdown_begun.exists() and not self._has_older_markdown():
            raise InvalidInputError(
                f"destination={str(self._destination.folder)!r} has a folder {_MARKDOWN!r} that no batch has written, "
                "and the answers need that name: choose another destination, or remove the folder"
            )

    def _write_markdown(self, results: Path) -> dict[str, Any]:
        """Write the answers as files, if that is wanted, and say what the manifest has about them."""
        if not self._options.answer_columns.markdown:
            if self._has_older_markdown():
                # Once the manifest is replaced, nothing tells that a batch has written it.
                self._destination.check_claim()
                refuse_link(self._markdown)
                remove_folder(self._markdown)
            return {}
        from airflow_provider_mistral_batch.tables.markdown import markdown_column, write_markdown

        self._destination.check_claim()
        refuse_link(self._markdown)
        if not self._markdown_begun.exists():
            if self._has_older_markdown():
                remove_folder(self._markdown)
            write_whole(self._markdown_begun, b"")
        count = write_markdown(
            results,
            self._markdown,
            key=self._options.question.key_columns,
            column=markdown_column(self._options.shape, self._options.endpoint),
        )
        return {"markdown": {"path": str(self._markdown), "files": count}}

    @property
    def _markdown(self) -> StoragePath:
        return self._destination.folder / _MARKDOWN

    @property
    def _markdown_begun(self) -> StoragePath:
        """There from the moment when the folder is this batch's."""
        return self._destination.work_path("table", "markdown-begun")

    def _has_older_markdown(self) -> bool:
        """Tell whether the destination has a batch's results that came with such files."""
        content = read_small(self._destination.manifest_path) or b"{}"
        with suppress(ValueError, TypeError, LookupError, RecursionError):
            return bool(json.loads(content)["table"]["markdown"])
        return False

    def has_rows(self, key: str) -> bool:
        """
        Tell whether :meth:`keep_rows` has kept the rows of a batch.

        :param key: The batch's key.
        """
        return bool(entries(self._destination.work_path(ROWS, self._name(key))))

    def _name(self, key: str) -> str:
        """Name the folder of an input's rows: the same requests may come of rows with other columns to keep."""
        kept = "\n".join([key, *self._options.question.kept_columns])
        return hashlib.sha256(kept.encode("utf-8", "surrogatepass")).hexdigest()[:16]

    def _rows(self, key: str) -> Sequence[StoragePath]:
        folder = self._destination.work_path(ROWS, self._name(key))
        paths = entries(folder)
        if not paths:
            raise InvalidInputError(
                f"{folder} is gone, which had the keys and the columns to keep: somebody emptied the destination. The "
                "answers are still in the account. Clear the task: it reads the source again, and pays only if the "
                "rows have changed meanwhile; or land the answers with MistralDownloadBatchResultsOperator"
            )
        return sorted(paths, key=lambda path: (len(path.name), path.name))


def write_target(options: BatchOptions, manifest: Mapping[str, Any]) -> None:
    """
    Write landed answers into the target, if there is one. Writing them again changes nothing.

    :param options: The options of the batch.
    :param manifest: The batch's manifest.
    """
    if options.target is None:
        return
    from airflow_provider_mistral_batch.tables.reading import read_table

    def batches() -> Iterator[pyarrow.RecordBatch]:
        yield from read_table(manifest)

    run = {"run_id": manifest["task"]["run_id"], "batch_id": manifest["batch_ids"][0]}
    try:
        count = options.target.write(batches(), manifest["table"]["key"], run)
    except MistralBatchError as error:
        # What the table cannot take, no other try mends.
        remedy = (
            "Alter the table, and clear the task"
            if isinstance(error, InvalidInputError)
            else "Another try writes them into the table. If none follows, clear the task"
        )
        raise type(error)(
            f"{error}. The answers are safe in {manifest['results_path']}. {remedy}: it reads the source again, and "
            "writes these answers without paying if no row has changed. If rows may have changed, write the answers "
            "yourself first, with SqlTable.write(read_table(manifest), …)"
        ) from None
    log.info("Wrote %d rows into %r.", count, options.target)


def with_failures_of_table(final: Mapping[str, Any], *, unfit: int, missing: int) -> dict[str, Any]:
    """
    Count what became known only when the answers were put beside their rows.

    :param final: Fields of a manifest, before the answers became columns.
    :param unfit: Answers that do not fit their columns.
    :param missing: Rows with neither an answer nor an error.
    """
    from airflow_provider_mistral_batch.jsonl.results.outcomes import MISSING_ROW
    from airflow_provider_mistral_batch.jsonl.results.placeholder_rows import MISSING_MESSAGE
    from airflow_provider_mistral_batch.jsonl.results.tally import OTHER_ERRORS, FailureKind

    counts = final["counts"]
    failures = [
        FailureKind(None, "unfit_answer", "the answer does not fit its columns", unfit, None, may_pass=False),
        FailureKind(None, MISSING_ROW, MISSING_MESSAGE, missing, None, may_pass=True),
    ]
    return {
        **final,
        "counts": {
            **counts,
            "total": counts["total"] + missing,
            "succeeded": counts["succeeded"] - unfit,
            "failed": counts["failed"] + unfit,
            "missing": counts["missing"] + missing,
        },
        "errors": sorted(
            [*final["errors"], *(failure.as_dict() for failure in failures if failure.count)],
            key=lambda error: (error["message"] == OTHER_ERRORS, -error["count"]),
        ),
    }
