"""Messages of a chat: their form in a request's body, their text and their tokens."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field
from typing_extensions import NotRequired, TypedDict

from airflow_provider_mistral_batch.emulator.answers.tokens import count_tokens

#: Tokens that a message counts for, besides its text.
_TOKENS_PER_MESSAGE = 2

Chunks = list[dict[str, Any]]


class InputMessage(TypedDict):
    """A message to the model."""

    role: Literal["system", "user", "tool"]
    content: str | Chunks


class AssistantMessage(TypedDict):
    """A message of the model: what it said, or which tools it called."""

    role: Literal["assistant"]
    content: NotRequired[str | Chunks | None]
    tool_calls: NotRequired[list[dict[str, Any]] | None]


Message = Annotated[InputMessage | AssistantMessage, Field(discriminator="role")]
Messages = Annotated[list[Message], Field(min_length=1)]


def content_text(content: str | Chunks | None) -> str:
    """
    The text of a message.

    :param content: Its ``content``: a string or chunks. Chunks without text are ignored.
    """
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(str(chunk["text"]) for chunk in content if isinstance(chunk.get("text"), str))


def message_tokens(messages: Any) -> int:
    """How many tokens the messages of a chat count for."""
    return sum(
        _TOKENS_PER_MESSAGE + count_tokens(content_text(message.get("content"))) for message in messages
    )


def last_user_text(messages: Any) -> str:
    """The text of the user's last message; of the last message if none is the user's."""
    for message in reversed(messages):
        if message["role"] == "user":
            return content_text(message.get("content"))
    return content_text(messages[-1].get("content"))
