"""What OpenLineage and StatsD get from a real Airflow, by a file and a socket, of tasks that wait in the triggerer."""

from __future__ import annotations

import json
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from airflow_provider_mistral_batch.emulator import Emulator
from local_airflow import LocalAirflow

DAG_FILE = Path(__file__).parent / "observed_dag.py"
DAG_ID = "observed"


class Ran(NamedTuple):
    """A run of the Dag: its events by task and type, and where its files are."""

    events: dict[tuple[str, str], list[dict[str, Any]]]
    folder: Path
    batch_ids: dict[str, list[str]]
    metrics: list[str]

    def last(self, task_id: str, event_type: str) -> dict[str, Any]:
        return self.events[task_id, event_type][-1]


class UdpLines:
    """A StatsD server that keeps the lines that it gets."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._receive)

    def _receive(self) -> None:
        while (packet := self._socket.recv(65_536)) != b"end":
            self.lines += packet.decode().splitlines()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._socket.sendto(b"end", ("127.0.0.1", self.port))
        self._thread.join()
        self._socket.close()


@contextmanager
def udp_lines() -> Iterator[UdpLines]:
    server = UdpLines()
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    folder = tmp_path_factory.mktemp("lineage")
    (folder / "rows").mkdir()
    (folder / "rows" / "a.csv").write_text("id,text\n1,one\n2,two\n")
    (folder / "others").mkdir()
    (folder / "others" / "b.csv").write_text("id,text\n3,three\n")
    dags = tmp_path_factory.mktemp("dags")
    shutil.copy(DAG_FILE, dags)
    log = folder / "events.json"
    transport = {"type": "file", "log_file_path": str(log), "append": True}
    with (
        udp_lines() as metrics,
        Emulator(validation_seconds=0.2, job_seconds=4) as emulator,
        LocalAirflow(
            tmp_path_factory.mktemp("airflow"),
            dags,
            connections={
                "mistral_default": {
                    "conn_type": "mistral",
                    "host": emulator.url,
                    "password": emulator.api_key,
                },
                "warehouse": {"conn_type": "sqlite", "host": str(folder / "warehouse.db")},
            },
            env={"LINEAGE_FOLDER": str(folder)},
            settings={
                "openlineage": {"transport": json.dumps(transport)},
                "metrics": {
                    "statsd_on": True,
                    "statsd_host": "127.0.0.1",
                    "statsd_port": metrics.port,
                    "statsd_influxdb_enabled": True,
                },
            },
        ) as airflow,
    ):
        airflow.wait_for_dags(DAG_ID)
        run_id = airflow.rest.trigger(DAG_ID)
        state = airflow.wait_for_run(DAG_ID, run_id, timeout=110)
        assert state == "success", airflow.rest.task_states(DAG_ID, run_id)
        batch_ids = {
            task_id: airflow.rest.xcom(DAG_ID, run_id, task_id)["batch_ids"]
            for task_id in ("batch", "from_function")
        }
        batch_ids["sensor"] = [airflow.rest.xcom(DAG_ID, run_id, "job")]
    events: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for line in log.read_text().splitlines():
        event = json.loads(line)
        events.setdefault((event["job"]["name"].removeprefix(f"{DAG_ID}."), event["eventType"]), []).append(
            event
        )
    return Ran(events, folder, batch_ids, metrics.lines)


def names(datasets: list[dict[str, Any]]) -> set[tuple[str, str]]:
    return {(one["namespace"], one["name"]) for one in datasets}


@pytest.mark.timeout(240)
@pytest.mark.parametrize("task_id", ["batch", "from_function", "sensor"])
def test_a_task_that_waits_in_the_triggerer_starts_and_completes(ran: Ran, task_id: str) -> None:
    # Once for each worker.
    assert len(ran.events[task_id, "START"]) == 2
    assert len(ran.events[task_id, "COMPLETE"]) == 1
    facets = ran.last(task_id, "COMPLETE")["run"]["facets"]
    assert facets["externalQuery"]["externalQueryId"] == ",".join(ran.batch_ids[task_id])
    assert facets["externalQuery"]["source"] == "mistral"
    assert facets["mistral_batch"]["model"] == "mistral-small-latest"
    assert facets["mistral_batch"]["endpoint"] == "/v1/chat/completions"


def test_a_batch_names_its_rows_and_answers_and_no_internal_file(ran: Ran) -> None:
    rows = {("file", f"{ran.folder}/rows")}
    for event in (*ran.events["batch", "START"], ran.last("batch", "COMPLETE")):
        assert names(event["inputs"]) == rows
    complete = ran.last("batch", "COMPLETE")
    assert names(complete["outputs"]) == {
        ("file", f"{ran.folder}/answers/results.parquet"),
        ("file", f"{ran.folder}/answers/errors.parquet"),
        # The user's own outlet stays.
        ("file", "/of/the/user"),
    }
    counts = {one["name"]: one.get("outputFacets", {}).get("outputStatistics") for one in complete["outputs"]}
    assert counts[f"{ran.folder}/answers/results.parquet"]["rowCount"] == 2
    assert counts[f"{ran.folder}/answers/errors.parquet"]["rowCount"] == 0
    about = complete["run"]["facets"]["mistral_batch"]
    assert about["counts"]["succeeded"] == 2
    assert about["rounds"] == 1
    assert about["tokens"]["prompt_tokens"] > 0
    assert about["batch_ids"] == ran.batch_ids["batch"]


def test_what_a_function_read_on_another_worker_is_named_at_the_end(ran: Ran) -> None:
    assert names(ran.last("from_function", "COMPLETE")["inputs"]) == {("file", f"{ran.folder}/others/b.csv")}


@pytest.mark.parametrize(
    ("metric", "at_least"),
    [
        ("mistral_batch.jobs.submitted,model=mistral-small-latest,endpoint=/v1/chat/completions", 3),
        (
            "mistral_batch.jobs.ended,model=mistral-small-latest,endpoint=/v1/chat/completions,status=completed",
            3,
        ),
        ("mistral_batch.rows,model=mistral-small-latest,endpoint=/v1/chat/completions,outcome=succeeded", 3),
        ("mistral_batch.tokens,model=mistral-small-latest,endpoint=/v1/chat/completions,kind=completion", 3),
        ("mistral_batch.api.calls,method=POST,status=200", 3),
        # By the triggerer.
        ("mistral_batch.triggerer.looks,conn_id=mistral_default", 1),
    ],
)
def test_statsd_gets_the_counters(ran: Ran, metric: str, at_least: int) -> None:
    counted = [line.removeprefix("airflow.") for line in ran.metrics]
    found = [line for line in counted if line.partition(":")[0] == metric]
    assert sum(int(line.partition(":")[2].partition("|")[0]) for line in found) >= at_least, sorted(
        line for line in counted if line.startswith("mistral_batch")
    )


def test_statsd_gets_durations_and_gauges(ran: Ran) -> None:
    lines = [line.removeprefix("airflow.") for line in ran.metrics]
    assert any(line.startswith("mistral_batch.jobs.duration,") and line.endswith("|ms") for line in lines)
    assert any(
        line.startswith("mistral_batch.triggerer.watched_jobs,") and line.endswith("|g") for line in lines
    )
