"""Sensors of the provider."""

from __future__ import annotations

from airflow_provider_mistral_batch.sensors.mistral_batch import MistralBatchJobSensor

__all__ = ["MistralBatchJobSensor"]
