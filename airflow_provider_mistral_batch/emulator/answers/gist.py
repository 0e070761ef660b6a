"""The emulator's answer to a prompt: the gist of the text in it, in a sentence or two of that text."""

from __future__ import annotations

import re

#: Characters that are read of a prompt, and that a gist has at most.
_READ = 6_000
_LONGEST_GIST = 400

#: A prompt without an instruction is a question up to this many characters; a longer one is a text.
_QUESTION = 200

_INSTRUCTION = re.compile(
    r"\W*(?:please |can you |could you |in (?:one|two|a few) \w+,? |briefly )*"
    r"(?:summari[sz]e|explain|describe|rewrite|translate|classify|extract|shorten|condense|give|write|tell|answer"
    r"|read|provide|make|create|list|what)\b",
    re.IGNORECASE,
)
_HEADING = re.compile(r"^.*\n[ \t]*([*=\-~^#\"'+_.`])\1{2,}[ \t]*$|^#+ .*$", re.MULTILINE)
_SENTENCE_END = re.compile(
    r"(?<![ .][a-zA-Z]\.)(?<!etc\.)(?<!vs\.)(?<=[.!?:])[\"')\]]*\s+(?=[\"'(\[*`]?[A-Z0-9])"
)
_VERSION_NOTE = re.compile(r"(?:New|Changed|Added|Deprecated)(?: in version| since) \d")
_SPACES = re.compile(r"\s+")


def reply(prompt: str) -> str:
    """
    Answer a prompt.

    :return: The gist of the text in the prompt. If it has none, a sentence that repeats the question.
    """
    text = _text_in(prompt[:_READ])
    gist = _first_sentences(_prose(text)) if text else ""
    if gist:
        return gist
    question = _SPACES.sub(" ", prompt[:_QUESTION]).strip()
    if not question:
        return "There is nothing to answer."
    return f"You asked: {question} (The emulator has no model to answer it; --upstream lets it ask one.)"


def _text_in(prompt: str) -> str:
    """The text in a prompt, without the instruction; empty if there is only an instruction or a question."""
    first, blank_line, rest = prompt.strip().partition("\n\n")
    is_instruction = _INSTRUCTION.match(first) is not None or first.endswith(":")
    if blank_line and is_instruction and len(first) < 1_000:
        return rest
    if is_instruction:
        line, newline, rest = prompt.strip().partition("\n")
        if newline and len(line) < _QUESTION:
            return rest
        head, colon, rest = prompt.partition(": ")
        if colon and len(head) < _QUESTION:
            return rest
        sentences = _SENTENCE_END.split(prompt, maxsplit=1)
        return sentences[1] if len(sentences) == 2 and len(sentences[1]) > _QUESTION else ""
    return prompt if len(prompt) > _QUESTION else ""


def _prose(text: str) -> str:
    """The sentences of a text, without headings, fragments and, if there is more than that, indented code."""
    fluent: list[str] = []
    other: list[str] = []
    for paragraph in re.split(r"\n\s*\n", _HEADING.sub("", text)):
        lines = [line for line in paragraph.split("\n") if line.strip()]
        words = _SPACES.sub(" ", " ".join(lines)).strip()
        if words.count(" ") < 3 or _VERSION_NOTE.match(words):
            continue
        words = words[:-1] + "." if words.endswith(":") else words
        is_indented = all(line[0] in " \t" for line in lines)
        (other if is_indented else fluent).append(words)
    return " ".join(fluent or other)


def _first_sentences(prose: str) -> str:
    """The first sentence; the first two if they are short."""
    sentences = _SENTENCE_END.split(prose, maxsplit=2)[:2]
    gist = sentences[0]
    if len(sentences) == 2 and len(gist) + len(sentences[1]) < _LONGEST_GIST * 3 // 4:
        gist = f"{gist} {sentences[1]}"
    if len(gist) > _LONGEST_GIST:
        gist = gist[:_LONGEST_GIST].rsplit(" ", 1)[0] + " …"
    return gist[:-1] + "." if gist.endswith(":") else gist
