"""Hooks of the provider."""

from __future__ import annotations

from airflow_provider_mistral_batch.hooks.mistral_batch import MistralBatchHook

__all__ = ["MistralBatchHook"]
