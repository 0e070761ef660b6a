"""Counts, costs and a digest of failures over millions of result rows, in bounded memory."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from airflow_provider_mistral_batch.api.texts import kept_label
from airflow_provider_mistral_batch.jsonl.results.api_rows import (
    ApiResponse,
    ApiRow,
    Costs,
    PageUsage,
)
from airflow_provider_mistral_batch.jsonl.results.outcomes import MISSING_ROW, REPLACED, failure

_MAX_DISTINCT_ERRORS = 500
_MAX_ERRORS_SHOWN = 20

#: The message of the last entry of a digest, which counts all kinds that have none of their own.
OTHER_ERRORS = "other errors"

#: Name, beside the sums, of the number of rows whose amounts are missing there: none were given, or none that can be
#: read.
NOT_MEASURED = "rows_not_measured"

# What differs between two messages of one kind of error: ids, quoted values and numbers.
_VARIABLE = re.compile(
    r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}|\b[0-9a-fA-F]{16,}\b|'[^']*'|\"[^\"]*\"|\d+(?:\.\d+)?"
)


@dataclass
class FailureKind:
    """
    Rows that failed for one reason.

    :param status_code: HTTP status code of the rows; None if they had no response.
    :param code: The API's code of the error.
    :param message: The message of the first such row.
    :param count: How many rows.
    :param example: ``custom_id`` of the first such row.
    :param may_pass: Whether another try can succeed.
    """

    status_code: int | None
    code: str | None
    message: str
    count: int
    example: str | None
    may_pass: bool

    def as_dict(self) -> dict[str, Any]:
        """Give the fields for a manifest."""
        return asdict(self)


class Tally:
    """
    Counts result rows, sums what they cost, and groups their failures by kind.

    :param without_secrets: Removes secrets from the texts that are kept of rows.
    """

    def __init__(self, without_secrets: Callable[[str], str] = str) -> None:
        self._without_secrets = without_secrets
        self.succeeded = 0
        self.failed = 0
        self.missing = 0
        self.may_pass = 0
        self.by_status: Counter[str] = Counter()
        #: Sums of tokens; of pages, audio seconds and cached tokens where there are any; and :data:`NOT_MEASURED`.
        self.usage: dict[str, int | float] = dict.fromkeys(
            ("prompt_tokens", "completion_tokens", "total_tokens"), 0
        )
        self._kinds: dict[tuple[int | None, str | None, str], FailureKind] = {}
        self._other = 0

    def add_succeeded(self, responses: Sequence[ApiResponse[Costs]]) -> None:
        """Count rows that succeeded."""
        self.succeeded += len(responses)
        for status_code, number in Counter([response.status_code for response in responses]).items():
            self.by_status[str(status_code)] += number
        bodies = [response.body for response in responses]
        if not self._add_usage(bodies):
            self._add_amount(NOT_MEASURED, sum(not _is_measured(body) for body in bodies))

    def add_failed(self, row: ApiRow[Costs] | None, line: bytes) -> None:
        """
        Count a row that failed, or one that we wrote for a request without a row.

        :param row: The row; None if its id and costs do not matter.
        :param line: The row as it is written.
        """
        reason = failure(line)
        if reason.code == MISSING_ROW:
            self.missing += 1
        else:
            self.failed += 1
            self.by_status["none" if reason.status_code is None else str(reason.status_code)] += 1
        self.may_pass += reason.may_pass
        kind = (reason.status_code, reason.code, _VARIABLE.sub("#", reason.message))
        if known := self._kinds.get(kind):
            known.count += 1
        elif len(self._kinds) < _MAX_DISTINCT_ERRORS:
            self._kinds[kind] = self._new_kind(row, line, reason.may_pass)
        else:
            self._other += 1
        self._add_amount(NOT_MEASURED, reason.code in REPLACED)
        if row is not None and row.response is not None:
            body = row.response.body
            self._add_usage([body])
            # What the API refused gives no amounts, and costs nothing; an answer that we refused does.
            is_answer = body is not None and reason.status_code is not None and reason.status_code < 300
            is_odd = body is not None and body.is_partly_unreadable
            self._add_amount(NOT_MEASURED, is_odd or (is_answer and not _is_measured(body)))

    def _new_kind(self, row: ApiRow[Costs] | None, line: bytes, may_pass: bool) -> FailureKind:
        # Secrets are looked for in few rows only. Those of one kind are like this one.
        shown = failure(line, self._without_secrets)
        id_ = None if row is None else row.custom_id
        example = None if id_ is None else kept_label(id_, self._without_secrets)
        return FailureKind(shown.status_code, shown.code, shown.message, 1, example, may_pass)

    @property
    def digest(self) -> list[dict[str, Any]]:
        """The most frequent kinds of failure; a last entry counts all others."""
        kinds = sorted(self._kinds.values(), key=lambda kind: -kind.count)
        shown = [kind.as_dict() for kind in kinds[:_MAX_ERRORS_SHOWN]]
        rest = sum(kind.count for kind in kinds[_MAX_ERRORS_SHOWN:]) + self._other
        if rest:
            shown.append(FailureKind(None, None, OTHER_ERRORS, rest, None, False).as_dict())
        return shown

    def _add_usage(self, bodies: Sequence[Costs | None]) -> bool:
        """
        Sum what some answers cost.

        :return: Whether the amounts of each answer are in the sums.
        """
        usages = [usage for body in bodies if body is not None and (usage := body.usage) is not None]
        pages = [info for body in bodies if body is not None and (info := body.usage_info) is not None]
        annotated = [
            _annotated_pages(body) for body in bodies if body is not None and body.usage_info is not None
        ]
        prompts = [usage.prompt_tokens for usage in usages]
        cached = [details.cached_tokens for usage in usages if (details := usage.prompt_tokens_details)]
        amounts: dict[str, int | float] = {
            "prompt_tokens": sum(filter(None, prompts)),
            "completion_tokens": sum([usage.completion_tokens or 0 for usage in usages]),
            "total_tokens": sum([usage.total_tokens or 0 for usage in usages]),
            "cached_tokens": sum(filter(None, cached)),
            "prompt_audio_seconds": sum([usage.prompt_audio_seconds or 0 for usage in usages]),
            "pages_processed": sum([_pages(info) for info in pages]),
            "pages_processed_annotation": sum(annotated),
        }
        for name, amount in amounts.items():
            self._add_amount(name, amount)
        unreadable = [body.is_partly_unreadable for body in bodies if body is not None]
        return len(prompts) - prompts.count(None) == len(bodies) and True not in unreadable

    def _add_amount(self, name: str, amount: int | float) -> None:
        if amount:
            self.usage[name] = self.usage.get(name, 0) + amount


def _is_measured(body: Costs | None) -> bool:
    """Tell whether an answer gives tokens or pages, and all that it gives can be read."""
    if body is None or body.is_partly_unreadable:
        return False
    return (body.usage is not None and body.usage.prompt_tokens is not None) or (
        body.usage_info is not None and _pages(body.usage_info) > 0
    )


def _pages(info: PageUsage) -> int:
    """All pages: some servers count those with annotations apart."""
    return max(info.pages_processed or 0, info.pages_processed_annotation or 0)


def _annotated_pages(body: Costs) -> int:
    """Pages with annotations: if the server does not count them, all pages of an answer that has some."""
    info = body.usage_info or PageUsage()
    if info.pages_processed_annotation is not None:
        return info.pages_processed_annotation
    images = [image for page in body.pages or () for image in page.images or ()]
    has_some = body.document_annotation is not None or any(
        image.image_annotation is not None for image in images
    )
    return _pages(info) if has_some else 0
