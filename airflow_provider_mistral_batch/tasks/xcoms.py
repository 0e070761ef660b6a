"""The XComs of our tasks. All of them are written here, from a worker or from a trigger."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from airflow_provider_mistral_batch.api.models import BatchJobOut

log = logging.getLogger(__name__)

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
        with _none_left_out(key, value):
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

    with _none_left_out(key, value):
        XCom.set(
            key=key,
            value=value,
            dag_id=ti.dag_id,
            task_id=ti.task_id,
            run_id=ti.run_id,
            map_index=-1 if ti.map_index is None else ti.map_index,
        )


@contextmanager
def _none_left_out(key: str, value: Any) -> Iterator[None]:
    """Ignore the error if the value is ``None``, which the API server refuses before Airflow 3.3."""
    try:
        yield
    except Exception as error:
        if value is not None:
            raise
        log.debug("Did not write XCom %r, whose value is None: %s", key, error)
