"""The types of ``@task.mistral_batch``, for editors and type checkers; a test compares them with the operator."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal

from airflow.sdk import ObjectStoragePath
from airflow.sdk.bases.decorator import TaskDecorator
from airflow.sdk.definitions.decorators import TaskDecoratorCollection

from airflow_provider_mistral_batch.tables import AnswerColumns, SqlTable

__all__ = ["task"]

class MistralTaskDecoratorCollection(TaskDecoratorCollection):
    def mistral_batch(
        self,
        *,
        key: str | Sequence[str] | None = None,
        prompt: str | None = None,
        prompt_file: str | ObjectStoragePath | None = None,
        messages: Sequence[Mapping[str, Any]] | None = None,
        keep: Sequence[str] = (),
        on_null: Literal["fail", "skip", "empty"] = "fail",
        columns: AnswerColumns | None = None,
        target: SqlTable | None = None,
        destination: str | ObjectStoragePath,
        endpoint: str = "/v1/chat/completions",
        model: str | None = None,
        agent_id: str | None = None,
        system: str | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        response_format: Mapping[str, Any] | None = None,
        parameters: Mapping[str, Any] | None = None,
        response_model: type | Mapping[str, Any] | None = None,
        reask_invalid: bool = False,
        completion_window: str | None = None,
        timeout_hours: int | None = None,
        metadata: Mapping[str, str] | None = None,
        row_retries: int = 1,
        max_failed_ratio: float = 1.0,
        max_cost_usd: float | None = None,
        prices: Mapping[str, Mapping[str, float]] | None = None,
        output_format: Literal["jsonl", "parquet"] | None = None,
        if_exists: Literal["fail", "replace"] = "fail",
        delete_files: Literal["never", "on_success"] = "never",
        deferrable: bool = ...,
        timeout: float | timedelta | None = None,
        poll_interval: float | timedelta = 60.0,
        poll_interval_min: float | timedelta = 2.0,
        max_pending_requests: int = 1_000_000,
        max_job_requests: int = 1_000_000,
        force_new: bool = False,
        cancel_on_kill: bool = True,
        cancel_on_timeout: bool = True,
        mistral_conn_id: str = "mistral_default",
        multiple_outputs: bool | None = None,
        **kwargs: Any,
    ) -> TaskDecorator:
        """Turn a function that returns or yields requests into a task that returns the manifest of their results.

        It takes the parameters of ``MistralBatchInferenceOperator`` and of every task.

        :param key: The column, or columns, that tell the rows of a table apart.
        :param prompt: The prompt of each row of the table that the function returns, with columns in braces.
        :param destination: Folder for the results, local or on any object storage. Each run and each mapped task needs
            its own.
        :param endpoint: API endpoint that each request goes to.
        :param model: The model for all requests; by default the connection's ``default_model``.
        :param agent_id: An agent to use instead of a model.
        :param system: System message before each prompt, and in requests that have none.
        :param max_tokens: Most tokens in an answer, for requests that do not set it.
        :param response_model: A pydantic model class or a JSON schema that each answer must match.
        :param row_retries: Most further rounds for requests without a result or with an error that may pass.
        :param max_failed_ratio: Share of requests that may fail, 0 to 1.
        :param deferrable: Wait in the triggerer instead of on a worker.
        """

task: MistralTaskDecoratorCollection
