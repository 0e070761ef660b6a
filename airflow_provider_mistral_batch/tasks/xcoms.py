"""The XComs of our tasks. All of them are written here, from a worker or from a trigger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from packaging.version import Version

from airflow_provider_mistral_batch.compat import AIRFLOW

if TYPE_CHECKING:
    from airflow_provider_mistral_batch.api.models import BatchJobOut

#: Before this version, the API server refuses an XCom whose value is ``None``, and the logs of both sides say so.
_NONE_SINCE = Version("3.3")

#: The key of what a task returns, in all versions of Airflow.
RETURN_VALUE = "return_value"


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
        if _is_stored(value):
            ti.xcom_push(key=key, value=value)


def push_return_value(ti: Any, value: Any) -> None:
    """
    Push a return value from a worker, for a task that fails and so cannot return it.

    :param ti: The running task instance.
    :param value: What the task would return.
    """
    push_xcoms(ti, {RETURN_VALUE: value})


def set_xcom(ti: Any, key: str, value: Any) -> None:
    """
    Set an XCom from a trigger, whose task instance cannot push. Blocks until Airflow has answered.

    :param ti: The trigger's task instance.
    :param key: The XCom's key.
    :param value: Its value.
    """
    # Imported late: parsing a Dag needs none of it.
    from airflow.sdk.execution_time.xcom import XCom

    if not _is_stored(value):
        return
    XCom.set(
        key=key,
        value=value,
        dag_id=ti.dag_id,
        task_id=ti.task_id,
        run_id=ti.run_id,
        map_index=-1 if ti.map_index is None else ti.map_index,
    )


def _is_stored(value: Any) -> bool:
    """Tell whether Airflow takes an XCom; for its readers, one that is not there is ``None``, too."""
    return value is not None or AIRFLOW >= _NONE_SINCE
