"""The emulator's processes: how they start and end, what survives kill -9, and rows answered by another server."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import psutil
import pytest
import requests

from airflow_provider_mistral_batch.emulator import Emulator
from airflow_provider_mistral_batch.emulator.state.settings import Settings

MODULE = "airflow_provider_mistral_batch.emulator"
JOBS = "/v1/batch/jobs"
CHAT = "/v1/chat/completions"


def rows(count: int) -> bytes:
    bodies = ({"messages": [{"role": "user", "content": f"What is {n}?"}]} for n in range(count))
    return "\n".join(
        json.dumps({"custom_id": f"row-{n}", "body": body}) for n, body in enumerate(bodies)
    ).encode()


class Api:
    """Plain HTTP with the emulator's key, wherever it listens by now."""

    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator

    def call(self, method: str, path: str, **arguments: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.emulator.api_key}"}
        return requests.request(method, self.emulator.url + path, headers=headers, timeout=30, **arguments)

    def create(self, count: int = 1, **fields: Any) -> str:
        files = {"file": ("rows.jsonl", rows(count))}
        file_id = self.call("POST", "/v1/files", files=files, data={"purpose": "batch"}).json()["id"]
        body = {"input_files": [file_id], "endpoint": CHAT, "model": "some-model", **fields}
        return str(self.call("POST", JOBS, json=body).json()["id"])

    def until(self, job_id: str, condition: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        deadline = time.monotonic() + 60
        while True:
            job: dict[str, Any] = self.call("GET", f"{JOBS}/{job_id}").json()
            if condition(job):
                return job
            assert time.monotonic() < deadline, f"{job}\n{self.emulator.log}"
            time.sleep(0.01)

    def finished(self, job_id: str) -> dict[str, Any]:
        return self.until(job_id, lambda job: job["completed_at"] is not None)

    def results(self, file_id: str) -> list[dict[str, Any]]:
        return [
            json.loads(line) for line in self.call("GET", f"/v1/files/{file_id}/content").text.splitlines()
        ]


def test_importing_it_is_light() -> None:
    heavy = "{'fastapi', 'starlette', 'uvicorn', 'pydantic', 'httpx', 'airflow'} & set(sys.modules)"
    code = f"import sys, {MODULE}; sys.exit(str({heavy}) if {heavy} else 0)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    with Emulator(state_dir=tmp_path, validation_seconds=0.3, job_seconds=1) as emulator:
        api = Api(emulator)
        acknowledged: list[str] = []

        def create_until_killed(_: int) -> None:
            with suppress(requests.RequestException):
                while True:
                    acknowledged.append(api.create(3))

        with ThreadPoolExecutor(4) as pool:
            callers = pool.map(create_until_killed, range(4))
            while len(acknowledged) < 20:
                time.sleep(0.01)
            emulator.kill()
            list(callers)
        url = emulator.url
        emulator.restart()
        assert emulator.url == url
        listed = api.call("GET", JOBS, params={"page_size": 1000}).json()["data"]
        assert set(acknowledged) <= {job["id"] for job in listed}
        assert emulator.control.settings()["job_seconds"] == 1
        for job_id in acknowledged:
            assert api.finished(job_id)["succeeded_requests"] == 3


def _has_more_than(done: int) -> Callable[[dict[str, Any]], bool]:
    return lambda job: job["completed_requests"] > done


def test_a_running_job_goes_on_where_it_was(tmp_path: Path) -> None:
    with Emulator(state_dir=tmp_path, job_seconds=2) as emulator:
        api = Api(emulator)
        job_id = api.create(20_000)
        done = 0
        for _ in range(3):
            done = api.until(job_id, _has_more_than(done))["completed_requests"]
            emulator.restart()
            again = api.call("GET", f"{JOBS}/{job_id}").json()
            assert again["completed_requests"] >= done
        job = api.finished(job_id)
        assert (job["status"], job["total_requests"], job["succeeded_requests"]) == (
            "SUCCESS",
            20_000,
            20_000,
        )
        results = api.results(job["output_file"])
        assert [row["custom_id"] for row in results] == [f"row-{n}" for n in range(20_000)]


# Few rows fit into a buffer; many do not.
@pytest.mark.parametrize("count", [8, 1_000])
def test_what_was_written_and_not_stored_is_written_again(tmp_path: Path, count: int) -> None:
    # As if the engine had been killed between the two: its files have more than the database knows of.
    with Emulator(state_dir=tmp_path, job_seconds=1) as emulator:
        api = Api(emulator)
        emulator.control.plan_jobs(failed_rows=1)
        job_id = api.create(count)
        api.until(job_id, lambda job: job["succeeded_requests"])
        emulator.kill()
        results = [
            path for path in (tmp_path / "blobs").iterdir() if b'"response"' in path.read_bytes()[:1000]
        ]
        assert len(results) == 2
        for path in results:
            with path.open("ab") as file:
                file.write(b'{"custom_id": "half of a r')
        emulator.restart()
        job = api.finished(job_id)
        assert len(api.results(job["output_file"])) == count - 1
        assert len(api.results(job["error_file"])) == 1
        for name in ("output_file", "error_file"):
            url = f"/v1/files/{job[name]}"
            size = len(api.call("GET", f"{url}/content").content)
            assert api.call("GET", url).json()["bytes"] == size


def test_the_engine_is_started_again() -> None:
    with Emulator(job_seconds=1) as emulator:
        api = Api(emulator)
        job_id = api.create(1_000)
        api.until(job_id, lambda job: job["completed_requests"])
        [engine] = psutil.Process(emulator.pid).children()
        engine.kill()
        job = api.finished(job_id)
        assert len(api.results(job["output_file"])) == 1_000


def test_an_input_that_vanished_fails_its_job_alone() -> None:
    with Emulator(validation_seconds=0.3) as emulator:
        api = Api(emulator)
        blobs = emulator.state_dir / "blobs"
        lost = api.create()
        for blob in blobs.iterdir():
            blob.unlink()
        assert "No such file" in api.finished(lost)["errors"][0]["message"]
        assert api.finished(api.create())["status"] == "SUCCESS"


def test_a_million_rows_would_leave_the_server_responsive() -> None:
    with Emulator() as emulator:
        api = Api(emulator)
        job_id = api.create(60_000)
        running = api.until(job_id, lambda job: job["completed_requests"])
        assert running["status"] in ("RUNNING", "SUCCESS")
        assert api.call("GET", JOBS).json()["total"] == 1
        assert api.finished(job_id)["succeeded_requests"] == 60_000
        [engine] = psutil.Process(emulator.pid).children()
        assert engine.memory_info().rss < 200_000_000


def test_it_ends_with_its_block() -> None:
    with Emulator() as emulator:
        process = psutil.Process(emulator.pid)
        family = [process, *process.children()]
        state_dir = emulator.state_dir
    assert not any(one.is_running() for one in family)
    assert not state_dir.exists()


def test_it_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    code = f"""if True:
        import os, sys, tempfile
        tempfile.tempdir = {str(tmp_path)!r}
        from {MODULE} import Emulator
        emulator = Emulator().start()
        print(emulator.pid, flush=True)
        sys.stdin.read()
        """
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    assert parent.stdin is not None
    with parent.stdin, parent.stdout:
        server = psutil.Process(int(parent.stdout.readline()))
        family = [server, *server.children()]
        parent.kill()
        parent.wait()
    _, alive = psutil.wait_procs(family, timeout=30)
    assert not alive
    deadline = time.monotonic() + 30
    while list(tmp_path.iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_it_can_be_stopped_while_it_holds_an_answer() -> None:
    with Emulator() as emulator:
        fault = emulator.control.fault("hold")
        gave_up: list[Exception] = []

        def call() -> None:
            try:
                Api(emulator).create()
            except (requests.RequestException, ValueError) as error:
                gave_up.append(error)

        caller = threading.Thread(target=call)
        caller.start()
        emulator.control.wait_for_fault(fault)
    caller.join(30)
    assert gave_up


def test_a_required_key_is_the_only_one(tmp_path: Path) -> None:
    with Emulator(api_key="the-secret-key", state_dir=tmp_path) as emulator:
        api = Api(emulator)
        assert api.call("GET", JOBS).status_code == 200
        other = {"Authorization": "Bearer other"}
        assert requests.get(emulator.url + JOBS, headers=other, timeout=30).status_code == 401
        emulator.control.add_key("other", same_workspace_as="the-secret-key")
        assert requests.get(emulator.url + JOBS, headers=other, timeout=30).status_code == 200
        assert "the-secret-key" not in " ".join(psutil.Process(emulator.pid).cmdline())
        assert "the-secret-key" not in repr(emulator)
        api.create()
        emulator.restart()
        assert (
            requests.get(emulator.url + JOBS, headers={"Authorization": "Bearer x"}, timeout=30).status_code
            == 401
        )
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or b"the-secret-key" not in path.read_bytes()


def test_two_emulators_do_not_share_a_state_directory(tmp_path: Path) -> None:
    with Emulator(state_dir=tmp_path):
        other = Emulator(state_dir=tmp_path)
        with pytest.raises(RuntimeError, match="another emulator uses the state directory"):
            other.start()


def test_wrong_settings_are_told(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="speed"):
        Emulator(speed=0).start()
    with pytest.raises(RuntimeError, match="unrecognized arguments: --nonsense"):
        Emulator(nonsense=1).start()


@pytest.fixture
def command_line() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts the emulator from the command line."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", MODULE, *arguments]
        process = subprocess.Popen(
            command,
            text=True,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.terminate()
        process.communicate(timeout=30)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_line(command_line: Callable[..., subprocess.Popen[str]], number: int) -> None:
    process = command_line("--job-seconds", "0", "--validation-seconds", "0")
    assert process.stdout is not None
    found = re.fullmatch(
        r"ready url=(http://127\.0\.0\.1:\d+) pid=(\d+) state_dir=(\S+)\n", process.stdout.readline()
    )
    assert found is not None
    url, pid, state_dir = found.groups()
    assert int(pid) == process.pid
    assert requests.get(f"{url}/emulator/health", timeout=30).json() == {"status": "ok"}
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")
    assert not Path(state_dir).exists()


def test_other_machines_are_let_in_with_a_warning(command_line: Callable[..., subprocess.Popen[str]]) -> None:
    process = command_line("--host", "0.0.0.0")
    assert process.stderr is not None
    assert process.stdout is not None
    assert "WARNING: listening on 0.0.0.0" in process.stderr.readline()
    assert "ready url=http://0.0.0.0:" in process.stdout.readline()


def test_a_port_in_use_is_told(command_line: Callable[..., subprocess.Popen[str]]) -> None:
    with Emulator() as emulator:
        process = command_line("--port", emulator.url.rsplit(":", 1)[1])
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "Address already in use" in errors
    assert "Traceback" not in errors


def test_help_names_every_setting(command_line: Callable[..., subprocess.Popen[str]]) -> None:
    text, _ = command_line("--help", COLUMNS="200").communicate(timeout=30)
    for name in Settings.model_fields:
        assert f"--{name.replace('_', '-')} " in text


class Model(BaseHTTPRequestHandler):
    """Stands for a local model's server: echoes prompts, and stumbles over some."""

    seen: ClassVar[list[tuple[str, str | None, str]]] = []
    stumbled: ClassVar[set[str]] = set()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = body["messages"][0]["content"]
        self.seen.append((self.path, self.headers["Authorization"], body["model"]))
        status, answer = 200, {"echo": prompt}
        if prompt == "What is 1?" and prompt not in self.stumbled:
            self.stumbled.add(prompt)
            status, answer = 503, {"error": "overloaded"}
        elif prompt == "What is 2?":
            status, answer = 400, {"error": "too long"}
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def model() -> Iterator[str]:
    """The base URL of a stand-in for a local model's server."""
    Model.seen.clear()
    Model.stumbled.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Model) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_rows_can_be_answered_by_another_server(model: str) -> None:
    options = {"upstream": f"{model}/v1", "upstream_concurrency": 3, "upstream_model": "local"}
    with Emulator(options={**options, "upstream_key": "its-key"}) as emulator:
        api = Api(emulator)
        job = api.finished(api.create(30))
        assert (job["succeeded_requests"], job["failed_requests"]) == (29, 1)
        answers = {row["custom_id"]: row["response"]["body"] for row in api.results(job["output_file"])}
        assert answers == {f"row-{n}": {"echo": f"What is {n}?"} for n in range(30) if n != 2}
        [failed] = api.results(job["error_file"])
        assert failed["response"] == {"status_code": 400, "body": {"error": "too long"}}
        assert set(Model.seen) == {(CHAT, "Bearer its-key", "local")}
        # One was asked twice: it stumbled.
        assert len(Model.seen) == 31
        fim = {
            "requests": [{"body": {"prompt": "def"}}],
            "endpoint": "/v1/fim/completions",
            "model": "m",
        }
        assert api.finished(api.call("POST", JOBS, json=fim).json()["id"])["succeeded_requests"] == 1
        assert "its-key" not in " ".join(psutil.Process(emulator.pid).cmdline()) + emulator.log


def test_an_upstream_that_does_not_answer_fails_the_rows() -> None:
    with Emulator(options={"upstream": "http://127.0.0.1:1"}) as emulator:
        api = Api(emulator)
        job = api.finished(api.create(2))
        assert (job["status"], job["failed_requests"]) == ("SUCCESS", 2)
        assert {row["response"]["status_code"] for row in api.results(job["error_file"])} == {502}
