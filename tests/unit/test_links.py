"""The link to Mistral's console."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import XCom

from airflow_provider_mistral_batch.links.mistral_batch import CONSOLE_URL, MistralBatchJobLink


@pytest.mark.parametrize(
    ("xcom", "argument", "link"),
    [
        ("job-1", None, f"{CONSOLE_URL}/job-1"),
        ("job-1", "job-2", f"{CONSOLE_URL}/job-1"),
        # A deferred sensor has pushed nothing yet, and knows what it waits for.
        (None, "job-2", f"{CONSOLE_URL}/job-2"),
        (None, None, CONSOLE_URL),
        ("../../evil?x#y", None, f"{CONSOLE_URL}/..%2F..%2Fevil%3Fx%23y"),
        (["job-1"], None, CONSOLE_URL),
    ],
)
def test_link(xcom: Any, argument: Any, link: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Stands for Airflow's database.
    monkeypatch.setattr(XCom, "get_value", lambda *, key, ti_key: xcom if key == "batch_id" else None)
    operator = SimpleNamespace() if argument is None else SimpleNamespace(batch_id=argument)
    assert MistralBatchJobLink().get_link(operator, ti_key=SimpleNamespace()) == link  # type: ignore[arg-type]
