"""Lands the results of each round, and merges all rounds into one final outcome for each request."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_mistral_batch.api.errors import InvalidInputError, NotFoundError
from airflow_provider_mistral_batch.inference.table import with_failures_of_table
from airflow_provider_mistral_batch.policies.verdict import describe_gone, has_lost_answers
from airflow_provider_mistral_batch.tasks.destination import MANIFEST
from airflow_provider_mistral_batch.tasks.result_files import stream_results

if TYPE_CHECKING:
    from airflow_provider_mistral_batch.api.models import BatchJobOut
    from airflow_provider_mistral_batch.inference.plan import BatchPlan
    from airflow_provider_mistral_batch.inference.workplace import Workplace
    from airflow_provider_mistral_batch.jsonl.requests.shards import Shard

log = logging.getLogger(__name__)

#: What to do about results that are gone.
PAY_AGAIN = "To submit, and pay for, the requests again, set force_new=True and clear the task"


class LandedRounds:
    """
    The results of a batch's rounds in its destination.

    A round is not downloaded again if an earlier try, or a worker before a deferral, has already landed it.

    :param work: What this worker has at hand.
    :param plan: The batch.
    """

    def __init__(self, work: Workplace, plan: BatchPlan) -> None:
        self.hook = work.hook
        self.destination = work.destination
        self.files = work.files
        self.options = work.options
        self.table = work.table
        self.plan = plan

    def land(self, number: int) -> dict[str, Any]:
        """
        Land one round, whose jobs must be over.

        :param number: The round, from 0.
        :return: Fields of a manifest; ``may_pass``: how many requests may succeed in another try; and ``gone``: if the
            API does not offer results of some jobs any more, which and why.
        :raises InvalidInputError: When another task has taken the destination, or all results of the first round are
            gone.
        """
        from airflow_provider_mistral_batch.jsonl.results.manifest import read_manifest, write_manifest
        from airflow_provider_mistral_batch.jsonl.results.split import split_downloads

        manifest_path = self.destination.round_path(number, MANIFEST)
        results_path, errors_path = self.destination.round_paths(number)
        round_key = [self.plan.key, *(job.batch_id for job in self.plan.rounds[number])]
        with suppress(FileNotFoundError):
            landed = read_manifest(manifest_path)
            if landed.get("round_key") == round_key and results_path.exists() and errors_path.exists():
                return landed
        self.destination.check_claim()
        jobs = [self.hook.get(job.batch_id) for job in self.plan.rounds[number] if job.batch_id]
        requests = self._requests(number)
        now = self.hook.server_now
        lost = dict.fromkeys(job.id for job in jobs if has_lost_answers(job, now=now))
        summary = split_downloads(
            lambda: self._streams(jobs, lost),
            results_path,
            errors_path,
            requests=requests,
            check=self.options.structured.check if self.options.structured else None,
            output_format=self.destination.rounds_format,
            without_secrets=self.hook.get_conn().without_secrets,
        )
        gone = ""
        if lost:
            gone = describe_gone(
                next(filter(None, lost.values()), None), [job for job in jobs if job.id in lost]
            )
            if number == 0 and not summary.counts["by_status"]:
                self.destination.release()
                raise InvalidInputError(f"{gone}. {PAY_AGAIN}")
            # What other jobs and earlier rounds gave is paid for, and lands.
            log.warning("%s. Their requests count as without a result, and none is asked again.", gone)
        landed = {
            **summary.as_dict(),
            "may_pass": summary.may_pass,
            "gone": gone,
            "started_at": min(job.in_progress_at or job.created_at for job in jobs),
            "completed_at": max(job.ended_at or job.created_at for job in jobs),
            "round_key": round_key,
        }
        write_manifest(landed, manifest_path)
        counts = summary.counts
        log.info(
            "Round %d: %d of %d requests succeeded, %d failed, %d have no result; %d may succeed in another try.",
            number + 1,
            counts["succeeded"],
            counts["total"],
            counts["failed"],
            counts["missing"],
            summary.may_pass,
        )
        return landed

    def usages(self) -> Iterator[dict[str, Any]]:
        """Iterate over the usage of each round, read lazily."""
        return (self.land(number)["usage"] for number in range(len(self.plan.rounds)))

    def write_next_requests(self, directory: Path) -> tuple[Shard, ...]:
        """
        Write the request files of the next round, after the last one has landed.

        :param directory: Local directory for them.
        :return: The files; none if no request may succeed in another try.
        """
        from airflow_provider_mistral_batch.jsonl.results.resubmission import write_resubmission

        last = len(self.plan.rounds) - 1
        requests = self._requests(last)
        if requests is None:
            return ()
        structured = self.options.structured
        return write_resubmission(
            requests,
            *self.destination.round_paths(last),
            directory=directory,
            reask=structured.reask if structured and self.options.reask_invalid else None,
            max_job_requests=self.options.requests_per_job,
        )

    def finish(self, *, left_out: Exception | None = None) -> dict[str, Any]:
        """
        Publish the final outcome of every request in the destination.

        :param left_out: If a round was left out, or landed in part, why.
        :return: Fields of a manifest; ``may_pass`` and ``gone``, as of :meth:`land`.
        :raises Exception: ``left_out``, or that results are gone, when an earlier try has published more answers of
            this batch: these stay.
        """
        from airflow_provider_mistral_batch.jsonl.results.merge import merge_rounds

        destination = self.destination
        results_path, errors_path = destination.results_path, destination.errors_path
        landed = [self.land(number) for number in range(len(self.plan.rounds))]
        last = len(landed) - 1
        final = landed[0]
        # If a round was left out, a clear may continue with those that have landed: they stay where they are.
        if last or left_out is not None:
            rounds = [
                {**one, "results_path": paths[0], "errors_path": paths[1]}
                for one, paths in zip(landed, map(destination.round_paths, range(len(landed))), strict=True)
            ]
            # Merged where the next round would be, so that unfinished files never lie beside final ones.
            last += 1
            merged = merge_rounds(
                rounds,
                *destination.round_paths(last),
                requests=self._requests(0),
                output_format=destination.rounds_format,  # type: ignore[arg-type]
                without_secrets=self.hook.get_conn().without_secrets,
            )
            final = {**merged.as_dict(), "may_pass": merged.may_pass}
        gone = next(filter(None, (one.get("gone", "") for one in landed)), "")
        if (left_out or gone) and self._has_published_more(final["counts"]):
            log.warning("An earlier try has published more answers than there are now. They stay.")
            raise left_out or InvalidInputError(f"{gone}. {PAY_AGAIN}")
        paths = destination.round_paths(last)
        about_table: dict[str, Any] = {}
        if self.table is not None:
            paths, about_table = self.table.land(*paths, self.plan.key)
            about = about_table["table"]
            final = with_failures_of_table(final, unfit=about["unfit"], missing=about["missing"])
        destination.publish(paths)
        fields = ("counts", "usage", "errors", "may_pass")
        return {
            "results_path": str(results_path),
            "errors_path": str(errors_path),
            **{name: final[name] for name in fields},
            "gone": gone,
            **about_table,
            "started_at": landed[0]["started_at"],
            "completed_at": landed[-1]["completed_at"],
        }

    def _has_published_more(self, counts: Mapping[str, Any]) -> bool:
        published = self.destination.own_manifest()
        return (
            published is not None
            and published.get("key") == self.plan.key
            and published["counts"]["succeeded"] > counts["succeeded"]
        )

    def _requests(self, number: int) -> list[Path] | None:
        """Return a round's request files; ``None`` if they were deleted or changed, which must not stop the landing."""
        try:
            return self.files.paths(self.plan.rounds[number])
        except (NotFoundError, InvalidInputError) as error:
            log.warning("%s. Requests without a result cannot be identified, so none is asked again.", error)
            return None

    def _streams(
        self, jobs: Sequence[BatchJobOut], lost: dict[str, NotFoundError | None]
    ) -> Iterable[Iterable[bytes]]:
        """Open the result files of a round's jobs, one by one as they are read; note jobs whose files are gone."""
        for job in jobs:
            yield from stream_results(self.hook, job, is_gone=partial(_note, lost, job.id))


def _note(lost: dict[str, NotFoundError | None], batch_id: str, file_id: str, error: NotFoundError) -> None:
    lost[batch_id] = error
