"""A client of the control API, for tests."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import requests

from airflow_provider_mistral_batch.emulator.http.web_pages import CONTROL_HEADER

_TIMEOUT = 60


class Control:
    """
    Calls the control API of a running emulator.

    :param url: The emulator's base URL.
    :param api_key: The key in whose workspace :meth:`make_jobs` makes jobs.
    """

    def __init__(self, url: str, api_key: str) -> None:
        self.url = url
        self.api_key = api_key
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers[CONTROL_HEADER] = "1"

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def settings(self, **changes: Any) -> dict[str, Any]:
        """
        Change some settings.

        :param changes: New values by name; none to change nothing.
        :return: All settings.
        """
        answer: dict[str, Any] = (
            self._call("PATCH", "settings", changes) if changes else self._call("GET", "settings")
        )
        return answer

    def fault(self, kind: str, method: str | None = None, path: str = "*", **rule: Any) -> str:
        """
        Switch a fault on. See docs/emulator.md for the kinds and their fields.

        :param kind: What goes wrong.
        :param method: HTTP method of the requests that it hits; any if not given.
        :param path: Path of these requests; ``*`` stands for anything.
        :param rule: Further fields.
        :return: The fault's id.
        """
        answer = self._call("POST", "faults", {"kind": kind, "method": method, "path": path, **rule})
        return str(answer["id"])

    def fault_state(self, fault_id: str) -> dict[str, Any]:
        """What a fault has done: ``hits``, ``held`` (requests that it holds now) and ``spent``."""
        answer: dict[str, Any] = self._call("GET", f"faults/{fault_id}")
        return answer

    def wait_for_fault(self, fault_id: str, hits: int = 1, timeout: float = 30.0) -> None:
        """
        Wait until a fault has hit requests, and, if it is a ``hold``, holds one.

        :param fault_id: The fault's id.
        :param hits: How many requests.
        :param timeout: Seconds to wait at most.
        :raises TimeoutError: If that did not happen in time.
        """
        deadline = time.monotonic() + timeout
        while True:
            state = self.fault_state(fault_id)
            if state["hits"] >= hits and (state["rule"]["kind"] != "hold" or state["held"]):
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"{fault_id} did not hit {hits} requests within {timeout} s: {state}")
            time.sleep(0.01)

    def release(self, fault_id: str) -> None:
        """Release the requests that a ``hold`` holds; it holds none from now on."""
        self._call("POST", f"faults/{fault_id}/release")

    def remove_fault(self, fault_id: str) -> None:
        """Switch a fault off."""
        self._call("DELETE", f"faults/{fault_id}")

    def clear_faults(self) -> None:
        """Switch all faults off, and all plans for new jobs."""
        self._call("DELETE", "faults")

    def plan_jobs(
        self,
        *,
        times: int | None = 1,
        skip: int = 0,
        metadata: dict[str, str] | None = None,
        endpoint: str | None = None,
        **plan: Any,
    ) -> None:
        """
        Plan what becomes of new jobs. See docs/emulator.md for the fields of a plan.

        :param times: How many jobs get the plan; all if ``None``.
        :param skip: How many matching jobs get no plan first.
        :param metadata: Metadata that the jobs must have, at least.
        :param endpoint: Endpoint of the jobs; any if not given.
        :param plan: The fields of the plan.
        """
        rule = {"times": times, "skip": skip, "metadata": metadata or {}, "endpoint": endpoint, "plan": plan}
        self._call("POST", "job-faults", rule)

    def plan_job(self, job_id: str, **plan: Any) -> dict[str, Any]:
        """
        Change the plan of a job that exists.

        :param job_id: The job's id.
        :param plan: The fields of the plan that change.
        :return: The job as the API shows it then.
        """
        answer: dict[str, Any] = self._call("PATCH", f"jobs/{job_id}", plan)
        return answer

    def make_jobs(self, count: int, *, key: str | None = None, **fields: Any) -> list[str]:
        """
        Make phantom jobs, which have no input. See docs/emulator.md for the fields.

        :param count: How many.
        :param key: The key whose workspace gets them; this client's own if not given.
        :param fields: How they look, and when they end.
        :return: Their ids.
        """
        answer = self._call("POST", "jobs", {"count": count, "key": key or self.api_key, **fields})
        ids: list[str] = answer["ids"]
        return ids

    def end_jobs(
        self,
        job_ids: Sequence[str] | None = None,
        *,
        metadata: dict[str, str] | None = None,
        status: str = "SUCCESS",
    ) -> int:
        """
        End active jobs now.

        :param job_ids: Ids of the jobs.
        :param metadata: Metadata that the jobs have, instead of ids.
        :param status: The status in which they end.
        :return: How many jobs were asked to end.
        """
        chosen = {"metadata": metadata} if job_ids is None else {"ids": list(job_ids)}
        return int(self._call("POST", "jobs/end", {**chosen, "status": status})["count"])

    def add_key(self, key: str, same_workspace_as: str | None = None) -> None:
        """
        Make a key valid.

        :param key: The key.
        :param same_workspace_as: Another key, whose workspace it gets; one of its own if not given.
        """
        self._call("POST", "keys", {"key": key, "same_workspace_as": same_workspace_as})

    def revoke_key(self, key: str) -> None:
        """Make a key invalid: it is answered 401 from now on."""
        self._call("POST", "keys/revoke", {"key": key})

    def record(self, phantoms: bool = False) -> dict[str, Any]:
        """
        All ``jobs`` and ``files`` that ever were, and how often each operation was called and answered.

        :param phantoms: Whether jobs that :meth:`make_jobs` made are among the jobs.
        """
        answer: dict[str, Any] = self._call("GET", f"record?phantoms={str(phantoms).lower()}")
        return answer

    def jobs(self) -> list[dict[str, Any]]:
        """All jobs that ever were, deleted ones too."""
        jobs: list[dict[str, Any]] = self.record()["jobs"]
        return jobs

    def requests(self) -> dict[str, int]:
        """How often each operation was called since the start or the last :meth:`reset`."""
        counts: dict[str, int] = self.record()["requests"]
        return counts

    def reset(self) -> None:
        """Set the counters to 0."""
        self._call("POST", "record/reset")

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        answer = self._session.request(method, f"{self.url}/emulator/{path}", json=body, timeout=_TIMEOUT)
        if not answer.ok:
            raise ValueError(f"{method} /emulator/{path}: {answer.status_code} {answer.text}")
        return answer.json()
