"""What a worker has at hand while it runs a batch, from the task's start or resumption to its next pause."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_mistral_batch.inference.request_files import RequestFiles
from airflow_provider_mistral_batch.inference.table import BatchTable
from airflow_provider_mistral_batch.policies.ownership import identity_hash
from airflow_provider_mistral_batch.storage.paths import absolute_path
from airflow_provider_mistral_batch.tasks.destination import Destination

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_mistral_batch.hooks.mistral_batch import MistralBatchHook
    from airflow_provider_mistral_batch.inference.options import BatchOptions
    from airflow_provider_mistral_batch.submission.jobs import Submission


@dataclass(frozen=True, kw_only=True)
class Workplace:
    """
    What a worker has at hand.

    :param context: The running task's context.
    :param options: The options of the batch.
    :param submission: Finds, creates and cancels the task instance's jobs.
    :param destination: Where the results go.
    :param directory: Local directory, removed at the batch's next pause or end.
    :param files: The request files; ``directory`` holds the local copies.
    """

    context: Context
    options: BatchOptions
    submission: Submission
    destination: Destination
    directory: Path
    files: RequestFiles

    @property
    def hook(self) -> MistralBatchHook:
        """How to talk to the API."""
        return self.submission.hook

    @property
    def table(self) -> BatchTable | None:
        """The table that the requests are made of; ``None`` if they are not."""
        return BatchTable(self.options, self.destination, self.files) if self.options.is_table else None

    @property
    def ti(self) -> Any:
        """The running task instance."""
        return self.context["ti"]


@contextmanager
def workplace(context: Context, options: BatchOptions, submission: Submission) -> Iterator[Workplace]:
    """
    Set up a workplace, and remove it afterwards.

    :param context: The running task's context.
    :param options: The options of the batch.
    :param submission: Finds, creates and cancels the task instance's jobs.
    """
    identity = submission.identity
    # Files that will be deleted must not be shared with other tasks.
    owner = identity_hash(identity) if options.delete_files == "on_success" else ""
    folder = absolute_path(options.destination, field="destination")
    with tempfile.TemporaryDirectory(prefix="mistral-batch-") as name:
        directory = Path(name)
        yield Workplace(
            context=context,
            options=options,
            submission=submission,
            destination=Destination(
                folder, identity, options.landed_format, rounds_format="jsonl" if options.is_table else None
            ),
            directory=directory,
            files=RequestFiles(submission.hook, directory, owner=owner),
        )
