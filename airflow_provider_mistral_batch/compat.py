"""
What this package takes from Airflow while it is imported, from where each supported version has it.

Names that all versions have in one place may also be imported from there, in functions and for types.
"""

# An Airflow that is too old is named before anything that it lacks.
# ruff: noqa: E402

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from airflow import __version__
from packaging.version import Version

#: The first version that works.
OLDEST = "3.0.6"

_VERSION = Version(Version(__version__).base_version)

if Version(OLDEST) > _VERSION:
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

if TYPE_CHECKING or Version("3.1") <= _VERSION:
    from airflow.sdk import BaseHook
else:
    from airflow.hooks.base import BaseHook

    # `BaseHook.get_connection` itself calls what Airflow 3.0 says is deprecated, and the log of each task would say so.
    warnings.filterwarnings(
        "ignore", "Using Connection.get_connection_from_secrets", category=DeprecationWarning
    )

if TYPE_CHECKING or Version("3.2") <= _VERSION:
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
    "AirflowException",
    "AirflowFailException",
    "AirflowNotFoundException",
    "AirflowSensorTimeout",
    "AirflowSkipException",
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
