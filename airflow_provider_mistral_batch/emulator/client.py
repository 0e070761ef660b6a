"""A client of the control API, for tests: settings, faults, plans for jobs, keys, and the record."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import requests

_TIMEOUT = 60


class Control:
    """Speaks to ``/emulator`` of a running emulator.

    :param url: the emulator's base URL.
    :param api_key: the key whose workspace is meant where one is.
    """

    def __init__(self, url: str, api_key: str) -> None:
        self.url = url
        self.api_key = api_key
        self._session = requests.Session()
        self._session.trust_env = False

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def settings(self, **changes: Any) -> dict[str, Any]:
        """Change settings, if any are given.

        :returns: all settings.
        """
        answer: dict[str, Any] = (
            self._call("PATCH", "settings", changes) if changes else self._call("GET", "settings")
        )
        return answer

    def fault(self, kind: str, method: str | None = None, path: str = "*", **rule: Any) -> str:
        """Switch a fault on. See docs/emulator.md for the kinds and their fields.

        :returns: the fault's id.
        """
        answer = self._call("POST", "faults", {"kind": kind, "method": method, "path": path, **rule})
        return str(answer["id"])

    def fault_state(self, fault_id: str) -> dict[str, Any]:
        """What a fault has done: ``hits``, ``held``, ``spent``."""
        answer: dict[str, Any] = self._call("GET", f"faults/{fault_id}")
        return answer

    def wait_for_fault(self, fault_id: str, hits: int = 1, timeout: float = 30.0) -> None:
        """Wait until a fault has struck that often; of a ``hold``, until it holds a request.

        :raises TimeoutError: if it did not within ``timeout`` seconds.
        """
        deadline = time.monotonic() + timeout
        while True:
            state = self.fault_state(fault_id)
            if state["hits"] >= hits and (state["rule"]["kind"] != "hold" or state["held"]):
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"{fault_id} did not strike within {timeout} s: {state}")
            time.sleep(0.01)

    def release(self, fault_id: str) -> None:
        """Let go what a ``hold`` holds."""
        self._call("POST", f"faults/{fault_id}/release")

    def remove_fault(self, fault_id: str) -> None:
        """Switch a fault off."""
        self._call("DELETE", f"faults/{fault_id}")

    def clear_faults(self) -> None:
        """Switch all faults and all plans for coming jobs off."""
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
        """Plan something for jobs that are yet to be created. See docs/emulator.md for the fields of a plan.

        :param times: how many of them; ``None``: all.
        :param skip: how many matching jobs go unharmed first.
        """
        rule = {"times": times, "skip": skip, "metadata": metadata or {}, "endpoint": endpoint, "plan": plan}
        self._call("POST", "job-faults", rule)

    def plan_job(self, job_id: str, **plan: Any) -> dict[str, Any]:
        """Change the plan of a job that exists.

        :returns: the job as it looks now.
        """
        answer: dict[str, Any] = self._call("PATCH", f"jobs/{job_id}", plan)
        return answer

    def make_jobs(self, count: int, *, key: str | None = None, **fields: Any) -> list[str]:
        """Make jobs without input out of thin air. See docs/emulator.md for the fields.

        :param key: the key whose workspace gets them; this client's own if not given.
        :returns: their ids.
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
        """End active jobs now, chosen by their ids or by metadata that they have.

        :returns: how many were meant.
        """
        chosen = {"metadata": metadata} if job_ids is None else {"ids": list(job_ids)}
        return int(self._call("POST", "jobs/end", {**chosen, "status": status})["count"])

    def add_key(self, key: str, same_workspace_as: str | None = None) -> None:
        """Let a key in, to the workspace of another one if given."""
        self._call("POST", "keys", {"key": key, "same_workspace_as": same_workspace_as})

    def revoke_key(self, key: str) -> None:
        """Answer 401 to a key from now on."""
        self._call("POST", "keys/revoke", {"key": key})

    def record(self, phantoms: bool = False) -> dict[str, Any]:
        """All ``jobs`` and ``files`` ever, and the numbers of ``requests`` and ``answers``.

        :param phantoms: also jobs that :meth:`make_jobs` made.
        """
        answer: dict[str, Any] = self._call("GET", f"record?phantoms={str(phantoms).lower()}")
        return answer

    def jobs(self) -> list[dict[str, Any]]:
        """All jobs ever created, deleted ones too."""
        jobs: list[dict[str, Any]] = self.record()["jobs"]
        return jobs

    def requests(self) -> dict[str, int]:
        """How often each operation was called since the start or :meth:`reset`."""
        counts: dict[str, int] = self.record()["requests"]
        return counts

    def reset(self) -> None:
        """Count requests anew."""
        self._call("POST", "record/reset")

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        answer = self._session.request(method, f"{self.url}/emulator/{path}", json=body, timeout=_TIMEOUT)
        if not answer.ok:
            raise ValueError(f"{method} /emulator/{path}: {answer.status_code} {answer.text}")
        return answer.json()
