"""Chat completions."""

from __future__ import annotations

import json
from typing import Any

from airflow_provider_mistral_batch.emulator.answers.context import Context
from airflow_provider_mistral_batch.emulator.answers.schema import instance
from airflow_provider_mistral_batch.emulator.answers.text import (
    content_text,
    count_tokens,
    cut_stop,
    cut_tokens,
    reply,
)

#: What a message costs beside its text.
TOKENS_PER_MESSAGE = 2


def answer(body: Any, context: Context) -> dict[str, Any]:
    """Answer a body of ``/v1/chat/completions``."""
    messages = body["messages"]
    prompt_tokens = prompt_size(messages)
    tool_call = _tool_call(body, context)
    if tool_call is not None:
        message: dict[str, Any] = {"role": "assistant", "content": "", "tool_calls": [tool_call]}
        tokens, finish = count_tokens(tool_call["function"]["arguments"]), "tool_calls"
    else:
        text, finish = completion(body, last_user_text(messages))
        message = {"role": "assistant", "content": text, "tool_calls": None}
        tokens = count_tokens(text)
    count = body.get("n") or 1
    return {
        "id": context.id,
        "object": "chat.completion",
        "model": context.model,
        "usage": usage(prompt_tokens, tokens * count),
        "created": context.created,
        "choices": [{"index": index, "finish_reason": finish, "message": message} for index in range(count)],
    }


def completion(body: Any, prompt: str) -> tuple[str, str]:
    """The text that answers a prompt within the body's bounds, and why it ends where it ends."""
    text = reply(prompt)
    response_format = body.get("response_format") or {}
    if response_format.get("type") == "json_schema" and response_format.get("json_schema"):
        text = json.dumps(instance(response_format["json_schema"]["schema"], text), ensure_ascii=False)
    elif response_format.get("type") == "json_object":
        text = json.dumps({"answer": text}, ensure_ascii=False)
    text, was_cut = cut_tokens(cut_stop(text, body.get("stop")), body.get("max_tokens"))
    return text, "length" if was_cut else "stop"


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    """The usage of one answer."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


def prompt_size(messages: Any) -> int:
    """Tokens of the messages of a chat."""
    return sum(
        TOKENS_PER_MESSAGE + count_tokens(content_text(message.get("content"))) for message in messages
    )


def last_user_text(messages: Any) -> str:
    """What the user said last; if the user said nothing, what was said last."""
    for message in reversed(messages):
        if message["role"] == "user":
            return content_text(message.get("content"))
    return content_text(messages[-1].get("content"))


def _tool_call(body: Any, context: Context) -> dict[str, Any] | None:
    """The call of a tool, if the body insists on one."""
    tools, choice = body.get("tools"), body.get("tool_choice")
    if not tools or choice in (None, "auto", "none"):
        return None
    function = tools[0]["function"]
    if isinstance(choice, dict):
        name = choice.get("function", {}).get("name")
        function = next((tool["function"] for tool in tools if tool["function"]["name"] == name), function)
    parameters = function.get("parameters") or {}
    arguments = instance(parameters, last_user_text(body["messages"])) if isinstance(parameters, dict) else {}
    return {
        "id": context.id[:9],
        "type": "function",
        "function": {"name": function["name"], "arguments": json.dumps(arguments)},
        "index": 0,
    }
