"""What tasks leave in XCom for the tasks after them; the only place that writes our XComs."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from airflow_provider_mistral_batch.api.models import BatchJobOut

log = logging.getLogger(__name__)


def job_xcoms(job: BatchJobOut) -> dict[str, Any]:
    """
    Give the XComs that tell how a job ended, by key.

    :param job: The job.
    """
    return {
        "batch_id": job.id,
        "status": job.status,
        "output_file_id": job.output_file_id,
        "error_file_id": job.error_file_id,
        "request_counts": msgspec.to_builtins(job.request_counts),
    }


def push_xcoms(ti: Any, values: dict[str, Any]) -> None:
    """
    Push XComs from a worker.

    :param ti: The running task instance.
    :param values: Values by key.
    """
    for key, value in values.items():
        _push(ti, key, value)


def push_return_value(ti: Any, value: Any) -> None:
    """
    Push from a worker what a task returns, for a task that fails and so returns nothing.

    :param ti: The running task instance.
    :param value: What it would return.
    """
    # Imported late: parsing a Dag needs none of it.
    from airflow.providers.common.compat.sdk import XCOM_RETURN_KEY

    _push(ti, XCOM_RETURN_KEY, value)


def _push(ti: Any, key: str, value: Any) -> None:
    try:
        ti.xcom_push(key=key, value=value)
    except Exception as error:
        if value is not None:
            raise
        # Before Airflow 3.3 the API server refuses an XCom that is None.
        log.debug("XCom %r, which would be None, is left out: %s", key, error)
