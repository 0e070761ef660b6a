"""After everything that happened here: no API key is in anything that Airflow logged, stored or shows."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from .evidence import note
from .service_manager import ServiceManager
from .trials import JOBS_PATH, PATIENCE, Trial


@pytest.fixture
def failed(new_trial: Callable[..., Trial]) -> Trial:
    """A run that failed with the key in the API's own words."""
    trial = new_trial("key_in_an_error", "chaos_deadline")
    trial.fault(
        "status", "POST", JOBS_PATH, status=403, message=f"Sorry: {trial.key} may not do this", times=None
    )
    trial.start()
    assert trial.rest.wait_for_run(trial.dag_id, trial.run_id, timeout=PATIENCE, interval=2) == "failed"
    return trial


def test_no_key_is_anywhere(failed: Trial, service_manager: ServiceManager, trials: list[Trial]) -> None:
    log = failed.rest.log(failed.dag_id, failed.run_id, "submit")
    assert "Sorry: *** may not do this" in log

    shown = {
        f"{trial.name} {ti['task_id']}": json.dumps(ti)
        for trial in trials
        for ti in trial.rest.task_instances(trial.dag_id, trial.run_id)
    }
    assert failed.name in str(shown[f"{failed.name} submit"]), "rendered fields are shown"
    home = service_manager.airflow.home
    stored = {str(path.relative_to(home)): path.read_bytes() for path in home.rglob("*") if path.is_file()}
    assert any(name.startswith("airflow.db") for name in stored)
    keys = [trial.key for trial in trials]
    found = [
        (key, place)
        for places in (shown, stored)
        for place, content in places.items()
        for key in keys
        if key.encode() in (content.encode() if isinstance(content, str) else content)
    ]
    assert found == []
    megabytes = sum(map(len, stored.values())) / 1e6
    note(
        "secrets",
        f"{len(keys)} API keys, one of them in the words of an API's error",
        f"none in {len(stored)} logs, databases and settings of Airflow ({megabytes:.0f} MB), none in what it shows",
    )
