"""What editors and type checkers are told of ``@task.mistral_batch``; a test compares it with the operator."""

from collections.abc import Mapping
from typing import Any, Literal

from airflow.sdk import ObjectStoragePath
from airflow.sdk.bases.decorator import TaskDecorator
from airflow.sdk.definitions.decorators import TaskDecoratorCollection

__all__ = ["task"]

class MistralTaskDecoratorCollection(TaskDecoratorCollection):
    def mistral_batch(
        self,
        *,
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
        output_format: Literal["jsonl", "parquet"] = "jsonl",
        if_exists: Literal["fail", "replace"] = "fail",
        delete_files: Literal["never", "on_success"] = "never",
        deferrable: bool = ...,
        timeout: float | None = None,
        poll_interval: float = 60.0,
        poll_interval_min: float = 2.0,
        max_pending_requests: int = 1_000_000,
        force_new: bool = False,
        cancel_on_kill: bool = True,
        cancel_on_timeout: bool = True,
        mistral_conn_id: str = "mistral_default",
        multiple_outputs: bool | None = None,
        **kwargs: Any,
    ) -> TaskDecorator:
        """Make a task of a function that returns or yields requests: it returns the manifest of their results.

        The parameters are those of ``MistralBatchInferenceOperator``, and of every task.

        :param destination: Folder for the results, local or on any object storage. Each run and each mapped task needs
            its own.
        :param endpoint: API endpoint that each request goes to.
        :param model: The model of all requests; by default the connection's ``default_model``.
        :param agent_id: An agent instead of a model.
        :param system: System message before each prompt.
        :param max_tokens: Most tokens of an answer, for requests that do not say it themselves.
        :param response_model: Form of the answers, as a pydantic model class or a JSON schema.
        :param row_retries: Further rounds for requests that failed for a cause that can pass or have no result.
        :param max_failed_ratio: Share of requests that may fail, 0 to 1.
        :param deferrable: Wait in the triggerer instead of on a worker.
        """

task: MistralTaskDecoratorCollection
