"""Operators of the provider; ``operators.mistral_batch`` exports them under the name that Airflow users expect."""

from __future__ import annotations

from airflow_provider_mistral_batch.operators.mistral_batch import *  # noqa: F403
from airflow_provider_mistral_batch.operators.mistral_batch import __all__ as __all__
