"""What tests take from Airflow, from where each supported version has it; marks for what only newer ones have."""

from __future__ import annotations

from typing import TYPE_CHECKING

import airflow
import pytest
from packaging.version import Version

#: The version of Airflow; ``3.3.0`` for each beta of it.
AIRFLOW = Version(Version(airflow.__version__).base_version)

if TYPE_CHECKING or Version("3.2") <= AIRFLOW:
    from airflow.sdk._shared.secrets_masker import redact
    from airflow.sdk.exceptions import AirflowRescheduleException, TaskDeferralError, TaskDeferred
    from airflow.serialization.serialized_objects import DagSerialization
else:
    from airflow.exceptions import AirflowRescheduleException, TaskDeferralError, TaskDeferred
    from airflow.sdk.execution_time.secrets_masker import redact
    from airflow.serialization.serialized_objects import SerializedDAG as DagSerialization

__all__ = [
    "AIRFLOW",
    "RETRY_POLICIES",
    "START_FROM_TRIGGER",
    "AirflowRescheduleException",
    "DagSerialization",
    "TaskDeferralError",
    "TaskDeferred",
    "redact",
    "since",
]


def since(version: str, reason: str) -> pytest.MarkDecorator:
    """Mark a test, or one of its cases, for what Airflow has since a version; older ones skip it."""
    return pytest.mark.skipif(Version(version) > AIRFLOW, reason=f"since Airflow {version}: {reason}")


START_FROM_TRIGGER = since("3.3", "a sensor's wait can start in the triggerer")
RETRY_POLICIES = since("3.3", "tasks have retry policies")
