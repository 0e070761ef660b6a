"""Landed results as typed rows, one at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

import msgspec

from airflow_provider_mistral_batch.api.decoding import UNREADABLE, decoded
from airflow_provider_mistral_batch.jsonl.lines import (
    MAX_RESULT_ROW_BYTES,
    file_chunks,
    line_blocks,
)
from airflow_provider_mistral_batch.jsonl.results.outcomes import failure, read_row
from airflow_provider_mistral_batch.storage.paths import as_path

_PARQUET_MAGIC = b"PAR1"


class ResultRow(msgspec.Struct, gc=False, frozen=True):
    """
    One result.

    :ivar custom_id: The request's id.
    :ivar status_code: HTTP status code of the row's own request; None if there was no response.
    :ivar content: The answer's text: a chat's or FIM's message, an OCR's pages as Markdown, a transcription, a
        conversation's last message; None for endpoints that answer without text (see ``body``) and for failures.
    :ivar finish_reason: Why the answer ended, such as ``stop`` or ``length``.
    :ivar prompt_tokens: Tokens that were read.
    :ivar completion_tokens: Tokens that were written.
    :ivar model: The model that answered.
    :ivar error: Why the row failed; None if it succeeded.
    :ivar raw: The row as the API gave it.
    """

    custom_id: str | None
    status_code: int | None
    content: str | None
    finish_reason: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    model: str | None
    error: str | None
    raw: bytes

    @property
    def succeeded(self) -> bool:
        """Whether the request succeeded."""
        return self.error is None

    @property
    def body(self) -> Any:
        """The answer's whole body, decoded."""
        response = (read_row(self.raw) or {}).get("response")
        return response.get("body") if isinstance(response, dict) else None

    def as_dict(self) -> dict[str, Any]:
        """Give the fields, for a row of a data frame."""
        return {
            **{name: getattr(self, name) for name in self.__struct_fields__},
            "raw": self.raw.decode("utf-8", "replace"),
        }


def read_results(results: Any, *, failed: bool = False) -> Iterator[ResultRow]:
    """
    Read landed results lazily. One line to a frame: ``pd.DataFrame(row.as_dict() for row in read_results(manifest))``.

    :param results: A manifest (its ``results_path`` is read), or the path of one results or errors file, JSONL
        (compressed or not) or Parquet: str, Path or ObjectStoragePath.
    :param failed: With a manifest, give the rows of its ``errors_path``, too, after the others.
    """
    if isinstance(results, Mapping):
        yield from map(result_row, result_lines(results["results_path"]))
        if failed:
            for row in map(result_row, result_lines(results["errors_path"])):
                # Answers are among the failures if nobody asked for them.
                yield (
                    row
                    if row.error
                    else msgspec.structs.replace(row, error="nobody asked for this custom_id")
                )
    else:
        yield from map(result_row, result_lines(results))


def result_batches(path: Any) -> Iterator[list[bytes]]:
    """
    Give the rows of a landed file as the API gave them, some at a time: few if they are long.

    :param path: A results or errors file, JSONL (compressed or not) or Parquet.
    """
    with as_path(path).open("rb") as file:
        is_parquet = file.read(len(_PARQUET_MAGIC)) == _PARQUET_MAGIC
    if is_parquet:
        from airflow_provider_mistral_batch.jsonl.results.parquet import parquet_batches

        yield from parquet_batches(path)
        return
    for block in line_blocks(file_chunks(path), max_line_bytes=MAX_RESULT_ROW_BYTES):
        yield list(filter(None, block.lines))


def result_lines(path: Any) -> Iterator[bytes]:
    """
    Give the rows of a landed file as the API gave them, one by one.

    :param path: A results or errors file, JSONL (compressed or not) or Parquet.
    """
    return chain.from_iterable(result_batches(path))


class _Message(msgspec.Struct, gc=False):
    content: Any = None


class _Choice(msgspec.Struct, gc=False):
    message: _Message | None = None
    finish_reason: str | None = None


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Page(msgspec.Struct, gc=False):
    markdown: str | None = None


class _Answer(msgspec.Struct, gc=False):
    model: str | None = None
    usage: _Usage | None = None
    choices: list[_Choice] | None = None
    pages: list[_Page] | None = None
    outputs: list[Any] | None = None
    text: str | None = None


class _TypedResponse(msgspec.Struct, gc=False):
    status_code: int
    body: _Answer


class _TypedRow(msgspec.Struct, gc=False):
    custom_id: str
    response: _TypedResponse
    error: None = None


_decode_typed = msgspec.json.Decoder(_TypedRow).decode


def result_row(line: bytes) -> ResultRow:
    """
    Read one result row.

    :param line: The row as the API gave it.
    """
    try:
        row = decoded(_decode_typed, line)
    except UNREADABLE:
        return _odd_row(line)
    status_code, answer = row.response.status_code, row.response.body
    if not 200 <= status_code < 300:
        return _odd_row(line)
    usage = answer.usage
    return ResultRow(
        row.custom_id,
        status_code,
        _content(answer),
        answer.choices[0].finish_reason if answer.choices else None,
        None if usage is None else usage.prompt_tokens,
        None if usage is None else usage.completion_tokens,
        answer.model,
        None,
        line,
    )


def _content(answer: _Answer) -> str | None:
    if answer.choices:
        message = answer.choices[0].message
        return None if message is None else _text(message.content)
    if answer.pages is not None:
        return "\n\n".join(page.markdown or "" for page in answer.pages)
    if answer.outputs is not None:
        messages = [entry for entry in answer.outputs if isinstance(entry, dict) and "content" in entry]
        return _text(messages[-1]["content"]) if messages else None
    return answer.text


def _text(content: Any) -> str | None:
    if isinstance(content, list):
        return "".join(
            str(part["text"])
            for part in content
            if isinstance(part, dict) and isinstance(part.get("text"), str)
        )
    return content if isinstance(content, str) else None


def _odd_row(line: bytes) -> ResultRow:
    """Read a failed row, or one whose shape is not any that is known."""
    row = read_row(line) or {}
    response = row.get("response")
    body = response.get("body") if isinstance(response, dict) else None
    try:
        answer = msgspec.convert(body, _Answer) if isinstance(body, dict) else _Answer()
    except msgspec.ValidationError:
        answer = _Answer()
    reason = failure(line)
    status_code = reason.status_code
    fine = (
        bool(row)
        and row.get("error") is None
        and body is not None
        and status_code is not None
        and 200 <= status_code < 300
    )
    custom_id = row.get("custom_id")
    return ResultRow(
        custom_id if isinstance(custom_id, str) else None,
        status_code,
        _content(answer),
        answer.choices[0].finish_reason if answer.choices else None,
        None if answer.usage is None else answer.usage.prompt_tokens,
        None if answer.usage is None else answer.usage.completion_tokens,
        answer.model,
        None if fine else reason.message or f"no answer (status code {status_code})",
        line,
    )
