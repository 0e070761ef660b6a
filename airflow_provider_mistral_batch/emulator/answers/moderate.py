"""Moderation: scores of the API's categories, high where a text uses a category's own words."""

from __future__ import annotations

import re
from typing import Any

from airflow_provider_mistral_batch.emulator.answers.chat import prompt_size, usage
from airflow_provider_mistral_batch.emulator.answers.context import Context
from airflow_provider_mistral_batch.emulator.answers.text import content_text, count_tokens

_CATEGORIES = {
    "sexual": r"sex\w*|porn\w*|nude\w*",
    "hate_and_discrimination": r"hate\w*|racis\w*|sexis\w*",
    "violence_and_threats": r"kill\w*|murder\w*|attack\w*|threat\w*|bomb\w*",
    "dangerous_and_criminal_content": r"weapon\w*|explosive\w*|drugs?|hack\w*|steal\w*",
    "selfharm": r"suicid\w*|self-?harm\w*",
    "health": r"doctor\w*|medic\w*|diagnos\w*|symptom\w*",
    "financial": r"invest\w*|stocks?|loans?|mortgage\w*",
    "law": r"lawyer\w*|legal\w*|sue|lawsuit\w*",
    "pii": r"\S+@\S+\.\w+|passport\w*|social security",
}
_PATTERNS = {name: re.compile(rf"\b(?:{words})", re.IGNORECASE) for name, words in _CATEGORIES.items()}
_THRESHOLD = 0.5


def answer(body: Any, context: Context) -> dict[str, Any]:
    """Answer a body of ``/v1/moderations``."""
    texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
    return _response(texts, sum(count_tokens(text) for text in texts), context)


def answer_chats(body: Any, context: Context) -> dict[str, Any]:
    """Answer a body of ``/v1/chat/moderations``: the last message of each chat is judged."""
    chats = body["input"] if isinstance(body["input"][0], list) else [body["input"]]
    texts = [content_text(chat[-1].get("content")) for chat in chats]
    return _response(texts, sum(prompt_size(chat) for chat in chats), context)


def _response(texts: list[str], tokens: int, context: Context) -> dict[str, Any]:
    return {
        "id": context.id,
        "model": context.model,
        "usage": usage(tokens, 0),
        "results": [_judged(text, context) for text in texts],
    }


def _judged(text: str, context: Context) -> dict[str, Any]:
    scores = {
        name: round(0.9 + 0.09 * context.share(number), 6)
        if pattern.search(text)
        else round(0.001 * context.share(number), 6)
        for number, (name, pattern) in enumerate(_PATTERNS.items())
    }
    return {
        "categories": {name: score > _THRESHOLD for name, score in scores.items()},
        "category_scores": scores,
    }
