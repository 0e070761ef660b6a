"""``MistralDownloadBatchResultsOperator``: lands a job's results as two JSONL files and a manifest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_mistral_batch.api.models import BatchStatus
from airflow_provider_mistral_batch.links.mistral_batch import MistralBatchJobLink
from airflow_provider_mistral_batch.operators.base import MistralBatchOperator
from airflow_provider_mistral_batch.paths import storage_path
from airflow_provider_mistral_batch.xcoms import job_xcoms, push_xcoms

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, ObjectStoragePath

    from airflow_provider_mistral_batch.api.models import BatchJobOut


class MistralDownloadBatchResultsOperator(MistralBatchOperator):
    """
    Download a job's results: rows that succeeded to ``results.jsonl``, rows that failed to ``errors.jsonl``.

    Rows stay byte for byte as the API gave them. Both files appear whole or not at all. A job that failed, expired or
    was cancelled may have partial results: they are landed too, with a warning.

    Returns the manifest: ``batch_ids``, ``results_path``, ``errors_path``, ``counts``, ``usage`` (sums of tokens and
    pages), ``errors`` (a digest of the failures), ``started_at``, ``completed_at`` (epoch seconds). XComs: those of
    the sensor.

    :param batch_id: The job's id. The job must be over: put ``MistralBatchJobSensor`` before this task.
    :param destination: Folder for the files, local or on any object storage (``s3://conn@bucket/folder``). Each run and
        each mapped task needs its own: files that are there are replaced.
    :param mistral_conn_id: The connection's id.
    """

    template_fields: Sequence[str] = ("batch_id", "destination", "mistral_conn_id")
    operator_extra_links = (MistralBatchJobLink(),)

    def __init__(self, *, batch_id: str, destination: str | ObjectStoragePath, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.batch_id = batch_id
        self.destination = destination

    def run_batch_task(self, context: Context) -> dict[str, Any]:
        """Check, download, split, publish."""
        # Imported late: parsing a Dag needs none of it.
        from airflow_provider_mistral_batch.jsonl.digest import describe_errors
        from airflow_provider_mistral_batch.jsonl.landing import check_writable
        from airflow_provider_mistral_batch.jsonl.results import split_results

        folder = storage_path(self.destination, field="destination")
        results_path, errors_path = folder / "results.jsonl", folder / "errors.jsonl"
        # Before the download: a million rows later would be late.
        for path in (results_path, errors_path):
            check_writable(path)
        job = self.hook.get(self.batch_id)
        if not job.is_terminal:
            raise AirflowException(
                f"batch job {job.id} is {job.status}, its results are not there yet: wait for it with "
                "MistralBatchJobSensor before this task"
            )
        push_xcoms(context["ti"], job_xcoms(job))
        summary = split_results(self._streams(job), results_path, errors_path)
        counts = summary.counts
        self.log.info(
            "Batch job %s (%s): %d rows succeeded, now in %s; %d failed, now in %s.",
            job.id,
            job.status,
            counts["succeeded"],
            summary.results_path,
            counts["failed"],
            summary.errors_path,
        )
        if digest := describe_errors(summary.errors):
            self.log.warning("%s", digest)
        if job.request_counts.total and counts["total"] < job.request_counts.total:
            self.log.warning(
                "Batch job %s has %d requests, but only %d rows came back.",
                job.id,
                job.request_counts.total,
                counts["total"],
            )
        return {
            "batch_ids": [job.id],
            **summary.as_dict(),
            "started_at": job.in_progress_at or job.created_at,
            "completed_at": job.ended_at,
        }

    def _streams(self, job: BatchJobOut) -> list[Iterable[bytes]]:
        """The job's result rows, wherever they are; read as they are asked for."""
        files = [file_id for file_id in (job.output_file_id, job.error_file_id) if file_id]
        if files:
            return [self.hook.stream_file(file_id) for file_id in files]
        from airflow_provider_mistral_batch.jsonl.results import inline_stream

        outputs = None if job.input_files else self.hook.get(job.id, inline=True).outputs
        if outputs:
            return [inline_stream(outputs)]
        if job.status == BatchStatus.COMPLETED:
            return []
        raise AirflowFailException(
            f"batch job {job.id} ended as {job.status} and left no results: there is nothing to download"
            + "".join(f"; {error}" for error in job.errors[:3])
        )
