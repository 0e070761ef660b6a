"""Which endpoint answers how: a body is checked, its model found, and the endpoint's function called."""

from __future__ import annotations

import time
from collections.abc import Callable
from hashlib import blake2b
from typing import Any

from pydantic import TypeAdapter, ValidationError

from airflow_provider_mistral_batch.emulator.answers import (
    bodies,
    chat,
    classify,
    conversations,
    embeddings,
    fim,
    moderate,
    ocr,
    transcribe,
)
from airflow_provider_mistral_batch.emulator.answers.context import Context
from airflow_provider_mistral_batch.emulator.engine.rows import Answer

_Endpoint = tuple["TypeAdapter[Any]", Callable[[Any, Context], "dict[str, Any]"]]

ENDPOINTS: dict[str, _Endpoint] = {
    "/v1/chat/completions": (TypeAdapter(bodies.Chat), chat.answer),
    "/v1/embeddings": (TypeAdapter(bodies.Embeddings), embeddings.answer),
    "/v1/fim/completions": (TypeAdapter(bodies.Fim), fim.answer),
    "/v1/moderations": (TypeAdapter(bodies.Texts), moderate.answer),
    "/v1/chat/moderations": (TypeAdapter(bodies.ChatModeration), moderate.answer_chats),
    "/v1/ocr": (TypeAdapter(bodies.Ocr), ocr.answer),
    "/v1/classifications": (TypeAdapter(bodies.Texts), classify.answer),
    "/v1/chat/classifications": (TypeAdapter(bodies.ChatClassification), classify.answer_chats),
    "/v1/conversations": (TypeAdapter(bodies.Conversation), conversations.answer),
    "/v1/audio/transcriptions": (TypeAdapter(bodies.Transcription), transcribe.answer),
}


def make_answer(endpoint: str, model: str | None, agent_id: str | None, dimension: int) -> Answer:
    """A function that answers the request bodies of one job.

    :param model: the job's model, for bodies that name none.
    :param agent_id: the job's agent, which has a model of its own.
    :param dimension: length of embeddings that don't ask for another one.
    """
    adapter, respond = ENDPOINTS[endpoint]

    def answer(raw: bytes) -> tuple[int, Any]:
        try:
            body = adapter.validate_json(bytes(raw))
        except ValidationError as error:
            return 422, {"detail": problems(error)}
        agent = body.get("agent_id") or agent_id
        name = body.get("model") or model or (f"agent:{agent}" if agent else None)
        if name is None:
            return 422, {"detail": [{"loc": ["body", "model"], "msg": "Field required", "type": "missing"}]}
        digest = blake2b(raw, digest_size=16).hexdigest()
        context = Context(
            model=name, agent_id=agent, id=digest, created=int(time.time()), dimension=dimension
        )
        return 200, respond(body, context)

    return answer


def problems(error: ValidationError) -> list[dict[str, Any]]:
    """A 422's ``detail``."""
    return [
        {"loc": ["body", *one["loc"]], "msg": one["msg"], "type": one["type"]}
        for one in error.errors(include_url=False, include_context=False, include_input=False)
    ]
