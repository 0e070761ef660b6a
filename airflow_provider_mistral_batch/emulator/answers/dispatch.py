"""From a request to its answer: the body is checked, the model is found, and the endpoint's function is called."""

from __future__ import annotations

import time
from collections.abc import Callable
from hashlib import blake2b
from typing import Any

from pydantic import TypeAdapter, ValidationError

from airflow_provider_mistral_batch.emulator.answers.classifiers import (
    ChatClassification,
    ChatModeration,
    Texts,
    answer_chat_classifications,
    answer_chat_moderations,
    answer_classifications,
    answer_moderations,
)
from airflow_provider_mistral_batch.emulator.answers.completions import Chat, Fim, answer_chat, answer_fim
from airflow_provider_mistral_batch.emulator.answers.context import Context
from airflow_provider_mistral_batch.emulator.answers.conversations import Conversation, answer_conversation
from airflow_provider_mistral_batch.emulator.answers.embeddings import Embeddings, answer_embeddings
from airflow_provider_mistral_batch.emulator.answers.errors import TooLarge, invalid_body
from airflow_provider_mistral_batch.emulator.answers.ocr import Ocr, answer_ocr
from airflow_provider_mistral_batch.emulator.answers.transcriptions import Transcription, answer_transcription

#: Takes a request's body as JSON, and returns a status code and the answer's body.
Answer = Callable[[bytes], "tuple[int, Any]"]

_Endpoint = tuple["TypeAdapter[Any]", Callable[[Any, Context], "dict[str, Any]"]]

_ENDPOINTS: dict[str, _Endpoint] = {
    "/v1/chat/completions": (TypeAdapter(Chat), answer_chat),
    "/v1/embeddings": (TypeAdapter(Embeddings), answer_embeddings),
    "/v1/fim/completions": (TypeAdapter(Fim), answer_fim),
    "/v1/moderations": (TypeAdapter(Texts), answer_moderations),
    "/v1/chat/moderations": (TypeAdapter(ChatModeration), answer_chat_moderations),
    "/v1/ocr": (TypeAdapter(Ocr), answer_ocr),
    "/v1/classifications": (TypeAdapter(Texts), answer_classifications),
    "/v1/chat/classifications": (TypeAdapter(ChatClassification), answer_chat_classifications),
    "/v1/conversations": (TypeAdapter(Conversation), answer_conversation),
    "/v1/audio/transcriptions": (TypeAdapter(Transcription), answer_transcription),
}


def make_answer(endpoint: str, model: str | None, agent_id: str | None, dimension: int) -> Answer:
    """
    Make the function that answers the requests of one job.

    :param endpoint: The job's endpoint.
    :param model: The job's model, for bodies that name none.
    :param agent_id: The job's agent, for bodies that name none. An agent has a model of its own.
    :param dimension: How many numbers an embedding has, unless the body says so.
    """
    adapter, respond = _ENDPOINTS[endpoint]

    def answer(raw: bytes) -> tuple[int, Any]:
        try:
            body = adapter.validate_json(bytes(raw))
        except ValidationError as error:
            problems = error.errors(include_url=False, include_context=False, include_input=False)
            return 422, invalid_body(*((("body", *one["loc"]), one["msg"], one["type"]) for one in problems))
        agent = body.get("agent_id") or agent_id
        name = body.get("model") or model or (f"agent:{agent}" if agent else None)
        if name is None:
            return 422, invalid_body((("body", "model"), "Field required", "missing"))
        digest = blake2b(raw, digest_size=16).hexdigest()
        context = Context(
            model=name, agent_id=agent, id=digest, created=int(time.time()), dimension=dimension
        )
        try:
            return 200, respond(body, context)
        except TooLarge:
            message = "The answer would be too large for the emulator, or too hard to find"
            return 422, invalid_body((("body",), message, "too_complex"))

    return answer
