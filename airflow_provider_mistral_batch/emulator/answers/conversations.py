"""Conversations."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from airflow_provider_mistral_batch.emulator.answers.chat import completion, usage
from airflow_provider_mistral_batch.emulator.answers.context import Context
from airflow_provider_mistral_batch.emulator.answers.text import content_text, count_tokens


def answer(body: Any, context: Context) -> dict[str, Any]:
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
