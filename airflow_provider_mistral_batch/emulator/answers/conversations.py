"""``/v1/conversations``."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt
from typing_extensions import NotRequired, TypedDict

from airflow_provider_mistral_batch.emulator.answers.completions import Bounds, completion
from airflow_provider_mistral_batch.emulator.answers.context import Context
from airflow_provider_mistral_batch.emulator.answers.messages import Chunks, content_text
from airflow_provider_mistral_batch.emulator.answers.response_format import ResponseFormat
from airflow_provider_mistral_batch.emulator.answers.tokens import count_tokens, usage


class Entry(TypedDict):
    """An entry of a conversation."""

    content: NotRequired[str | Chunks | None]


class CompletionArgs(Bounds):
    """How a conversation is answered."""

    random_seed: NotRequired[NonNegativeInt | None]
    response_format: NotRequired[ResponseFormat | None]


class Conversation(TypedDict):
    """Body of ``/v1/conversations``."""

    model: NotRequired[str | None]
    agent_id: NotRequired[str | None]
    inputs: str | Annotated[list[Entry], Field(min_length=1)]
    instructions: NotRequired[str | None]
    stream: NotRequired[Literal[False] | None]
    completion_args: NotRequired[CompletionArgs | None]


def answer_conversation(body: Any, context: Context) -> dict[str, Any]:
    """Answer a body of ``/v1/conversations``."""
    inputs = body["inputs"]
    prompt = inputs if isinstance(inputs, str) else content_text(inputs[-1].get("content"))
    size = count_tokens(prompt) + count_tokens(body.get("instructions") or "")
    text, _ = completion(body.get("completion_args") or {}, prompt)
    now = datetime.fromtimestamp(context.created, timezone.utc).isoformat().replace("+00:00", "Z")
    entry: dict[str, Any] = {
        "object": "entry",
        "type": "message.output",
        "created_at": now,
        "completed_at": now,
        "id": f"msg_{context.id}",
        "role": "assistant",
        "content": text,
        "model": context.model,
    }
    if context.agent_id:
        entry["agent_id"] = context.agent_id
    return {
        "object": "conversation.response",
        "conversation_id": f"conv_{context.id}",
        "outputs": [entry],
        "usage": {**usage(size, count_tokens(text)), "connector_tokens": None, "connectors": None},
    }
