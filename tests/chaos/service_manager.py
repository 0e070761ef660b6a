"""Starts processes of an Airflow again when they end, as systemd or Kubernetes do where Airflow is for real."""

from __future__ import annotations

import threading
from collections import Counter
from types import TracebackType

from local_airflow import LocalAirflow

from .evidence import note

#: Seconds between two looks.
_INTERVAL = 0.5


class ServiceManager:
    """
    A context manager that keeps all processes of an Airflow running.

    :param airflow: The Airflow, already running.
    """

    def __init__(self, airflow: LocalAirflow) -> None:
        self.airflow = airflow
        #: Names of the processes that were started again, oldest first.
        self.restarted: list[str] = []
        self._leaving = threading.Event()
        self._working = threading.Lock()
        self._thread = threading.Thread(target=self._keep_running, name="service-manager")

    def __enter__(self) -> ServiceManager:
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leaving.set()
        self._thread.join()

    def stop(self, name: str) -> None:
        """Ask a process to end; it comes back by itself."""
        with self._working:
            self.airflow.processes[name].stop()

    def kill(self, name: str) -> None:
        """Kill -9 a process and all below it; it comes back by itself."""
        with self._working:
            self.airflow.processes[name].kill()

    def lose(self, name: str) -> None:
        """Kill -9 a process and all below it, as with the loss of its machine: it does not come back."""
        with self._working:
            self.airflow.processes.pop(name).kill()

    def note_restarts(self) -> None:
        """Keep a line of what was started again, for the summary."""
        for name, times in Counter(self.restarted).items():
            note(name, "killed, stopped, or without its database", f"started again {times}x")

    def _keep_running(self) -> None:
        while not self._leaving.wait(_INTERVAL):
            with self._working:
                for name, program in list(self.airflow.processes.items()):
                    if not program.running:
                        # Ends first what the process left behind, as a service manager does.
                        program.restart()
                        self.restarted.append(name)
