"""Classification: scores of a few labels, of the text's making."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

from airflow_provider_mistral_batch.emulator.answers.chat import prompt_size, usage
from airflow_provider_mistral_batch.emulator.answers.context import Context
from airflow_provider_mistral_batch.emulator.answers.text import content_text, count_tokens

#: What a fine-tuned classifier might have been taught: targets and their labels.
TARGETS = {"sentiment": ("positive", "neutral", "negative")}


def answer(body: Any, context: Context) -> dict[str, Any]:
    """Answer a body of ``/v1/classifications``."""
    texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
    return _response(texts, sum(count_tokens(text) for text in texts), context)


def answer_chats(body: Any, context: Context) -> dict[str, Any]:
    """Answer a body of ``/v1/chat/classifications``."""
    inputs = body["input"] if isinstance(body["input"], list) else [body["input"]]
    chats = [one["messages"] for one in inputs]
    texts = [content_text(chat[-1].get("content")) for chat in chats]
    return _response(texts, sum(prompt_size(chat) for chat in chats), context)


def _response(texts: list[str], tokens: int, context: Context) -> dict[str, Any]:
    return {
        "id": context.id,
        "model": context.model,
        "usage": usage(tokens, 0),
        "results": [_classified(text) for text in texts],
    }


def _classified(text: str) -> dict[str, Any]:
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    results = {}
    for target, labels in TARGETS.items():
        weights = [digest[number] + 1 for number in range(len(labels))]
        scores = {
            label: round(weight / sum(weights), 6) for label, weight in zip(labels, weights, strict=True)
        }
        results[target] = {"scores": scores}
    return results
