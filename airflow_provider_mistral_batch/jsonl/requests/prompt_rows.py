"""Rows that are an id and a prompt, ``{"custom_id": …, "prompt": …}``, become rows with a body."""

from __future__ import annotations

from typing import Annotated

import msgspec

from airflow_provider_mistral_batch.api.decoding import UNREADABLE
from airflow_provider_mistral_batch.jsonl.requests.encoding import encoded
from airflow_provider_mistral_batch.jsonl.requests.template import RowTemplate

_NonEmpty = Annotated[str, msgspec.Meta(min_length=1)]

# A text that stands for a row's own, and what it is in JSON.
_MARK = "\x00prompt\x00"
_ENCODED_MARK = rb'"\u0000prompt\u0000"'

_encode = msgspec.json.Encoder().encode


class PromptRow(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """A row with a prompt in place of a body."""

    prompt: str
    custom_id: _NonEmpty | None = None
    method: str | None = None
    url: str | None = None


_decode = msgspec.json.Decoder(PromptRow).decode


class PromptRows:
    """
    Makes rows with a body of rows with a prompt. The body is encoded once, and prompts are put into it.

    :param template: What all bodies have in common, fitted to the endpoint and known to be JSON.
    :param endpoint: The job's endpoint.
    """

    def __init__(self, template: RowTemplate, endpoint: str) -> None:
        body = encoded(template.body(_MARK, endpoint))
        assert isinstance(body, bytes)
        self._before, _, self._after = body.rpartition(_ENCODED_MARK)

    def with_bodies(self, data: bytes, lines: list[bytes]) -> list[bytes] | None:
        """
        Give rows, where those with a prompt have a body instead.

        :param data: The rows, joined by newlines.
        :param lines: The same rows, one by one.
        :return: None if no row has a prompt.
        """
        if b'"prompt"' not in data:
            return None
        changed = [self._with_body(line) for line in lines]
        if not any(changed):
            return None
        return [line if new is None else new for line, new in zip(lines, changed, strict=True)]

    def with_body(self, line: bytes) -> bytes:
        """
        Give a row with a prompt a body instead.

        :param line: The row.
        :raises UNREADABLE: When it is no such row.
        """
        row = _decode(line)
        head = b"{" if row.custom_id is None else b'{"custom_id":%b,' % _encode(row.custom_id)
        if row.method is not None:
            head += b'"method":%b,' % _encode(row.method)
        if row.url is not None:
            head += b'"url":%b,' % _encode(row.url)
        return b'%b"body":%b%b%b}' % (head, self._before, _encode(row.prompt), self._after)

    def _with_body(self, line: bytes) -> bytes | None:
        try:
            return self.with_body(line)
        except UNREADABLE:
            return None
