"""Triggers of the provider."""

from __future__ import annotations

from airflow_provider_mistral_batch.triggers.mistral_batch import MistralBatchJobTrigger

__all__ = ["MistralBatchJobTrigger"]
