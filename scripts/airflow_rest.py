"""Airflow's public REST API, as far as the scripts and tests here use it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any
from urllib.parse import quote

import requests
import tenacity

FINISHED = frozenset({"success", "failed"})

#: Seconds to wait for an answer: longer than the API server waits for its database.
_TIMEOUT = 60

#: The API server writes its audit log on its event loop. If two writes meet in one process, each blocks the other until
#: SQLite's timeout, and one is answered with 500 (seen in 3.3.2). So we send one write at a time.
_one_write_at_a_time = threading.Lock()


def _status_code(error: BaseException) -> int:
    response = getattr(error, "response", None)
    return 0 if response is None else int(response.status_code)


_until_it_is_written = tenacity.Retrying(
    retry=tenacity.retry_if_exception(
        lambda error: isinstance(error, requests.Timeout) or _status_code(error) >= 500
    ),
    wait=tenacity.wait_random(0, 1),
    stop=tenacity.stop_after_attempt(6),
    reraise=True,
)


class AirflowRest:
    """
    A client of one Airflow whose users are all admins.

    :param url: Base URL of its API server.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._session = requests.Session()
        # Ignore a proxy in the environment: both processes are on this machine.
        self._session.trust_env = False

    def call(self, method: str, *path: str, **kwargs: Any) -> Any:
        """
        Call ``/api/v2/<path>`` and return the decoded answer.

        :param path: The path's segments.
        :raises requests.HTTPError: With the answer's body in its message.
        """
        if "Authorization" not in self._session.headers:
            token = self._session.get(f"{self.url}/auth/token", timeout=_TIMEOUT)
            _raise_for_status(token)
            self._session.headers["Authorization"] = f"Bearer {token.json()['access_token']}"
        url = "/".join([self.url, "api", "v2", *(quote(segment, safe="") for segment in path)])
        answer = self._session.request(method, url, timeout=_TIMEOUT, **kwargs)
        _raise_for_status(answer)
        return answer.json() if answer.content else None

    def write(self, method: str, *path: str, json: dict[str, Any]) -> None:
        """
        Make a call that changes something, and repeat it while the database is busy.

        A conflict counts as success: an earlier call whose answer was lost may already have made the change.

        :param path: The path's segments.
        :param json: The body, which contains the id of the new object.
        :raises requests.HTTPError: With the answer's body in its message.
        """
        with _one_write_at_a_time:
            try:
                _until_it_is_written(self.call, method, *path, json=json)
            except requests.HTTPError as error:
                if _status_code(error) != requests.codes.conflict:
                    raise

    def health(self) -> dict[str, str | None]:
        """Return the status of each component, such as ``{"scheduler": "healthy", …}``; empty without an answer."""
        try:
            answer = self._session.get(f"{self.url}/api/v2/monitor/health", timeout=10)
        except (requests.ConnectionError, requests.Timeout):
            return {}
        return {name: part.get("status") for name, part in answer.json().items() if part} if answer.ok else {}

    def save_connection(self, connection_id: str, **fields: Any) -> None:
        """
        Save a connection in Airflow's database, and overwrite any with the same id.

        :param connection_id: The connection's id.
        :param fields: ``conn_type``, ``host``, ``password`` and so on, as the API names them.
        """
        connection = {"connection_id": connection_id, **fields}
        self.write("POST", "connections", json=connection)
        # POST changes nothing if the connection already exists.
        self.write("PATCH", "connections", connection_id, json=connection)

    def dag_ids(self) -> set[str]:
        """Return the ids of the Dags that the Dag processor has parsed."""
        return {dag["dag_id"] for dag in self.call("GET", "dags", params={"limit": 100})["dags"]}

    def import_errors(self) -> dict[str, str]:
        """Return the stack trace by file, for each file that the Dag processor could not import."""
        errors = self.call("GET", "importErrors", params={"limit": 100})["import_errors"]
        return {error["filename"]: error["stack_trace"] for error in errors}

    def trigger(
        self,
        dag_id: str,
        conf: dict[str, Any] | None = None,
        *,
        run_id: str | None = None,
        logical_date: str | None = None,
    ) -> str:
        """
        Start a Dag run and return its run id.

        :param conf: The run's ``conf``.
        :param run_id: The run's id; by default in the form that Airflow itself uses.
        :param logical_date: The run's logical date, in ISO 8601; by default it has none.
        """
        run_id = run_id or f"manual__{datetime.now(timezone.utc).isoformat()}"
        body = {"dag_run_id": run_id, "logical_date": logical_date, "conf": conf or {}}
        self.write("POST", "dags", dag_id, "dagRuns", json=body)
        return run_id

    def dag_runs(self, dag_id: str) -> list[dict[str, Any]]:
        """Return the runs of a Dag, oldest first."""
        answer = self.call("GET", "dags", dag_id, "dagRuns", params={"limit": 100, "order_by": "id"})
        return list(answer["dag_runs"])

    def run_state(self, dag_id: str, run_id: str) -> str:
        """Return the state of a Dag run."""
        return str(self.call("GET", "dags", dag_id, "dagRuns", run_id)["state"])

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return every task instance of a run, mapped ones included, in the API's form."""
        path = ("dags", dag_id, "dagRuns", run_id, "taskInstances")
        found: list[dict[str, Any]] = []
        while True:
            page = self.call("GET", *path, params={"limit": 100, "offset": len(found)})
            found += page["task_instances"]
            if len(found) >= page["total_entries"] or not page["task_instances"]:
                return found

    def task_states(self, dag_id: str, run_id: str) -> dict[str, str | None]:
        """Return the state by task id; a mapped task's instances are ``task_id[map_index]``."""
        return {_label(ti): ti["state"] for ti in self.task_instances(dag_id, run_id)}

    def wait_for_run(
        self,
        dag_id: str,
        run_id: str,
        *,
        timeout: float = 300,
        watch: Callable[[], object] | None = None,
        interval: float = 0.5,
    ) -> str:
        """
        Wait until a Dag run is over and return its state.

        :param timeout: Most seconds to wait.
        :param watch: Called between two looks; an exception from it ends the wait.
        :param interval: Seconds between two looks.
        :raises TimeoutError: When the run is not over in time; names each task's state.
        """
        deadline = time.monotonic() + timeout
        while (state := self.run_state(dag_id, run_id)) not in FINISHED:
            if time.monotonic() > deadline:
                states = self.task_states(dag_id, run_id)
                raise TimeoutError(f"{dag_id} {run_id} is still {state} after {timeout:.0f} s: {states}")
            if watch is not None:
                watch()
            time.sleep(interval)
        return state

    def xcom(
        self, dag_id: str, run_id: str, task_id: str, key: str = "return_value", map_index: int = -1
    ) -> Any:
        """Return the value of an XCom; ``None`` if there is none."""
        try:
            entry = self.call(
                "GET",
                *("dags", dag_id, "dagRuns", run_id, "taskInstances", task_id, "xcomEntries", key),
                params={"map_index": map_index, "stringify": "false"},
            )
        except requests.HTTPError as error:
            if _is_not_found(error):
                return None
            raise
        return entry["value"]

    def log(self, dag_id: str, run_id: str, task_id: str, try_number: int = 1, map_index: int = -1) -> str:
        """Return the log of one try of a task, one line per event; empty if Airflow has no log of that try."""
        try:
            answer = self.call(
                "GET",
                *("dags", dag_id, "dagRuns", run_id, "taskInstances", task_id, "logs", str(try_number)),
                params={"map_index": map_index, "full_content": "true"},
                headers={"Accept": "application/json"},
            )
        except requests.HTTPError as error:
            if _is_not_found(error):
                return ""
            raise
        content: str | list[object] = answer["content"]
        return "\n".join(map(_log_line, [content] if isinstance(content, str) else content))

    def worker_starts(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> int:
        """
        Count how often a worker started a task, resumptions after a deferral included.

        Airflow writes an audit event for each start, except in 3.0.
        """
        events = self.call(
            "GET",
            "eventLogs",
            params={
                "dag_id": dag_id,
                "run_id": run_id,
                "task_id": task_id,
                "map_index": map_index,
                "event": "running",
                "limit": 1,
            },
        )
        return int(events["total_entries"])


def _is_not_found(error: requests.HTTPError) -> bool:
    return error.response is not None and error.response.status_code == 404


def _label(task_instance: dict[str, Any]) -> str:
    task_id, index = task_instance["task_id"], task_instance["map_index"]
    return f"{task_id}[{index}]" if index >= 0 else str(task_id)


def _log_line(event: Any) -> str:
    if not isinstance(event, dict):
        return str(event)
    details = {
        key: value
        for key, value in event.items()
        if key not in {"timestamp", "level", "event", "logger", "filename", "lineno", "loc"}
    }
    line = f"{event.get('timestamp') or ''} {event.get('level') or ''} {event.get('event')}".strip()
    return line + "".join(f" {key}={value}" for key, value in details.items())


def _raise_for_status(answer: requests.Response) -> None:
    if not answer.ok:
        raise requests.HTTPError(
            f"{answer.request.method} {answer.url} was answered with {answer.status_code}: {answer.text[:500]}",
            response=answer,
        )
