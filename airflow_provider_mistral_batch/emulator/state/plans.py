"""What a test planned for a job: how it ends, what becomes of its rows, how it looks meanwhile."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

End = Literal["SUCCESS", "FAILED", "TIMEOUT_EXCEEDED", "CANCELLED"]
Mishap = Literal["failed", "zero", "missing", "duplicate", "unknown"]


class JobPlan(BaseModel):
    """Departures from a job's normal course. Rows are hit in the order of the fields, from the first row on."""

    model_config = ConfigDict(extra="forbid")

    validation_seconds: float | None = Field(default=None, ge=0, description="how long it stays QUEUED")
    job_seconds: float | None = Field(default=None, ge=0, description="how long it stays RUNNING")
    end: End = Field(default="SUCCESS", description="the status in which it ends")
    end_after: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="the part of its rows that is done when it ends as something else",
    )
    errors: list[str] = Field(default=[], description="why it FAILED: messages of the job's `errors`")
    failed_rows: int | Literal["all"] = Field(default=0, description="how many rows fail")
    failed_ids: list[str] = Field(default=[], description="custom ids of rows that fail")
    failed_statuses: list[int] = Field(
        default=[500], min_length=1, description="status codes of failed rows, in turn"
    )
    error_style: Literal["response", "error"] = Field(
        default="response",
        description="a failed row has a response with an error body, or no response and an `error`",
    )
    zero_rows: int = Field(
        default=0, ge=0, description="how many rows get status_code 0 with a null body and error"
    )
    missing_rows: int = Field(default=0, ge=0, description="how many rows are in neither file")
    duplicate_rows: int = Field(default=0, ge=0, description="how many rows are written twice")
    unknown_rows: int = Field(
        default=0, ge=0, description="how many rows answer a custom_id that nobody asked"
    )
    cut_last_line: bool = Field(
        default=False, description="the output file ends in the middle of its last line"
    )
    status: str | None = Field(default=None, description="the status that is shown until the job is over")
    fields: dict[str, Any] = Field(default={}, description="fields that are set in the job as it is shown")

    @property
    def touches_rows(self) -> bool:
        """Whether any row of the job departs from its normal course."""
        return bool(
            self.failed_rows
            or self.failed_ids
            or self.zero_rows
            or self.missing_rows
            or self.duplicate_rows
            or self.unknown_rows
        )

    def mishap(self, number: int, custom_id: str) -> Mishap | None:
        """What befalls the row of that number (from 0) and id."""
        if self.failed_rows == "all" or custom_id in self.failed_ids:
            return "failed"
        kinds: tuple[tuple[Mishap, int], ...] = (
            ("failed", self.failed_rows),
            ("zero", self.zero_rows),
            ("missing", self.missing_rows),
            ("duplicate", self.duplicate_rows),
            ("unknown", self.unknown_rows),
        )
        for kind, count in kinds:
            if number < count:
                return kind
            number -= count
        return None

    def failed_status(self, number: int) -> int:
        """The status code with which the row of that number fails."""
        return self.failed_statuses[number % len(self.failed_statuses)]

    @property
    def part_done(self) -> float:
        """The part of the rows that is done when the job ends: all of them in a success."""
        if self.end == "SUCCESS":
            return 1.0
        if self.end_after is None:
            return 0.0 if self.end == "FAILED" else 0.5
        return self.end_after


#: Nothing out of the ordinary.
NO_PLAN = JobPlan()


def read_plan(text: str | None) -> JobPlan:
    """The plan that is stored with a job."""
    return NO_PLAN if text is None else JobPlan.model_validate_json(text)
