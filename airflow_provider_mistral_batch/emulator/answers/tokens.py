"""Tokens of a text: counting them, and cutting a text where its tokens end."""

from __future__ import annotations

#: Characters that count as one token: about what English text needs.
_CHARACTERS_PER_TOKEN = 4


def count_tokens(text: str) -> int:
    """How many tokens a text counts for."""
    return -(-len(text) // _CHARACTERS_PER_TOKEN)


def cut_tokens(text: str, limit: int | None) -> tuple[str, bool]:
    """
    Cut a text to a number of tokens.

    :param limit: The number; ``None`` for no limit.
    :return: The text, and whether it was cut.
    """
    if limit is None or len(text) <= limit * _CHARACTERS_PER_TOKEN:
        return text, False
    return text[: limit * _CHARACTERS_PER_TOKEN], True


def cut_stop(text: str, stop: str | list[str] | None) -> str:
    """
    Cut a text before the first stop sequence in it.

    :param stop: One sequence or several.
    """
    for sequence in [stop] if isinstance(stop, str) else stop or []:
        if sequence:
            text = text.split(sequence, 1)[0]
    return text


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    """The ``usage`` of an answer."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }
