"""``/v1/audio/transcriptions``: a made-up transcription of the recording."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator
from typing_extensions import NotRequired, TypedDict

from airflow_provider_mistral_batch.emulator.answers.context import Context
from airflow_provider_mistral_batch.emulator.answers.tokens import count_tokens

#: Tokens of a second of audio, as in the samples of the API's documentation.
_TOKENS_PER_SECOND = 12.5


class _Transcription(TypedDict):
    """Body of ``/v1/audio/transcriptions``."""

    model: NotRequired[str | None]
    file_url: NotRequired[str | None]
    file_id: NotRequired[str | None]
    language: NotRequired[str | None]
    timestamp_granularities: NotRequired[list[Literal["segment", "word"]] | None]


def _check_source(transcription: _Transcription) -> _Transcription:
    if not transcription.get("file_url") and not transcription.get("file_id"):
        raise ValueError("one of file_url and file_id is required")
    return transcription


Transcription = Annotated[_Transcription, AfterValidator(_check_source)]


def answer_transcription(body: Any, context: Context) -> dict[str, Any]:
    """Answer a body of ``/v1/audio/transcriptions``."""
    source = body.get("file_url") or body["file_id"]
    name = source.split("?")[0].rsplit("/", 1)[-1]
    text = f"This is a recording called {name}. The emulator has not listened to it."
    seconds = 5 + int(context.share(0) * 200)
    tokens = count_tokens(text)
    segments = []
    if body.get("timestamp_granularities"):
        half = len("This is a recording called ") + len(name) + 1
        parts = ((text[:half], 0.0, seconds / 2), (text[half:].strip(), seconds / 2, float(seconds)))
        segments = [
            {"text": part, "start": start, "end": end, "type": "transcription_segment"}
            for part, start, end in parts
        ]
    return {
        "model": context.model,
        "text": text,
        "usage": {
            "prompt_tokens": 4,
            "completion_tokens": tokens,
            "total_tokens": 4 + tokens + int(seconds * _TOKENS_PER_SECOND),
            "prompt_audio_seconds": seconds,
        },
        "language": body.get("language") or "en",
        "segments": segments,
        "finish_reason": None,
    }
