"""From columns to request bodies: a body is encoded once, and each row's texts are put into their places."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from airflow_provider_mistral_batch.api.endpoints import CHAT, ENDPOINTS
from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.jsonl.requests.template import RowTemplate
from airflow_provider_mistral_batch.tables.json_texts import all_as_json, as_json, bytes_of, joined
from airflow_provider_mistral_batch.tables.prompt import Prompt
from airflow_provider_mistral_batch.tables.sources.documents import FILE_ID

if TYPE_CHECKING:
    import pyarrow

_encode = msgspec.json.Encoder().encode

# A text that stands for a row's own; no user writes it, since no row may have it.
_MARK = "\x00text-{}\x00"
_ENCODED_MARK = re.compile(rb'"\\u0000text-(\d+)\\u0000"')

#: Fields of messages that are names, not texts.
_NAMES = frozenset({"role", "type"})


class Text(Protocol):
    """A template of one text of a request."""

    template: str

    @property
    def columns(self) -> list[str]: ...

    def parts(self, rows: pyarrow.RecordBatch) -> list[str | pyarrow.StringArray]: ...


class Bodies:
    """
    The bodies of a table's requests.

    :param texts: The templates in the body.
    :param before: Makes the body with texts in place of what the templates give.
    """

    def __init__(self, texts: Sequence[Text], body: Mapping[str, Any]) -> None:
        self.texts = texts
        encoded = _encode(body)
        #: The body's JSON, cut where texts go: static, number of a text, static, …
        self._cut = _ENCODED_MARK.split(encoded)

    @property
    def common(self) -> bytes:
        """What the bodies have in common: all but the rows' texts."""
        return b"\x00".join(self._cut + [text.template.encode() for text in self.texts])

    def lines(
        self, custom_ids: pyarrow.StringArray, texts: Sequence[Sequence[str | pyarrow.StringArray]]
    ) -> bytes:
        """
        Make request lines, joined by newlines.

        :param custom_ids: The id of each row, of one row at least.
        :param texts: For each of :attr:`texts`, the texts of the rows in parts.
        """
        parts = ['{"custom_id":"', all_as_json(custom_ids), '","body":']
        for index, cut in enumerate(self._cut):
            if index % 2 == 0:
                parts.append(cut.decode())
            else:
                written = [
                    as_json(part) if isinstance(part, str) else all_as_json(part) for part in texts[int(cut)]
                ]
                parts += ['"', *written, '"']
        return bytes_of(joined([*parts, "}\n"]))[:-1]


def bodies_of_prompt(prompt: Text, template: RowTemplate, endpoint: str) -> Bodies:
    """
    Make bodies of one prompt a row.

    :param prompt: The template of the prompt.
    :param template: What all bodies have in common.
    :param endpoint: The job's endpoint.
    """
    return Bodies([prompt], template.body(_MARK.format(0), endpoint))


def bodies_of_messages(messages: Sequence[Mapping[str, Any]], template: RowTemplate) -> Bodies:
    """
    Make bodies of chat messages, which may have columns in each text and URL.

    :param messages: The messages.
    :param template: What all bodies have in common.
    """
    texts: list[Text] = []

    def marked(value: Any) -> Any:
        if isinstance(value, str):
            prompt = Prompt(value, field="messages")
            if not prompt.columns:
                return prompt.literal
            texts.append(prompt)
            return _MARK.format(len(texts) - 1)
        if isinstance(value, Mapping):
            return {name: one if name in _NAMES else marked(one) for name, one in value.items()}
        if isinstance(value, (list, tuple)):
            return [marked(one) for one in value]
        return value

    filled = [marked(message) for message in messages]
    if template.system is not None and not any(one.get("role") == "system" for one in filled):
        filled.insert(0, {"role": "system", "content": template.system})
    return Bodies(texts, {**template.defaults(), "messages": filled})


def bodies_of_files(template: RowTemplate, endpoint: str) -> Bodies:
    """
    Make bodies that name an uploaded file each, by the column ``file_id``.

    :param template: What all bodies have in common.
    :param endpoint: The job's endpoint.
    :raises InvalidInputError: When its bodies name no file.
    """
    files = ENDPOINTS[endpoint].files
    if files is None or files.fields is None:
        reading = " and ".join(path for path, one in ENDPOINTS.items() if one.files and one.files.fields)
        raise InvalidInputError(
            f"endpoint={endpoint!r}: its requests need more than a document. Pass endpoint, which reads files alone "
            f"with {reading}; or ask {CHAT} about documents with messages that have {{file_id}} in a content of type "
            "'file'"
        )
    body = {**template.defaults(), **files.fields(_MARK.format(0))}
    return Bodies([Prompt(f"{{{FILE_ID}}}")], body)


def check_messages(messages: Any, endpoint: str) -> None:
    """
    Check the parameter ``messages``.

    :param messages: Its value.
    :param endpoint: The job's endpoint.
    :raises InvalidInputError: When it is no list of messages, has no column, or the endpoint has no messages.
    """
    if endpoint != CHAT:
        raise InvalidInputError(f"messages: {endpoint} has none, only {CHAT} has; pass prompt instead")
    if (
        not isinstance(messages, Sequence)
        or isinstance(messages, (str, bytes))
        or not messages
        or not all(isinstance(one, Mapping) and isinstance(one.get("role"), str) for one in messages)
    ):
        raise InvalidInputError(
            f"messages={messages!r:.80} is not a list of messages: pass dicts with role and content, such as "
            "[{'role': 'user', 'content': 'Summarise: {body}'}]"
        )
    if not bodies_of_messages(messages, RowTemplate()).texts:
        raise InvalidInputError(
            f"messages={messages!r:.80} names no column, so all rows would ask the same: write columns into braces, "
            "such as {body}"
        )
