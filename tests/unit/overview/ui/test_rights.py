"""Whose jobs a user may see."""

from __future__ import annotations

import pytest

from airflow_provider_mistral_batch.overview.jobs import JobView
from airflow_provider_mistral_batch.overview.ui.rights import Rights

RIGHTS = Rights(
    dags=frozenset({"mine"}),
    existing_dags=frozenset({"mine", "theirs"}),
    connections=frozenset({"readable"}),
    deployments={"readable": "here", "other": "here"},
)


@pytest.mark.parametrize(
    ("dag_id", "deployment", "connection", "is_allowed"),
    [
        ("mine", "here", "other", True),
        ("theirs", "here", "other", False),
        ("theirs", "here", "readable", False),
        # A Dag of the same name in another Airflow.
        ("mine", "there", "other", False),
        ("mine", "there", "readable", True),
        ("gone", "here", "other", False),
        ("gone", "here", "readable", True),
        (None, "", "other", False),
        (None, "", "readable", True),
    ],
)
def test_allow(dag_id: str | None, deployment: str, connection: str, is_allowed: bool) -> None:
    job = JobView(
        id="1",
        connections=(connection,),
        status="in_progress",
        raw_status="RUNNING",
        is_over=False,
        endpoint="/v1/chat/completions",
        dag_id=dag_id,
        deployment=deployment,
    )
    assert RIGHTS.allow(job) is is_allowed
