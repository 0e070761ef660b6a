"""The shapes of the API's answers, by endpoint, and what is read of each."""

from __future__ import annotations

CHAT_BODY = {
    "model": "m",
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    "choices": [{"index": 0, "finish_reason": "length", "message": {"role": "assistant", "content": "Hé"}}],
}


# The shapes of the API's answers, by endpoint.
BODIES = {
    "chat": (CHAT_BODY, ("Hé", "length", 3, 2, "m")),
    "chat in chunks": (
        {
            "model": "m",
            "choices": [
                {
                    "message": {
                        "content": [
                            {"type": "text", "text": "a"},
                            {"type": "thinking"},
                            {"type": "text", "text": "b"},
                        ]
                    }
                }
            ],
        },
        ("ab", None, None, None, "m"),
    ),
    "tool calls only": (
        {"choices": [{"finish_reason": "tool_calls", "message": {"content": None}}]},
        (None, "tool_calls", None, None, None),
    ),
    "embeddings": (
        {"model": "e", "data": [{"embedding": [0.5]}], "usage": {"prompt_tokens": 7}},
        (None, None, 7, None, "e"),
    ),
    "OCR": (
        {"model": "o", "pages": [{"index": 0, "markdown": "# A"}, {"index": 1, "markdown": "B"}]},
        ("# A\n\nB", None, None, None, "o"),
    ),
    "transcription": (
        {"model": "v", "text": "Good evening.", "language": None, "segments": []},
        ("Good evening.", None, None, None, "v"),
    ),
    "conversation": (
        {
            "outputs": [{"type": "tool.execution"}, {"type": "message.output", "content": "Done."}],
            "usage": {"prompt_tokens": 1},
        },
        ("Done.", None, 1, None, None),
    ),
    "moderation": ({"model": "x", "results": [{"categories": {}}]}, (None, None, None, None, "x")),
    "no choices": ({"choices": []}, (None, None, None, None, None)),
    "odd": ({"choices": "none", "model": 5}, (None, None, None, None, None)),
}
