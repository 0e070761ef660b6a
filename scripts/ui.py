"""``make ui``: runs ``airflow standalone`` with the example Dags and a connection to the emulator, until Ctrl-C."""

from __future__ import annotations

import socket
import time
from pathlib import Path

from airflow_provider_mistral_batch.emulator import Emulator
from lively_jobs import make_lively_jobs
from local_airflow import LocalAirflow
from processes import exit_on_sigterm

CHECKOUT = Path(__file__).resolve().parents[1]
HOME = CHECKOUT / ".airflow" / "ui"
#: Airflow's default port, where people expect it; if it is in use, another one.
PORT = 8080
#: Seconds that the emulator takes for a job: enough time to look at the waiting task.
JOB_SECONDS = 30.0


def main() -> None:
    """Start everything, print where to click, and wait for Ctrl-C."""
    exit_on_sigterm()
    print("Starting Airflow and the emulator …", flush=True)
    airflow = LocalAirflow(
        HOME,
        CHECKOUT / "example_dags",
        components={"standalone": ["standalone"]},
        port=PORT if is_free(PORT) else None,
    )
    with Emulator(job_seconds=JOB_SECONDS) as emulator, airflow:
        # In Airflow's database, because the UI does not show connections from the environment. With port 0, because the
        # Test button sends that for an empty port, and Airflow refuses to test a port that is not the stored one.
        airflow.rest.save_connection(
            "mistral_default", conn_type="mistral", host=emulator.url, port=0, password=emulator.api_key
        )
        make_lively_jobs(emulator)
        # For the example of a table.
        airflow.rest.save_connection("warehouse", conn_type="sqlite", host=str(HOME / "warehouse.db"))
        print(
            f"\nAirflow      {airflow.url} (no login: every visitor is admin)"
            f"\nBatches      {airflow.url}/plugin/mistral-batches: jobs of every kind, orphans too"
            f"\nA first run  {airflow.url}/dags/mistral_batch_nightly: click Trigger, and again in the dialog"
            f"\nConnection   {airflow.url}/connections: mistral_default points to the emulator at {emulator.url}"
            f"\nFiles        {HOME.relative_to(CHECKOUT)}: results in mistral_batch/, logs in logs/"
            "\n\nPress Ctrl-C to end everything.",
            flush=True,
        )
        while True:
            airflow.check()
            time.sleep(1)


def is_free(port: int) -> bool:
    """Tell whether no process listens on a port of the loopback interface."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("\nAll processes have ended.")
