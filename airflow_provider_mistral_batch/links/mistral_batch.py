"""The button that opens the batch job in Mistral's console."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from airflow_provider_mistral_batch.compat import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

__all__ = ["MistralBatchJobLink"]

log = logging.getLogger(__name__)

CONSOLE_URL = "https://console.mistral.ai/build/batches"

#: The domain whose hosts' jobs are in the console.
_DOMAIN = "mistral.ai"


def console_url(batch_id: object, base_url: str) -> str:
    """
    Return the console's URL of a batch job, or of the list of jobs if the id is not a string.

    :param batch_id: The job's id.
    :param base_url: The API's URL.
    :return: The URL; empty if the API is not Mistral's own: the console does not know a gateway's or an emulator's
        jobs, and neither has a page for them that we know. Airflow shows no button then.
    """
    host = urlsplit(base_url).hostname or ""
    if host != _DOMAIN and not host.endswith(f".{_DOMAIN}"):
        return ""
    return f"{CONSOLE_URL}/{quote(batch_id, safe='')}" if isinstance(batch_id, str) else CONSOLE_URL


class MistralBatchJobLink(BaseOperatorLink):
    """Opens the batch job in Mistral's console."""

    name = "Mistral batch job"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """
        Return the console's URL of the task's job; empty if its connection does not lead to Mistral's API.

        A worker asks after each deferral, each poke and each try, and Airflow stores the answer. Our tasks know their
        job then. Their XCom is not read, because Airflow logs an error if there is none yet.

        :param operator: The task as it ran. A task of another class, whose ``hook`` is not ours, is taken to use
            Mistral's API. It may have an argument ``batch_id``.
        :param ti_key: The task instance. For a task of another class, its XCom ``batch_id`` names the job.
        """
        try:
            hook: Any = getattr(operator, "hook", None)
            is_ours = getattr(hook, "conn_type", None) == "mistral"
            base_url = hook.get_conn().base_url if is_ours else f"https://{_DOMAIN}"
        except Exception as error:
            # Most likely the task has failed for the same cause, and has said so.
            log.debug("There is no link to the job, because the connection cannot be read: %s", error)
            return ""
        if hasattr(operator, "linked_batch_id"):
            return console_url(operator.linked_batch_id, base_url)
        # Imported late: parsing a Dag needs none of it.
        from airflow.sdk.execution_time.xcom import XCom

        batch_id = XCom.get_value(key="batch_id", ti_key=ti_key) or getattr(operator, "batch_id", None)
        return console_url(batch_id, base_url)
