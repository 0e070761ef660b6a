"""Plans: how a test wants a job to differ from a normal one, and rules that give plans to new jobs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from airflow_provider_mistral_batch.emulator.state.clock import Seconds
from airflow_provider_mistral_batch.emulator.state.statuses import TerminalStatus

#: How many rows something goes wrong with.
Rows = Annotated[int, Field(ge=0, le=1_000_000_000)]

#: What can go wrong with a row.
RowFault = Literal["failed", "zero", "missing", "duplicate", "unknown", "unfinished"]


class JobPlan(BaseModel):
    """How a job differs from a normal one. Rows are affected from the first on, in the order of the fields."""

    model_config = ConfigDict(extra="forbid")

    validation_seconds: Seconds | None = Field(default=None, description="seconds that it stays QUEUED")
    job_seconds: Seconds | None = Field(default=None, description="seconds that it stays RUNNING")
    end: TerminalStatus = Field(default="SUCCESS", description="the status in which it ends")
    end_after: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="the share of its rows that is done when it ends with another status than SUCCESS",
    )
    errors: list[str] = Field(default=[], description="messages in `errors` of a job that ends as FAILED")
    failed_rows: Rows | Literal["all"] = Field(default=0, description="how many rows fail")
    failed_ids: list[str] = Field(default=[], description="custom ids of rows that fail")
    failed_statuses: list[Annotated[int, Field(ge=0, le=999)]] = Field(
        default=[500], min_length=1, description="status codes of failed rows, in turn"
    )
    error_style: Literal["response", "error"] = Field(
        default="response",
        description="a failed row has a response with an error body, or no response and an `error`",
    )
    zero_rows: Rows = Field(
        default=0, description="how many rows get status_code 0, with body and error null"
    )
    missing_rows: Rows = Field(default=0, description="how many rows are in neither result file")
    duplicate_rows: Rows = Field(default=0, description="how many rows are written twice")
    unknown_rows: Rows = Field(
        default=0, description="how many rows are followed by one whose custom_id no request has"
    )
    unfinished_rows: Rows | Literal["all"] = Field(
        default=0, description="how many rows get an answer whose choices end with another finish_reason"
    )
    finish_reasons: list[str] = Field(
        default=["error"], min_length=1, description="`finish_reason` of these rows, in turn"
    )
    cut_last_line: bool = Field(
        default=False, description="whether the output file ends in the middle of its last line"
    )
    status: str | None = Field(default=None, description="the status that is shown until the job is over")
    fields: dict[str, Any] = Field(default={}, description="fields to set in the job as it is shown")

    @property
    def has_row_faults(self) -> bool:
        """Whether anything goes wrong with any row."""
        return bool(
            self.failed_rows
            or self.failed_ids
            or self.zero_rows
            or self.missing_rows
            or self.duplicate_rows
            or self.unknown_rows
            or self.unfinished_rows
        )

    @property
    def job_errors(self) -> list[dict[str, Any]]:
        """What is wrong with the job as a whole if it fails."""
        return [{"message": message, "count": 1} for message in self.errors or ["The job failed"]]

    def row_fault(self, number: int, custom_id: str) -> RowFault | None:
        """
        What goes wrong with a row.

        :param number: The row's number in the job, from 0.
        :param custom_id: Its custom id.
        """
        if self.failed_rows == "all" or custom_id in self.failed_ids:
            return "failed"
        faults: tuple[tuple[RowFault, int], ...] = (
            ("failed", self.failed_rows),
            ("zero", self.zero_rows),
            ("missing", self.missing_rows),
            ("duplicate", self.duplicate_rows),
            ("unknown", self.unknown_rows),
        )
        for fault, count in faults:
            if number < count:
                return fault
            number -= count
        if self.unfinished_rows == "all" or number < self.unfinished_rows:
            return "unfinished"
        return None

    def failed_status(self, number: int) -> int:
        """
        The status code of a row that fails.

        :param number: The row's number in the job, from 0.
        """
        return self.failed_statuses[number % len(self.failed_statuses)]

    def finish_reason(self, number: int) -> str:
        """
        The ``finish_reason`` of a row that is unfinished.

        :param number: The row's number in the job, from 0.
        """
        return self.finish_reasons[number % len(self.finish_reasons)]

    @property
    def share_done(self) -> float:
        """The share of the rows that is done when the job ends, 0 to 1."""
        if self.end == "SUCCESS":
            return 1.0
        if self.end_after is None:
            return 0.0 if self.end == "FAILED" else 0.5
        return self.end_after


#: The plan of a normal job.
NO_PLAN = JobPlan()


def read_plan(text: str | None) -> JobPlan:
    """
    Read the plan that is stored with a job.

    :param text: The plan as JSON; ``None`` if the job has none.
    """
    return NO_PLAN if text is None else JobPlan.model_validate_json(text)


def plan_text(plan: JobPlan) -> str:
    """A plan as the JSON that is stored with a job."""
    return plan.model_dump_json(exclude_defaults=True)


class JobRule(BaseModel):
    """A rule that gives a plan to new jobs."""

    model_config = ConfigDict(extra="forbid")

    plan: JobPlan
    endpoint: str | None = Field(
        default=None, description="endpoint of the jobs that match; any if not given"
    )
    metadata: dict[str, str] = Field(default={}, description="metadata that the jobs must have, at least")
    skip: int = Field(default=0, ge=0, description="how many matching jobs get no plan first")
    times: int | None = Field(default=1, ge=1, description="how many jobs get the plan; null: all")

    def matches(self, endpoint: str, metadata: Mapping[str, str] | None) -> bool:
        """Whether the rule is about a job with this endpoint and metadata."""
        return self.endpoint in (None, endpoint) and self.metadata.items() <= dict(metadata or {}).items()


class JobRules:
    """The rules that are switched on, oldest first. The first one that matches decides."""

    def __init__(self) -> None:
        self._rules: list[JobRule] = []

    def add(self, rule: JobRule) -> None:
        """Switch a rule on."""
        self._rules.append(rule)

    def clear(self) -> None:
        """Switch all rules off."""
        self._rules.clear()

    def plan_for(self, endpoint: str, metadata: Mapping[str, str] | None) -> str | None:
        """
        Find the plan of a new job, and count it as given.

        :return: The plan as JSON; ``None`` if no rule gives one.
        """
        for rule in self._rules:
            if not rule.matches(endpoint, metadata):
                continue
            if rule.skip:
                rule.skip -= 1
                continue
            if rule.times is not None:
                rule.times -= 1
                if not rule.times:
                    self._rules.remove(rule)
            return plan_text(rule.plan)
        return None
