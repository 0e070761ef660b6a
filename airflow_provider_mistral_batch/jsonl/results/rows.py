"""Result rows as users read them: one flat row with typed fields for each request, whichever endpoint answered."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import asdict

from airflow_provider_mistral_batch.api.decoding import UNREADABLE, decoded
from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.jsonl.requests.nesting import is_too_deep
from airflow_provider_mistral_batch.jsonl.results.api_rows import (
    Answer,
    Choice,
    SucceededRow,
    odd_answer,
    read_api_row,
    row_fields,
)
from airflow_provider_mistral_batch.jsonl.results.outcomes import failure, succeeded
from airflow_provider_mistral_batch.jsonl.results.placeholder_rows import id_of_unread

_decode_any = msgspec.json.Decoder().decode
_decode_succeeded = msgspec.json.Decoder(SucceededRow[Answer]).decode


class ResultRow(msgspec.Struct, gc=False, frozen=True):
    """
    One result. ``body`` is the whole answer, and ``parsed`` its text decoded from JSON.

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
        return body_of(self.raw)

    @property
    def parsed(self) -> Any:
        """The answer decoded from JSON; None if it is no JSON. With a ``response_model`` its instance instead."""
        if self.content is None:
            return None
        try:
            return decoded(_decode_any, self.content.encode("utf-8", "replace"))
        except UNREADABLE:
            return None

    def as_dict(self, *, raw: bool = False) -> dict[str, Any]:
        """
        Give the fields, for a row of a data frame.

        :param raw: Give ``raw``, too, as text. It repeats all other fields, and takes several times their memory.
        """
        fields = {name: getattr(self, name) for name in ResultRow.__struct_fields__ if name != "raw"}
        return {**fields, "raw": self.raw.decode("utf-8", "replace")} if raw else fields


class ModelRow(ResultRow, gc=False, frozen=True):
    """
    One result whose answer is read as a model.

    :ivar response_model: The pydantic model class.
    """

    response_model: Any

    @property
    def parsed(self) -> Any:
        """
        The answer as an instance of the model; None if the row failed.

        :raises InvalidInputError: When the answer does not match the model.
        """
        if not self.succeeded:
            return None
        try:
            return self.response_model.model_validate_json(self.content or "")
        except ValueError as error:
            raise no_match(self.custom_id, self.response_model, error) from error


def no_match(key: Any, model: type, error: ValueError) -> InvalidInputError:
    """
    Say that an answer does not match a model.

    :param key: What names the answer.
    :param model: The pydantic model class.
    :param error: Why, as pydantic says it.
    """
    reason = " ".join(str(error).split())
    return InvalidInputError(
        f"the answer of {key!r:.100} does not match {model.__name__}: {reason:.300}; read the results with the "
        "response_model of their task"
    )


def row_with_model(row: ResultRow, response_model: Any) -> ModelRow:
    """
    Give a row the model that its answer is read as.

    :param row: The row.
    :param response_model: The pydantic model class.
    """
    return ModelRow(**asdict(row), response_model=response_model)


def result_row(line: bytes) -> ResultRow:
    """
    Read one result row.

    :param line: The row as the API gave it.
    """
    if is_too_deep(line):
        return _odd_row(line)
    try:
        row = decoded(_decode_succeeded, line)
    except UNREADABLE:
        return _odd_row(line)
    response = row.response
    return _result_row(line, row.custom_id, response.status_code, response.body, None)


def _odd_row(line: bytes) -> ResultRow:
    """Read a row that failed, or whose fields have other types than the API documents."""
    row = read_api_row(line)
    reason = failure(line)
    error = None
    if row is None or not succeeded(row):
        error = reason.message or f"no answer (status code {reason.status_code})"
    answer = odd_answer(body_of(line))
    custom_id = id_of_unread(line) if row is None else row.custom_id
    return _result_row(line, custom_id, reason.status_code, answer, error)


def _result_row(
    line: bytes, custom_id: str | None, status_code: int | None, answer: Answer, error: str | None
) -> ResultRow:
    usage = answer.usage
    return ResultRow(
        custom_id,
        status_code,
        _content(answer),
        answer.choices[0].finish_reason if answer.choices else None,
        None if usage is None else usage.prompt_tokens,
        None if usage is None else usage.completion_tokens,
        answer.model,
        error,
        line,
    )


def body_of(line: bytes) -> Any:
    """
    Decode an answer's whole body; ``None`` if there is none.

    :param line: The row as the API gave it.
    """
    response = (row_fields(line) or {}).get("response")
    return response.get("body") if isinstance(response, dict) else None


def _content(answer: Answer) -> str | None:
    if answer.choices:
        return _choice_content(answer.choices[0])
    if answer.pages is not None:
        return "\n\n".join(page.markdown or "" for page in answer.pages)
    if answer.outputs is not None:
        messages = [entry for entry in answer.outputs if isinstance(entry, dict) and "content" in entry]
        return text_of(messages[-1]["content"]) if messages else None
    return answer.text


def _choice_content(choice: Choice) -> str | None:
    if choice.message is not None and (text := text_of(choice.message.content)) is not None:
        return text
    # Where the server called tools, their calls and results are among the messages; the answer is the last one.
    texts = [
        text
        for message in choice.messages or ()
        if isinstance(message, dict)
        and message.get("role") in (None, "assistant")
        and (text := text_of(message.get("content")))
    ]
    return texts[-1] if texts else None


def text_of(content: Any) -> str | None:
    """Give the text of a message's ``content``, which may be a list of pieces; None if it has none."""
    if isinstance(content, list):
        return "".join(
            str(part["text"])
            for part in content
            if isinstance(part, dict) and isinstance(part.get("text"), str)
        )
    return content if isinstance(content, str) else None
