"""
What this package takes from Airflow while it is imported, from where each supported version has it.

Names that all versions have in one place may also be imported from there, in functions and for types.
"""

# An Airflow that is too old is named before anything that it lacks.
# ruff: noqa: E402

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from airflow import __version__
from packaging.version import Version

#: The first version that works.
OLDEST = "3.0.6"

#: The version of this Airflow; ``3.3.0`` for its betas, too.
AIRFLOW = Version(Version(__version__).base_version)

if Version(OLDEST) > AIRFLOW:
    raise ImportError(
        f"airflow-provider-mistral-batch needs Airflow {OLDEST} or newer, and this is {__version__}: upgrade Airflow"
    )

from airflow.sdk import (
    BaseOperator,
    BaseOperatorLink,
    BaseSensorOperator,
    Param,
    PokeReturnValue,
    XComArg,
)
from airflow.sdk.bases.decorator import DecoratedOperator, task_decorator_factory
from airflow.sdk.definitions.param import DagParam
from airflow.sdk.definitions.xcom_arg import PlainXComArg
from airflow.triggers.base import BaseEventTrigger

if TYPE_CHECKING or Version("3.1") <= AIRFLOW:
    from airflow.sdk import BaseHook
else:
    from airflow.hooks import base
    from airflow.sdk import Connection
    from airflow.sdk.execution_time.secrets_masker import mask_secret

    class BaseHook(base.BaseHook):
        """Airflow 3.0's, but in a task it asks as later versions do: its own way warns that it is deprecated."""

        @classmethod
        def get_connection(cls, conn_id: str) -> Connection:
            """Read a connection, and mask its secrets."""
            runner = sys.modules.get("airflow.sdk.execution_time.task_runner")
            if not hasattr(runner, "SUPERVISOR_COMMS"):
                return super().get_connection(conn_id)
            connection = Connection.get(conn_id)
            for secret in filter(None, (connection.password, connection.extra)):
                mask_secret(secret)
            return connection


if TYPE_CHECKING or Version("3.2") <= AIRFLOW:
    from airflow.sdk.bases.decorator import determine_kwargs
    from airflow.sdk.configuration import conf
    from airflow.sdk.exceptions import (
        AirflowException,
        AirflowFailException,
        AirflowNotFoundException,
        AirflowSensorTimeout,
        AirflowSkipException,
    )
else:
    from airflow.configuration import conf
    from airflow.exceptions import (
        AirflowException,
        AirflowFailException,
        AirflowNotFoundException,
        AirflowSensorTimeout,
        AirflowSkipException,
    )
    from airflow.utils.operator_helpers import determine_kwargs

__all__ = [
    "AIRFLOW",
    "AirflowException",
    "AirflowFailException",
    "AirflowNotFoundException",
    "AirflowSensorTimeout",
    "AirflowSkipException",
    "BaseEventTrigger",
    "BaseHook",
    "BaseOperator",
    "BaseOperatorLink",
    "BaseSensorOperator",
    "DagParam",
    "DecoratedOperator",
    "Param",
    "PlainXComArg",
    "PokeReturnValue",
    "XComArg",
    "conf",
    "determine_kwargs",
    "task_decorator_factory",
]
