"""Exports all operators of the provider; each has its own module."""

from __future__ import annotations

from airflow_provider_mistral_batch.operators.cancel import MistralCancelBatchJobOperator
from airflow_provider_mistral_batch.operators.create import MistralCreateBatchJobOperator
from airflow_provider_mistral_batch.operators.download import MistralDownloadBatchResultsOperator
from airflow_provider_mistral_batch.operators.inference import MistralBatchInferenceOperator
from airflow_provider_mistral_batch.operators.upload import MistralUploadBatchFileOperator

__all__ = [
    "MistralBatchInferenceOperator",
    "MistralCancelBatchJobOperator",
    "MistralCreateBatchJobOperator",
    "MistralDownloadBatchResultsOperator",
    "MistralUploadBatchFileOperator",
]
