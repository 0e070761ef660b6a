"""A real HTTP server with the Batch and Files API, for demos, tests and users' own continuous integration."""

from __future__ import annotations

from airflow_provider_mistral_batch.emulator.process import Emulator

__all__ = ["Emulator"]
