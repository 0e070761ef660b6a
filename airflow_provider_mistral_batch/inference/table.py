"""A batch over a table: its requests are made of rows, and its answers come back as columns beside them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.storage.atomic import AtomicFiles
from airflow_provider_mistral_batch.storage.folders import entries

if TYPE_CHECKING:
    import pyarrow

    from airflow_provider_mistral_batch.inference.options import BatchOptions
    from airflow_provider_mistral_batch.storage.paths import StoragePath
    from airflow_provider_mistral_batch.tables.requests import TableRequests
    from airflow_provider_mistral_batch.tasks.destination import Destination

log = logging.getLogger(__name__)

#: The folder of the rows that were asked about, among what is not final yet.
_ROWS = "rows"


class BatchTable:
    """
    The table of a batch.

    :param options: The options of the batch.
    :param destination: Where the results go.
    :param directory: Local directory, for files on their way.
    """

    def __init__(self, options: BatchOptions, destination: Destination, directory: Path) -> None:
        self._options = options
        self._destination = destination
        self._directory = directory

    def requests(self, source: Any) -> TableRequests:
        """
        Make requests of rows.

        :param source: Where the rows come from.
        :raises InvalidInputError: When it is no table, or a column has the name of another one.
        """
        from airflow_provider_mistral_batch.tables.columns import ABOUT_ANSWER, check_names
        from airflow_provider_mistral_batch.tables.requests import TableRequests
        from airflow_provider_mistral_batch.tables.sources.memory import rows_of

        question = self._options.question
        names = [field.name for field in self._options.shape.fields()]
        raw = ["raw"] if self._options.answer_columns.raw else []
        check_names(question.kept_columns, [*names, *raw, *ABOUT_ANSWER])
        return TableRequests(rows_of(source), question, directory=self._directory)

    def keep_rows(self, requests: TableRequests) -> None:
        """
        Check the target, and keep the rows beside the rounds, before anything is sent.

        :param requests: What :meth:`requests` made, after it was read.
        :raises InvalidInputError: When the answers do not fit the target.
        """
        from airflow_provider_mistral_batch.tables.answers import table_schema

        paths = requests.rows.paths
        if self._options.target is not None:
            schema = table_schema(paths, self._options.shape, self._options.answer_columns)
            self._options.target.check(schema, self._options.question.key_columns)
        with AtomicFiles() as files:
            for path in paths:
                path.replace(files.spool(self._destination.work_path(_ROWS, path.name)))
            files.publish()

    def land(
        self, results: StoragePath, errors: StoragePath
    ) -> tuple[tuple[StoragePath, StoragePath], dict[str, Any]]:
        """
        Write the tables of answers and of failures, where they are not final yet.

        :param results: The rows that succeeded, as JSONL.
        :param errors: All others.
        :return: Where the tables are, and what the manifest says of them.
        """
        from airflow_provider_mistral_batch.tables.answers import write_answers

        targets = (
            self._destination.work_path("table", self._destination.results_path.name),
            self._destination.work_path("table", self._destination.errors_path.name),
        )
        with AtomicFiles() as files:
            spools = [files.spool(target) for target in targets]
            summary = write_answers(
                results,
                errors,
                self._rows(),
                key=self._options.question.key_columns,
                shape=self._options.shape,
                columns=self._options.answer_columns,
                results_path=spools[0],
                errors_path=spools[1],
            )
            files.publish()
        about = {
            "key": list(self._options.question.key_columns),
            "answer": [field.name for field in self._options.shape.fields()],
            "skipped": summary.skipped,
            "unfit": summary.unfit,
        }
        return targets, {"table": about}

    def _rows(self) -> Sequence[StoragePath]:
        folder = self._destination.work_path(_ROWS)
        paths = entries(folder)
        if not paths:
            raise InvalidInputError(
                f"{folder} is gone, which had the keys and the columns to keep: somebody emptied the destination. The "
                "answers are still in the account: land them with MistralDownloadBatchResultsOperator, or set "
                "force_new=True and clear the task to submit, and pay for, the requests again"
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
    count = options.target.write(batches(), manifest["table"]["key"], run)
    log.info("Wrote %d rows into %r.", count, options.target)
