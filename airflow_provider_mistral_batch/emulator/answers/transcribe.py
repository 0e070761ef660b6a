"""Transcriptions of audio that nobody has heard."""

from __future__ import annotations

from typing import Any

from airflow_provider_mistral_batch.emulator.answers.context import Context
from airflow_provider_mistral_batch.emulator.answers.text import count_tokens

#: What a second of audio costs, as in the published samples.
TOKENS_PER_SECOND = 12.5


def answer(body: Any, context: Context) -> dict[str, Any]:
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
            "total_tokens": 4 + tokens + int(seconds * TOKENS_PER_SECOND),
            "prompt_audio_seconds": seconds,
        },
        "language": body.get("language") or "en",
        "segments": segments,
        "finish_reason": None,
    }
