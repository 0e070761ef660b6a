"""
Moderations and classifications, of texts and of chats.

``/v1/moderations``, ``/v1/chat/moderations``, ``/v1/classifications`` and ``/v1/chat/classifications``. Of a chat, the
last message is judged.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import Annotated, Any

from pydantic import Field
from typing_extensions import NotRequired, TypedDict

from airflow_provider_mistral_batch.emulator.answers.context import Context
from airflow_provider_mistral_batch.emulator.answers.messages import (
    Message,
    Messages,
    content_text,
    message_tokens,
)
from airflow_provider_mistral_batch.emulator.answers.tokens import count_tokens, usage

#: The API's categories of moderation, each with words that give a text a high score.
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

#: Characters of a text that are judged.
_JUDGED = 10_000

#: Targets of a classifier and their labels, as if one had been fine-tuned.
_TARGETS = {"sentiment": ("positive", "neutral", "negative")}


class Texts(TypedDict):
    """Body of ``/v1/moderations`` and ``/v1/classifications``."""

    model: NotRequired[str | None]
    input: str | list[str]


class ChatModeration(TypedDict):
    """Body of ``/v1/chat/moderations``: one chat or several."""

    model: NotRequired[str | None]
    input: Annotated[list[Message], Field(min_length=1)] | Annotated[list[Messages], Field(min_length=1)]


class Instructions(TypedDict):
    """A chat to classify."""

    messages: Messages


class ChatClassification(TypedDict):
    """Body of ``/v1/chat/classifications``: one chat or several."""

    model: NotRequired[str | None]
    input: Instructions | Annotated[list[Instructions], Field(min_length=1)]


def answer_moderations(body: Any, context: Context) -> dict[str, Any]:
    """Answer a body of ``/v1/moderations``."""
    texts, tokens = _texts(body)
    return _response([_moderated(text, context) for text in texts], tokens, context)


def answer_chat_moderations(body: Any, context: Context) -> dict[str, Any]:
    """Answer a body of ``/v1/chat/moderations``."""
    texts, tokens = _last_texts(body["input"] if isinstance(body["input"][0], list) else [body["input"]])
    return _response([_moderated(text, context) for text in texts], tokens, context)


def answer_classifications(body: Any, context: Context) -> dict[str, Any]:
    """Answer a body of ``/v1/classifications``."""
    texts, tokens = _texts(body)
    return _response([_classified(text) for text in texts], tokens, context)


def answer_chat_classifications(body: Any, context: Context) -> dict[str, Any]:
    """Answer a body of ``/v1/chat/classifications``."""
    inputs = body["input"] if isinstance(body["input"], list) else [body["input"]]
    texts, tokens = _last_texts([one["messages"] for one in inputs])
    return _response([_classified(text) for text in texts], tokens, context)


def _texts(body: Any) -> tuple[list[str], int]:
    texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
    return texts, sum(count_tokens(text) for text in texts)


def _last_texts(chats: list[Any]) -> tuple[list[str], int]:
    texts = [content_text(chat[-1].get("content")) for chat in chats]
    return texts, sum(message_tokens(chat) for chat in chats)


def _response(results: list[dict[str, Any]], tokens: int, context: Context) -> dict[str, Any]:
    return {"id": context.id, "model": context.model, "usage": usage(tokens, 0), "results": results}


def _moderated(text: str, context: Context) -> dict[str, Any]:
    scores = {
        name: round(0.9 + 0.09 * context.share(number), 6)
        if pattern.search(text[:_JUDGED])
        else round(0.001 * context.share(number), 6)
        for number, (name, pattern) in enumerate(_PATTERNS.items())
    }
    return {
        "categories": {name: score > _THRESHOLD for name, score in scores.items()},
        "category_scores": scores,
    }


def _classified(text: str) -> dict[str, Any]:
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    results = {}
    for target, labels in _TARGETS.items():
        weights = [digest[number] + 1 for number in range(len(labels))]
        scores = {
            label: round(weight / sum(weights), 6) for label, weight in zip(labels, weights, strict=True)
        }
        results[target] = {"scores": scores}
    return results
