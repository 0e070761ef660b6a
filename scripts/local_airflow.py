"""Runs a real Airflow in its own folder: API server, scheduler, Dag processor and triggerer as processes."""

from __future__ import annotations

import base64
import configparser
import contextlib
import json
import os
import secrets
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any

from airflow_rest import AirflowRest
from processes import Program, end_programs

Settings = Mapping[str, Mapping[str, object]]

#: The default processes, with the arguments of ``airflow`` for each.
COMPONENTS: Mapping[str, Sequence[str]] = {
    "api-server": ["api-server"],
    "scheduler": ["scheduler", "--skip-serve-logs"],
    "dag-processor": ["dag-processor"],
    "triggerer": ["triggerer", "--skip-serve-logs"],
}

#: On a busy machine, SQLite's default timeout of 5 seconds for a lock is too short. The API server keeps it, because it
#: waits on its event loop and answers nobody meanwhile: it should fail soon, and its callers try again.
SQLITE_PATIENCE = '''"""Arguments with which Airflow's processes connect to SQLite."""

import sys

CONNECT_ARGS = {"timeout": 5 if "api-server" in sys.argv else 30}
'''


class LocalAirflow:
    """
    A context manager that runs an Airflow, and always ends it with the block.

    The folder is a complete ``AIRFLOW_HOME`` with ``airflow.cfg``, SQLite database and logs. After the block,
    ``AIRFLOW_HOME=<home> airflow ...`` works with it.

    :param home: The folder. If it has files of an earlier run, the same Airflow continues.
    :param dags_folder: Folder with the Dag files.
    :param connections: Connections by id, each as a URI or as a dictionary of fields.
    :param env: Additional environment variables for all processes.
    :param settings: Airflow settings by section and option; they override this class's own.
    :param components: Names and ``airflow`` arguments of the processes to start.
    :param port: Port of the API server on the loopback interface; a free one by default.
    :param path: Path of its address, as behind a proxy that other services share, such as ``/air/flow``.
    """

    def __init__(
        self,
        home: Path,
        dags_folder: Path,
        *,
        connections: Mapping[str, str | Mapping[str, Any]] | None = None,
        env: Mapping[str, str] | None = None,
        settings: Settings | None = None,
        components: Mapping[str, Sequence[str]] = COMPONENTS,
        port: int | None = None,
        path: str = "",
    ) -> None:
        self.home = home.resolve()
        self.logs = self.home / "logs"
        self.processes: dict[str, Program] = {}
        self._components = components
        self._port = port or free_port()
        self.url = f"http://127.0.0.1:{self._port}{path}"
        self.rest = AirflowRest(self.url)
        self._earlier = configparser.RawConfigParser()
        self._earlier.read(self.home / "airflow.cfg")
        self._settings = self._merged_settings(dags_folder.resolve(), settings or {})
        self.env = _environment(self.home, connections or {}, env or {})

    def __enter__(self) -> LocalAirflow:
        try:
            self.prepare()
            for name, arguments in self._components.items():
                self.start(name, *arguments)
            self.wait_until_healthy()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def prepare(self) -> None:
        """Write the folder's ``airflow.cfg`` and migrate its database."""
        self.home.mkdir(parents=True, exist_ok=True)
        config = configparser.RawConfigParser()
        config.read_dict(
            {
                section: {option: str(value).replace("%", "%%") for option, value in options.items()}
                for section, options in self._settings.items()
            }
        )
        with (self.home / "airflow.cfg").open("w") as file:
            config.write(file)
        # Airflow imports modules from this folder.
        (self.home / "config").mkdir(exist_ok=True)
        (self.home / "config" / "sqlite_patience.py").write_text(SQLITE_PATIENCE)
        self._prepare_database()

    def start(self, name: str, *arguments: str, env: Mapping[str, str] | None = None) -> Program:
        """
        Start another process of this Airflow, for example ``start("triggerer-2", "triggerer")``.

        :param name: Key in :attr:`processes` and name of its log file.
        :param arguments: Arguments of the ``airflow`` command.
        :param env: Environment variables for this process only.
        """
        self.processes[name] = Program(
            name,
            [sys.executable, "-m", "airflow", *arguments],
            log_path=self.logs / f"{name}.log",
            env={**self.env, **(env or {})},
            cwd=self.home,
        ).start()
        return self.processes[name]

    def stop(self) -> None:
        """End every process of this Airflow."""
        end_programs(self.processes.values())

    def check(self) -> None:
        """
        Check that every started process is running.

        :raises ProgramEnded: When one is not; shows the end of its log.
        """
        for program in self.processes.values():
            program.check()

    def wait_until_healthy(self, timeout: float = 120) -> None:
        """
        Wait until Airflow reports every component as healthy.

        :param timeout: Most seconds to wait.
        :raises ProgramEnded: When a process ends instead.
        :raises TimeoutError: When it takes longer.
        """
        deadline = time.monotonic() + timeout
        wanted = {"metadatabase", "scheduler", "dag_processor", "triggerer"}
        while not all((health := self.rest.health()).get(name) == "healthy" for name in wanted):
            self.check()
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"Airflow is not healthy after {timeout:.0f} s: {health}; logs: {self.logs}"
                )
            time.sleep(0.1)

    def wait_for_dags(self, *dag_ids: str, timeout: float = 60) -> None:
        """
        Wait until Dags are parsed.

        :param dag_ids: Their ids.
        :param timeout: Most seconds to wait.
        :raises TimeoutError: When it takes longer; names missing Dags and import errors.
        """
        deadline = time.monotonic() + timeout
        while missing := set(dag_ids) - self.rest.dag_ids():
            self.check()
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"Dags {sorted(missing)} are not parsed after {timeout:.0f} s; "
                    f"import errors: {self.rest.import_errors()}"
                )
            time.sleep(0.2)

    def wait_for_run(
        self, dag_id: str, run_id: str, *, watch: Callable[[], object] | None = None, **options: Any
    ) -> str:
        """Do what :meth:`AirflowRest.wait_for_run` does, and fail at once if a process of this Airflow ends."""

        def watch_all() -> None:
            self.check()
            if watch is not None:
                watch()

        return self.rest.wait_for_run(dag_id, run_id, watch=watch_all, **options)

    def cli(self, *arguments: str) -> str:
        """
        Run ``airflow <arguments>`` in this Airflow's environment and return its standard output.

        :raises subprocess.CalledProcessError: When it fails.
        """
        return subprocess.run(
            [sys.executable, "-m", "airflow", *arguments],
            env=self.env,
            cwd=self.home,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout

    def _merged_settings(self, dags_folder: Path, settings: Settings) -> dict[str, dict[str, object]]:
        merged: dict[str, dict[str, object]] = {
            "core": {
                "dags_folder": dags_folder,
                "plugins_folder": self.home / "plugins",
                "executor": "LocalExecutor",
                "parallelism": 8,
                "load_examples": False,
                "dags_are_paused_at_creation": False,
                "simple_auth_manager_all_admins": True,
                "test_connection": "Enabled",
                "fernet_key": self._secret("core", "fernet_key"),
                "execution_api_server_url": f"{self.url}/execution/",
            },
            "api": {
                "base_url": self.url,
                "host": "127.0.0.1",
                "port": self._port,
                "workers": 1,
                "secret_key": self._secret("api", "secret_key"),
            },
            "api_auth": {"jwt_secret": self._secret("api_auth", "jwt_secret")},
            "database": {"sql_alchemy_conn": f"sqlite:///{self.home / 'airflow.db'}"},
            "logging": {
                "base_log_folder": self.logs / "tasks",
                "worker_log_server_port": free_port(),
                "trigger_log_server_port": free_port(),
            },
            # Airflow's defaults save load in big installations; here, a caller waits for one run.
            "scheduler": {
                "scheduler_idle_sleep_time": 0.1,
                "job_heartbeat_sec": 1,
                "scheduler_heartbeat_sec": 1,
                # Runs start only when triggered, never by schedule.
                "use_job_schedule": False,
            },
            "triggerer": {"job_heartbeat_sec": 1},
            "dag_processor": {"refresh_interval": 5, "min_file_process_interval": 30, "parsing_processes": 2},
            "usage_data_collection": {"enabled": False},
        }
        for section, options in settings.items():
            merged.setdefault(section, {}).update(options)
        if str(merged["database"]["sql_alchemy_conn"]).startswith("sqlite:"):
            merged["database"].setdefault("sql_alchemy_connect_args", "sqlite_patience.CONNECT_ARGS")
        return merged

    def _secret(self, section: str, option: str) -> str:
        """Return the secret of an earlier run in this folder, which encrypts its database's passwords, or a new one."""
        new = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
        return self._earlier.get(section, option, fallback=new)

    def _prepare_database(self) -> None:
        """Migrate the database; copy a new SQLite file from a template of the same Airflow version, if there is one."""
        url = str(self._settings["database"]["sql_alchemy_conn"])
        database = Path(url.removeprefix("sqlite:///"))
        template = Path(sys.prefix, "airflow-db", f"{version('apache-airflow-core')}.db")
        fresh = url.startswith("sqlite:///") and not database.exists()
        if fresh and template.exists():
            shutil.copyfile(template, database)
            _let_readers_and_writers_pass(database)
            return
        migration = self.start("db-migrate", "db", "migrate")
        del self.processes["db-migrate"]
        try:
            if migration.wait() != 0:
                raise RuntimeError(f"airflow db migrate failed:\n{migration.tail()}")
        finally:
            migration.stop()
        if fresh:
            with contextlib.suppress(OSError):
                template.parent.mkdir(exist_ok=True)
                partial = template.with_suffix(f".{os.getpid()}")
                shutil.copyfile(database, partial)
                partial.replace(template)
            _let_readers_and_writers_pass(database)


def _let_readers_and_writers_pass(database: Path) -> None:
    """Switch a SQLite file to WAL mode permanently, so that readers do not block writers."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")


def free_port() -> int:
    """Find a TCP port of the loopback interface that no process listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _environment(
    home: Path, connections: Mapping[str, str | Mapping[str, Any]], env: Mapping[str, str]
) -> dict[str, str]:
    # Settings of another Airflow in the caller's environment must not affect this one.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    own = {"AIRFLOW_HOME": str(home), "PATH": path}
    for connection_id, connection in connections.items():
        own[f"AIRFLOW_CONN_{connection_id.upper()}"] = (
            connection if isinstance(connection, str) else json.dumps(connection)
        )
    return {**inherited, **own, **env}
