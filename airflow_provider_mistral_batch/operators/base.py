"""What all operators share: the connection, the errors that no retry can fix, the check of ``requests``."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.hooks.mistral_batch import MistralBatchHook
from airflow_provider_mistral_batch.tasks.endings import failing_for_good

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class MistralBatchOperator(BaseOperator):
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

    def execute(self, context: Context) -> Any:
        """Do the work; an error that no retry can fix fails the task without retries."""
        with failing_for_good():
            return self.run_batch_task(context)

    @abstractmethod
    def run_batch_task(self, context: Context) -> Any:
        """Do the work."""


def check_requests(requests: Any) -> None:
    """
    Check that requests are a list of rows; the rows themselves are checked when they are read.

    :raises InvalidInputError: When they are anything else, such as the string that a Jinja template renders to.
    """
    if isinstance(requests, (str, bytes, Mapping)) or not isinstance(requests, Iterable):
        raise InvalidInputError(
            f"requests={requests!r:.80} is not a list of rows: pass a list. If it comes from a Jinja template, pass "
            "the output itself (requests=prepare.output), or set render_template_as_native_obj=True on the Dag"
        )
