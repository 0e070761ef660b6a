"""Jobs and files as the API shows them, in Mistral's form and in the OpenAI-compatible dialect's."""

from __future__ import annotations

from typing import Any

import msgspec

from airflow_provider_mistral_batch.emulator.state.plans import JobPlan, read_plan
from airflow_provider_mistral_batch.emulator.state.statuses import openai_status
from airflow_provider_mistral_batch.emulator.state.tables import File, Job


def job_view(job: Job) -> dict[str, Any]:
    """A job in Mistral's form, a ``BatchJob``."""
    view: dict[str, Any] = {
        "id": job.id,
        "object": "batch",
        "input_files": _stored(job.input_files),
        "metadata": _stored(job.metadata or "null"),
        "endpoint": job.endpoint,
        "model": job.model,
        "agent_id": job.agent_id,
        "output_file": job.output_file,
        "error_file": job.error_file,
        "errors": [{"message": error["message"], "count": error["count"]} for error in _errors(job)],
        "outputs": None,
        "status": job.status,
        "created_at": int(job.created),
        "total_requests": job.total,
        "completed_requests": job.done,
        "succeeded_requests": job.succeeded,
        "failed_requests": job.failed,
        "started_at": _seconds(job.started),
        "completed_at": _seconds(job.ended),
    }
    return view if job.plan is None else _as_planned(view, read_plan(job.plan), job)


def batch_view(job: Job) -> dict[str, Any]:
    """A job in the OpenAI-compatible dialect's form, a ``Batch``."""
    errors = _errors(job)
    input_files = job.strings("input_files")
    view: dict[str, Any] = {
        "id": job.id,
        "object": "batch",
        "endpoint": job.endpoint,
        "errors": {"object": "list", "data": [_batch_error(error) for error in errors]} if errors else None,
        "input_file_id": input_files[0] if input_files else "",
        "completion_window": job.completion_window or f"{job.timeout_hours}h",
        "status": openai_status(job.status, finalizing=job.finalizing is not None),
        "output_file_id": job.output_file,
        "error_file_id": job.error_file,
        "created_at": int(job.created),
        "in_progress_at": _seconds(job.started),
        "expires_at": int(job.created) + 3600 * job.timeout_hours,
        "finalizing_at": _seconds(job.finalizing),
        "completed_at": _ended_at(job, "SUCCESS"),
        "failed_at": _ended_at(job, "FAILED"),
        "expired_at": _ended_at(job, "TIMEOUT_EXCEEDED"),
        "cancelling_at": _seconds(job.cancelling),
        "cancelled_at": _ended_at(job, "CANCELLED"),
        "request_counts": {"total": job.total, "completed": job.succeeded, "failed": job.failed},
        "metadata": job.metadata_dict(),
    }
    return view if job.plan is None else _as_planned(view, read_plan(job.plan), job)


def file_view(file: File) -> dict[str, Any]:
    """A file in Mistral's form, a ``FileSchema``; ``status`` is of the OpenAI-compatible dialect."""
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.bytes,
        "created_at": int(file.created),
        "filename": file.filename,
        "purpose": file.purpose,
        "sample_type": file.sample_type,
        "num_lines": file.num_lines,
        "mimetype": file.mimetype,
        "source": file.source,
        "signature": file.signature,
        "expires_at": _seconds(file.expires),
        "visibility": file.visibility,
        "status": "processed",
    }


def _as_planned(view: dict[str, Any], plan: JobPlan, job: Job) -> dict[str, Any]:
    if plan.status is not None and job.active:
        view["status"] = plan.status
    return {**view, **plan.fields}


def _batch_error(error: dict[str, Any]) -> dict[str, Any]:
    return {name: error.get(name) for name in ("code", "message", "param", "line")}


def _errors(job: Job) -> list[dict[str, Any]]:
    return [] if job.errors == "[]" else job.error_list()


def _ended_at(job: Job, status: str) -> int | None:
    return _seconds(job.ended) if job.status == status else None


def _seconds(time: float | None) -> int | None:
    return None if time is None else int(time)


def _stored(text: str) -> msgspec.Raw:
    """JSON as it is stored: a listing of many jobs does not decode it."""
    return msgspec.Raw(text.encode())
