"""The errors of the hook's calls and of storages, to catch by name; ``MistralBatchError`` is the root of all."""

from __future__ import annotations

from airflow_provider_mistral_batch.api.errors import (
    AuthenticationError,
    BadRequestError,
    InvalidInputError,
    MistralAPIError,
    MistralBatchError,
    MistralCallError,
    MistralConnectionError,
    MistralResponseError,
    NotFoundError,
    PaymentRequiredError,
    PermissionDeniedError,
    RateLimitError,
    RequestTooLargeError,
    ServerError,
    StorageError,
)

__all__ = [
    "AuthenticationError",
    "BadRequestError",
    "InvalidInputError",
    "MistralAPIError",
    "MistralBatchError",
    "MistralCallError",
    "MistralConnectionError",
    "MistralResponseError",
    "NotFoundError",
    "PaymentRequiredError",
    "PermissionDeniedError",
    "RateLimitError",
    "RequestTooLargeError",
    "ServerError",
    "StorageError",
]
