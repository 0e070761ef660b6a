"""``task``, as Airflow has it; imported from here, editors and type checkers know its ``mistral_batch``, too."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import task

__all__ = ["task"]
