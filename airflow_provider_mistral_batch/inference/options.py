"""The options of a batch, checked together before anything is read or sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from airflow_provider_mistral_batch.api import limits
from airflow_provider_mistral_batch.api.body_fields import check_body_fields
from airflow_provider_mistral_batch.api.checks import (
    check_choice,
    check_no_table,
    check_positive,
    check_ratio,
    check_whole,
    chosen_window,
    completion_window_hours,
)
from airflow_provider_mistral_batch.api.endpoints import ENDPOINTS
from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.api.models import BatchJobIn
from airflow_provider_mistral_batch.inference.prices import check_prices
from airflow_provider_mistral_batch.inference.structured_output import StructuredOutput
from airflow_provider_mistral_batch.policies.cadence import Cadence
from airflow_provider_mistral_batch.policies.deadline import seconds_allowed
from airflow_provider_mistral_batch.policies.ownership import merged_metadata
from airflow_provider_mistral_batch.tasks.destination import IF_EXISTS, OUTPUT_FORMATS

if TYPE_CHECKING:
    from airflow_provider_mistral_batch.jsonl.requests.template import RowTemplate
    from airflow_provider_mistral_batch.tables.answers import AnswerColumns
    from airflow_provider_mistral_batch.tables.requests import TableQuestion
    from airflow_provider_mistral_batch.tables.shapes import Shape

DELETE_FILES = ("never", "on_success")


@dataclass(frozen=True, kw_only=True)
class BatchOptions:
    """
    The options of a batch. Each has the name of a parameter of ``MistralBatchInferenceOperator``, which describes it.

    :raises InvalidInputError: When an option is wrong, or two options contradict each other.
    """

    destination: Any
    endpoint: str
    model: str | None
    agent_id: str | None
    system: str | None
    max_tokens: int | None
    temperature: float | None
    response_format: Mapping[str, Any] | None
    parameters: Mapping[str, Any] | None
    response_model: type | Mapping[str, Any] | None
    reask_invalid: bool
    completion_window: str | None
    timeout_hours: int | None
    metadata: Mapping[str, str] | None
    row_retries: int
    max_failed_ratio: float
    max_cost_usd: float | None
    prices: Mapping[str, Mapping[str, float]] | None
    output_format: str | None
    key: str | Sequence[str] | None
    prompt: str | None
    prompt_file: Any
    messages: Sequence[Mapping[str, Any]] | None
    keep: Sequence[str]
    on_null: str
    source: Any
    columns: AnswerColumns | None
    target: Any
    if_exists: str
    delete_files: str
    deferrable: bool
    timeout: float | None
    poll_interval: float
    poll_interval_min: float
    max_pending_requests: int
    max_job_requests: int
    cancel_on_kill: bool
    cancel_on_timeout: bool
    mistral_conn_id: str

    def __post_init__(self) -> None:
        if self.output_format is not None:
            check_choice("output_format", self.output_format, OUTPUT_FORMATS)
        check_choice("if_exists", self.if_exists, IF_EXISTS)
        check_choice("delete_files", self.delete_files, DELETE_FILES)
        check_whole("row_retries", self.row_retries, at_least=0, unit="rounds")
        check_ratio("max_failed_ratio", self.max_failed_ratio)
        check_positive("max_cost_usd", self.max_cost_usd, unit="US dollars", or_none=True)
        check_prices(self.prices)
        check_positive("timeout", self.timeout, or_none=True)
        check_positive("max_pending_requests", self.max_pending_requests, unit="requests")
        check_whole("max_job_requests", self.max_job_requests, at_least=1, unit="requests")
        _ = self.cadence
        # Checks the fields of the job's create call, except for its files, which do not exist yet.
        self.job(["not-yet-uploaded"], self.model)
        merged_metadata({}, self.metadata)
        body = {
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "response_format": self.response_format,
        }
        check_body_fields(body)
        if self.parameters is not None:
            check_body_fields(self.parameters, within="parameters")
        if self.landed_format == "parquet" and find_spec("pyarrow") is None:
            raise InvalidInputError(
                f"{'a table' if self.is_table else 'output_format=parquet'} needs pyarrow: install "
                "airflow-provider-mistral-batch[parquet]"
            )
        self._check_table()
        if self.reask_invalid and self.response_model is None:
            raise InvalidInputError(
                "reask_invalid needs response_model, which says which answers are invalid: pass response_model, too"
            )
        if self.response_model is not None and self.response_format is not None:
            raise InvalidInputError(
                "response_model and response_format are both given, but response_model already sets response_format: "
                "leave response_format out"
            )
        self.template(self.model).fitted(self.endpoint)

    @property
    def is_table(self) -> bool:
        """Whether the requests are made of rows, with a prompt over their columns or of documents."""
        return self.documents or not self._asks_nothing

    @property
    def documents(self) -> bool:
        """Whether each request is an uploaded file, without a prompt; a function says it with a key."""
        if not self._asks_nothing:
            return False
        endpoint = ENDPOINTS.get(self.endpoint)
        reads_files = bool(endpoint and endpoint.files and endpoint.files.fields)
        return self._has_documents or (self.key is not None and reads_files)

    @property
    def _asks_nothing(self) -> bool:
        return self.prompt is self.prompt_file is self.messages is None

    @property
    def _has_documents(self) -> bool:
        from airflow_provider_mistral_batch.tables.sources.documents import Documents

        return isinstance(self.source, Documents)

    @property
    def landed_format(self) -> str:
        """The format of the results."""
        return "parquet" if self.is_table else self.output_format or "jsonl"

    @cached_property
    def question(self) -> TableQuestion:
        """What is asked of each row of a table."""
        # Imported late: parsing a Dag needs none of it.
        from airflow_provider_mistral_batch.tables.requests import TableQuestion
        from airflow_provider_mistral_batch.tables.sources.documents import PATH

        return TableQuestion(
            key=PATH if self.key is None and self._has_documents else self.key,
            prompt=self.prompt,
            prompt_file=self.prompt_file,
            messages=self.messages,
            keep=self.keep,
            on_null=self.on_null,
            endpoint=self.endpoint,
            documents=self.documents,
        )

    @cached_property
    def answer_columns(self) -> AnswerColumns:
        """What the table of answers has beside them."""
        from airflow_provider_mistral_batch.tables.answers import AnswerColumns

        return self.columns or AnswerColumns()

    @cached_property
    def shape(self) -> Shape:
        """The columns that answers become."""
        from airflow_provider_mistral_batch.tables.shapes import shape_of

        schema = self.structured.schema if self.structured else None
        return shape_of(self.endpoint, schema, embedding=self.answer_columns.embedding)

    @property
    def table_form(self) -> dict[str, Any]:
        """What the table of answers looks like, for the manifest. The requests do not depend on all of it."""
        return {
            "key": list(self.question.key_columns),
            "keep": list(self.keep),
            "answer": [field.name for field in self.shape.fields()],
            "columns": asdict(self.answer_columns),
        }

    def _check_table(self) -> None:
        if self.target is not None and not hasattr(self.target, "write"):
            raise InvalidInputError(f"target={self.target!r:.80} is not an SqlTable: pass target=SqlTable(…)")
        if self.columns is not None:
            from airflow_provider_mistral_batch.tables.answers import AnswerColumns

            if not isinstance(self.columns, AnswerColumns):
                raise InvalidInputError(
                    f"columns={self.columns!r:.80} is not an AnswerColumns: pass columns=AnswerColumns(…)"
                )
        if self.is_table:
            if self.output_format == "jsonl":
                raise InvalidInputError(
                    "output_format='jsonl': answers over a table are a table themselves, in Parquet: leave "
                    "output_format out"
                )
            _ = self.question, self.shape
            if self._has_documents:
                self.question.check_asks_about_documents()
            if self.answer_columns.markdown:
                from airflow_provider_mistral_batch.tables.markdown import markdown_column

                markdown_column(self.shape, self.endpoint)
            return
        check_no_table(
            key=self.key, keep=self.keep, columns=self.columns, target=self.target, source=self.source
        )

    @cached_property
    def structured(self) -> StructuredOutput | None:
        """The check that answers must pass; ``None`` without ``response_model``."""
        return None if self.response_model is None else StructuredOutput(self.response_model, self.endpoint)

    @cached_property
    def cadence(self) -> Cadence:
        """How often a worker looks at a job."""
        return Cadence(shortest=self.poll_interval_min, longest=self.poll_interval)

    @cached_property
    def window(self) -> str:
        """The completion window of each job, such as ``24h``."""
        return chosen_window(self.completion_window, self.timeout_hours)

    @property
    def seconds_allowed(self) -> float:
        """Seconds to wait for a job, counted from its submission."""
        return seconds_allowed(self.timeout, completion_window_hours(self.window))

    @property
    def requests_per_job(self) -> int:
        """Most requests in one job."""
        return min(self.max_pending_requests, self.max_job_requests, limits.MAX_REQUESTS_PER_JOB)

    def template(self, model: str | None) -> RowTemplate:
        """
        Make the template of request bodies.

        :param model: The model to write into the rows; ``None`` if the jobs name it.
        """
        # Imported late: parsing a Dag needs none of it.
        from airflow_provider_mistral_batch.jsonl.requests.template import RowTemplate

        return RowTemplate(
            system=self.system,
            model=model,
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            response_format=self.structured.response_format if self.structured else self.response_format,
            parameters=self.parameters or {},
        )

    def job(self, input_files: Sequence[str], model: str | None) -> BatchJobIn:
        """
        Make one job's create call.

        :param input_files: Ids of its request files.
        :param model: The job's model; ``None`` if the rows name it.
        """
        return BatchJobIn(
            input_files=input_files,
            endpoint=self.endpoint,
            completion_window=self.window,
            metadata=self.metadata,
            model=model,
            agent_id=self.agent_id,
        )
