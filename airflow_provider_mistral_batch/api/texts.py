"""Texts from outside: cut, cleaned and freed of the key once, where they come in."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

#: Most characters of a message, and of a code or another word beside it.
MESSAGE_LENGTH, WORD_LENGTH = 500, 200

#: A name, such as that of a file or a model, is data: only one that no decent server gives is cut.
_NAME_LENGTH = 1000

#: Characters that are looked at for each one that is kept, since runs of spaces shrink to one.
_LOOKED_AT = 8

#: Longer than any form of a key, so that a cut leaves no part of one.
_MARGIN = 2000

_HTML_NAMES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&apos;"}


def excerpt(text: str, limit: int = MESSAGE_LENGTH) -> str:
    """
    Make one line of a text from outside, without control characters.

    :param text: Any text.
    :param limit: Most characters to keep.
    """
    if not text.isprintable():
        text = "".join(char if char.isprintable() else " " for char in text)
    text = " ".join(text.split())
    return text if len(text) <= limit else f"{text[:limit]}…"


def sentence(error: object) -> str:
    """
    Give an error's message as a sentence, so that another one can follow.

    :param error: The error, or its message.
    """
    text = str(error)
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."


def us_dollars(amount: float) -> str:
    """
    Write an amount of US dollars: three digits that count of a small one, and never as ``1e-05``.

    :param amount: How many.
    """
    if 1e-9 <= amount < 0.1:
        return f"${amount:.{2 - math.floor(math.log10(amount))}f}"
    return f"${amount:,.2f}"


def kept(text: str, without_secrets: Callable[[str], str], limit: int = MESSAGE_LENGTH) -> str:
    """
    Make of a text of the API what we keep of it: one line of bounded length, without secrets.

    :param text: Any text, of any length.
    :param without_secrets: Removes secrets from a text.
    :param limit: Most characters to keep.
    """
    end = limit * _LOOKED_AT + _MARGIN
    hidden = without_secrets(text[:end])
    # A key that the first cut has parted is in the margin, and goes with it.
    return excerpt(hidden if len(text) <= end else f"{hidden[:-_MARGIN]} {'.' * limit}", limit)


def label(text: str) -> str:
    """
    Make of a name what we keep of it: the name itself, unless it could forge a log line or has no bounds.

    :param text: The name of a file or a model, a purpose, an endpoint.
    """
    return text if text.isprintable() and len(text) <= _NAME_LENGTH else excerpt(text, _NAME_LENGTH)


def kept_label(text: str, without_secrets: Callable[[str], str]) -> str:
    """
    Make of an id what we show of it: the id itself, unless it is long, could forge a log line or holds a secret.

    :param text: The id of a row.
    :param without_secrets: Removes secrets from a text.
    """
    is_plain = len(text) <= WORD_LENGTH and text.isprintable() and without_secrets(text) == text
    return text if is_plain else kept(text, without_secrets, WORD_LENGTH)


def optional_label(text: str | None) -> str | None:
    """Make of a name what we keep of it, if there is one."""
    return None if text is None else label(text)


def forms_of(secret: str) -> re.Pattern[str]:
    """
    Find a secret in a text: as it is, and escaped for a URL, for JSON or for HTML, also several times or in part.

    :param secret: The secret, in ASCII.
    """
    return re.compile("".join(f"(?:{'|'.join(_forms_of_character(char))})" for char in secret))


def _forms_of_character(char: str) -> list[str]:
    code = ord(char)
    # `%2b`, and `%252B` where an escaped text was escaped again; both cases of the digits.
    digits = "".join(f"[{digit}{digit.upper()}]" if digit.isalpha() else digit for digit in f"{code:02x}")
    # JSON may escape a slash, and must escape quotes and backslashes; a text within a text doubles the backslashes.
    plain = rf"\\*{re.escape(char)}" if not char.isalnum() else char
    named = [re.escape(_HTML_NAMES[char])] if char in _HTML_NAMES else []
    return [plain, f"%(?:25)*{digits}", rf"\\+u00{digits}", f"&#0*{code};", f"&#[xX]0*{digits};", *named]
