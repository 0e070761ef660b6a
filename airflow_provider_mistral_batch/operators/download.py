"""``MistralDownloadBatchResultsOperator``: lands a job's results as two JSONL files and a manifest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_mistral_batch.api.checks import check_choice
from airflow_provider_mistral_batch.api.errors import InvalidInputError, NotFoundError
from airflow_provider_mistral_batch.api.models import BatchStatus
from airflow_provider_mistral_batch.compat import AirflowException, AirflowFailException
from airflow_provider_mistral_batch.links.mistral_batch import MistralBatchJobLink
from airflow_provider_mistral_batch.observability import metrics
from airflow_provider_mistral_batch.observability.lineage.told import (
    Told,
    about_job,
    about_manifest,
    landed_files,
)
from airflow_provider_mistral_batch.operators.base import MistralBatchOperator
from airflow_provider_mistral_batch.policies.verdict import (
    describe_gone,
    describe_job_errors,
    has_lost_answers,
    offers_no_answers,
)
from airflow_provider_mistral_batch.storage.paths import absolute_path
from airflow_provider_mistral_batch.tasks import task_state
from airflow_provider_mistral_batch.tasks.destination import IF_EXISTS, Destination
from airflow_provider_mistral_batch.tasks.identity import identity_of
from airflow_provider_mistral_batch.tasks.outlets import describe_results
from airflow_provider_mistral_batch.tasks.result_files import stream_results
from airflow_provider_mistral_batch.tasks.xcoms import job_xcoms, push_xcoms

if TYPE_CHECKING:
    from airflow.sdk import Context, ObjectStoragePath

    from airflow_provider_mistral_batch.api.models import BatchJobOut
    from airflow_provider_mistral_batch.jsonl.results.split import ResultsSummary


class MistralDownloadBatchResultsOperator(MistralBatchOperator):
    """
    Download a job's results: rows that succeeded go to ``results.jsonl``, failed rows to ``errors.jsonl``.

    Rows stay byte for byte as the API wrote them. Both files appear whole or not at all, and ``manifest.json`` follows.
    Partial results of a job that failed, expired or was cancelled land, too, with a warning.

    Returns the manifest: ``batch_ids``, ``results_path``, ``errors_path``, ``counts``, ``usage`` (sums of tokens and
    pages), ``errors`` (a digest of the failures), ``started_at``, ``completed_at`` (epoch seconds), ``task``. XComs:
    the sensor's.

    :param batch_id: The job's id. The job must be over: put ``MistralBatchJobSensor`` before this task.
    :param destination: Folder for the files, local or on any object storage (``s3://conn@bucket/folder``). Each run and
        each mapped task needs its own.
    :param if_exists: What to do if the destination has another task instance's results: ``fail``, or ``replace`` them.
    :param mistral_conn_id: The connection's id.
    """

    template_fields: Sequence[str] = ("batch_id", "destination", "if_exists", "mistral_conn_id")
    operator_extra_links = (MistralBatchJobLink(),)

    def __init__(
        self,
        *,
        batch_id: str,
        destination: str | ObjectStoragePath,
        if_exists: Literal["fail", "replace"] = "fail",
        mistral_conn_id: str = "mistral_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(mistral_conn_id=mistral_conn_id, **kwargs)
        self.batch_id = batch_id
        self.destination = destination
        self.if_exists = if_exists
        self._manifest: dict[str, Any] | None = None

    def told(self, *, succeeded: bool) -> Told:
        """Tell OpenLineage of the results."""
        about = about_job(self.job_seen)
        if self._manifest is None:
            return Told(batch_ids=[self.batch_id], about=about)
        return Told(
            batch_ids=[self.batch_id],
            about={**about, **about_manifest(self._manifest)},
            outputs=landed_files(self._manifest),
        )

    def run_batch_task(self, context: Context) -> dict[str, Any]:
        """Check, download, split, publish."""
        self._manifest = self._landed(context)
        return self._manifest

    def _landed(self, context: Context) -> dict[str, Any]:
        check_choice("if_exists", self.if_exists, IF_EXISTS)
        folder = absolute_path(self.destination, field="destination")
        destination = Destination(folder, identity_of(context, self.hook), "jsonl")
        # Before the download, which may have a million rows.
        destination.claim(self.if_exists)
        try:
            manifest = self._land(context, destination)
        except FileNotFoundError:
            # Another try, which Airflow considered dead, may have landed these results and removed this try's files.
            found = destination.own_manifest()
            if found is None or found.get("batch_ids") != [self.batch_id]:
                raise
            manifest = found
            self.log.info("Another try of this task has already landed the same results.")
            destination.release()
        describe_results(context, manifest)
        task_state.keep(context, batch_ids=manifest["batch_ids"], counts=manifest["counts"])
        return manifest

    def _land(self, context: Context, destination: Destination) -> dict[str, Any]:
        # Imported late: parsing a Dag needs none of it.
        from airflow_provider_mistral_batch.jsonl.results.digest import describe_errors

        try:
            job, summary = self._download(context, destination)
        except Exception:
            # The next try starts from the beginning.
            destination.withdraw()
            raise
        destination.publish(destination.round_paths(0))
        counts = summary.counts
        metrics.rows_landed(counts, job.model, job.endpoint)
        metrics.usage_landed(summary.as_dict()["usage"], None, job.model, job.endpoint)
        self.log.info(
            "Batch job %s (%s): wrote %d rows that succeeded to %s, and %d failed rows to %s.",
            job.id,
            job.status,
            counts["succeeded"],
            destination.results_path,
            counts["failed"],
            destination.errors_path,
        )
        if digest := describe_errors(summary.errors):
            self.log.warning("%s", digest)
        missing = max(job.request_counts.total - counts["total"], 0)
        if missing:
            self.log.warning(
                "Batch job %s has %d requests, but only %d result rows.",
                job.id,
                job.request_counts.total,
                counts["total"],
            )
        return destination.write_manifest(
            {
                "batch_ids": [job.id],
                **summary.as_dict(),
                # Which requests are missing is unknown here: only the request file tells.
                "counts": {**counts, "total": counts["total"] + missing, "missing": missing},
                "results_path": str(destination.results_path),
                "errors_path": str(destination.errors_path),
                "started_at": job.in_progress_at or job.created_at,
                "completed_at": job.ended_at,
            }
        )

    def _download(self, context: Context, destination: Destination) -> tuple[BatchJobOut, ResultsSummary]:
        """Download the results into the destination's work folder."""
        # Imported late: parsing a Dag needs none of it.
        from airflow_provider_mistral_batch.jsonl.results.split import split_downloads

        job = self.hook.get(self.batch_id)
        if not job.is_terminal:
            raise AirflowException(
                f"batch job {job.id} is {job.status}, so it has no results yet: wait for it with "
                "MistralBatchJobSensor before this task"
            )
        self.job_seen = job
        push_xcoms(context["ti"], job_xcoms(job))
        try:
            return job, split_downloads(
                lambda: self._streams(job),
                *destination.round_paths(0),
                without_secrets=self.hook.get_conn().without_secrets,
            )
        except NotFoundError as gone:
            raise _gone(gone, job) from None

    def _streams(self, job: BatchJobOut) -> Iterable[Iterable[bytes]]:
        """Open the job's result rows, from its files or inline; they are read lazily."""
        has_lost = has_lost_answers(job, now=self.hook.server_now)
        if job.output_file_id or (job.error_file_id and not has_lost):
            return stream_results(self.hook, job, is_gone=partial(self._go_on_without, job))
        rows = [] if job.input_files else self.hook.inline_rows(job.id)
        if rows:
            return [(row + b"\n" for row in rows)]
        if offers_no_answers(job):
            raise _gone(None, job)
        if job.status == BatchStatus.COMPLETED:
            return []
        raise AirflowFailException(
            f"batch job {job.id} ended as {job.status} without results, so there is nothing to download"
            + (f"; {errors}" if (errors := describe_job_errors(job)) else "")
        )

    def _go_on_without(self, job: BatchJobOut, file_id: str, error: NotFoundError) -> None:
        """Land the answers all the same if only the file of the failed rows is gone."""
        if file_id != job.error_file_id or not job.output_file_id:
            raise error
        self.log.warning(
            "The file with the failed rows of batch job %s is no longer in the account (%s). Its answers land all the "
            "same; the failed rows count as missing.",
            job.id,
            error,
        )


def _gone(error: NotFoundError | None, job: BatchJobOut) -> InvalidInputError:
    return InvalidInputError(
        f"{describe_gone(error, [job])}. To submit, and pay for, the requests again, set force_new=True on the task "
        "that created the job, and clear it"
    )
