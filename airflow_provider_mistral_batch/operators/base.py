"""What all operators share: the connection, the errors that no retry can fix, the check of ``requests``."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, MappingView, Sequence, Set
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.hooks.mistral_batch import MistralBatchHook
from airflow_provider_mistral_batch.observability.lineage.reporting import ReportsLineage
from airflow_provider_mistral_batch.tasks.endings import ending_briefly, failing_for_good
from airflow_provider_mistral_batch.tasks.rendering import DataIsNoTemplate, read_arguments

if TYPE_CHECKING:
    from airflow.sdk import Context


class MistralBatchOperator(ReportsLineage, DataIsNoTemplate):
    """
    Base of the operators that talk to the Batch API.

    :param mistral_conn_id: The connection's id.
    """

    ui_color = "#fff1e6"

    def __init__(self, *, mistral_conn_id: str = MistralBatchHook.default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mistral_conn_id = mistral_conn_id

    @cached_property
    def hook(self) -> MistralBatchHook:
        """The hook of the connection."""
        return MistralBatchHook(self.mistral_conn_id)

    @property
    def linked_batch_id(self) -> str | None:
        """Id of the job that the task's button opens; ``None`` as long as it is not known."""
        return getattr(self, "batch_id", None)

    def execute(self, context: Context) -> Any:
        """Do the work; an error that no retry can fix fails the task without retries."""
        with ending_briefly(), failing_for_good():
            read_arguments(self)
            return self.run_batch_task(context)

    @abstractmethod
    def run_batch_task(self, context: Context) -> Any:
        """Do the work."""


def check_requests_are_stable(requests: Any) -> None:
    """
    Refuse requests that differ from one reading to the next, while the Dag is parsed.

    :param requests: The operator's argument.
    :raises InvalidInputError: When it has no order, or can be read only once.
    """
    if isinstance(requests, Set):
        raise InvalidInputError(
            f"requests is a {type(requests).__name__}, which has no order: each try would send other request files "
            "and pay again; pass a list, such as sorted(requests)"
        )
    if isinstance(requests, (Iterator, MappingView)):
        raise InvalidInputError(
            f"requests is a {type(requests).__name__}: the Dag would get a new version each time it is parsed; pass a "
            "list, or return the requests from a function with @task.mistral_batch"
        )


def prompt_path(task: Any) -> Any:
    """
    Give the path of a task's prompt. A relative one is in the Dag's folder or its ``template_searchpath``, as Airflow's
    template files are.

    :param task: The operator, whose ``prompt_file`` is rendered.
    """
    path = task.prompt_file
    if not isinstance(path, str) or not path or "://" in path or not task.has_dag():
        return path
    searched = task.dag.template_searchpath or ()
    folders = [task.dag.folder, *([searched] if isinstance(searched, str) else searched)]
    found = [str(Path(folder) / path) for folder in folders]
    return next((one for one in found if Path(one).is_file()), found[0])


def check_requests(requests: Any) -> None:
    """
    Check that requests are a list of rows; the rows themselves are checked when they are read.

    :param requests: The rendered argument, or what another task returned.
    :raises InvalidInputError: When they are anything else, such as the string that a Jinja template renders to.
    """
    check_requests_are_stable(requests)
    if isinstance(requests, (str, bytes)) or not isinstance(requests, Sequence):
        raise InvalidInputError(
            f"requests={requests!r:.80} is not a list of rows: pass a list. If it comes from a Jinja template, pass "
            "the output itself (requests=prepare.output), or set render_template_as_native_obj=True on the Dag"
        )
