"""All operators of the provider under one name; each has a module of its own."""

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
