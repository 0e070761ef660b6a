"""Fill-in-the-middle completions."""

from __future__ import annotations

import re
from typing import Any

from airflow_provider_mistral_batch.emulator.answers.chat import usage
from airflow_provider_mistral_batch.emulator.answers.context import Context
from airflow_provider_mistral_batch.emulator.answers.text import count_tokens, cut_stop, cut_tokens

_ARGUMENTS = re.compile(r"\(([^()]*)\)[^()]*$")


def answer(body: Any, context: Context) -> dict[str, Any]:
    """Answer a body of ``/v1/fim/completions``."""
    prompt, suffix = body["prompt"], body.get("suffix") or ""
    text, was_cut = cut_tokens(cut_stop(_code(prompt), body.get("stop")), body.get("max_tokens"))
    return {
        "id": context.id,
        "object": "chat.completion",
        "model": context.model,
        "usage": usage(count_tokens(prompt) + count_tokens(suffix), count_tokens(text)),
        "created": context.created,
        "choices": [
            {
                "index": 0,
                "finish_reason": "length" if was_cut else "stop",
                "message": {"role": "assistant", "content": text, "tool_calls": None},
            }
        ],
    }


def _code(prompt: str) -> str:
    """A line that goes on with the code: it returns what the last parentheses name."""
    found = _ARGUMENTS.search(prompt[-500:])
    names = re.findall(r"[A-Za-z_]\w*", found.group(1)) if found else []
    indent = "\n    " if prompt.rstrip().endswith(":") else ""
    return f"{indent}return {names[0] if names else 'None'}"
