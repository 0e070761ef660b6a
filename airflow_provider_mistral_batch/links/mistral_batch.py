"""The button that opens the batch job in Mistral's console."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from airflow.providers.common.compat.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, TaskInstanceKey

__all__ = ["MistralBatchJobLink"]

CONSOLE_URL = "https://console.mistral.ai/build/batches"


def console_url(batch_id: object) -> str:
    """
    Return the console's URL of a batch job, or of the list of jobs if the id is not a string.

    :param batch_id: The job's id.
    """
    return f"{CONSOLE_URL}/{quote(batch_id, safe='')}" if isinstance(batch_id, str) else CONSOLE_URL


class MistralBatchJobLink(BaseOperatorLink):
    """Opens the batch job in Mistral's console."""

    name = "Mistral batch job"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """
        Return the console's URL of the task's job.

        Airflow asks on the worker, after each deferral, each poke and each try. Our tasks know their job then. Their
        XCom is not read, because Airflow logs an error if there is none yet.

        :param operator: The task as it ran. A task of another kind may have an argument ``batch_id``.
        :param ti_key: The task instance. For a task of another kind, its XCom ``batch_id`` names the job.
        """
        if hasattr(operator, "linked_batch_id"):
            return console_url(operator.linked_batch_id)
        # Imported late: parsing a Dag needs none of it.
        from airflow.providers.common.compat.sdk import XCom

        return console_url(
            XCom.get_value(key="batch_id", ti_key=ti_key) or getattr(operator, "batch_id", None)
        )
