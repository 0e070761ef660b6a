"""The fast path for blocks of rows that are all written alike: one typed decoder checks them, and edits are splices."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from itertools import repeat
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from airflow_provider_mistral_batch.api.decoding import UNREADABLE

# No value fits this type: a row with such a field does not decode.
_Never = Annotated[int, msgspec.Meta(ge=1, le=0)] | msgspec.UnsetType

_NonEmpty = Annotated[str, msgspec.Meta(min_length=1)]


class Message(msgspec.Struct, gc=False):
    """The only field of a chat's message that matters."""

    role: str | None = None


# How programs write rows: the custom_id first, and from its closing quote to the body's first field always the same.
_FORM = re.compile(
    rb'(\{\s*"custom_id"\s*:\s*")[^"\\]*("\s*,\s*)'
    rb'("method"\s*:\s*"POST"\s*,\s*"url"\s*:\s*"[^"\\]*"\s*,\s*)?("body"\s*:\s*\{\s*)("messages"\s*:\s*\[\s*\{\s*)?"'
)

# Names that msgspec takes for fields. No endpoint has others; a template with one leaves all rows to the slow path.
_PLAIN_NAME = re.compile(r'[^"\\\x00-\x1f]+')


class AcceptedRows(NamedTuple):
    """
    Rows as the API takes them.

    :param ids: Their ids.
    :param models: The model of each: the one that its body names, or else the template's.
    :param agents: The agent of each, in the same way.
    :param data: Their bytes, joined by newlines.
    """

    ids: list[str]
    models: list[str | None]
    agents: list[str | None]
    data: bytes


class _Shape(NamedTuple):
    """
    The fields that all rows of a block have.

    :param decode: Decodes rows of this shape, and refuses all others.
    :param has_url: Whether they have ``method`` and ``url``.
    :param has_fields: Whether their bodies have all fields that the template has a value for; otherwise they have none.
    """

    decode: Callable[[bytes], Any]
    has_url: bool
    has_fields: bool


class FastPath:
    """
    Accepts blocks of rows that all have the same fields, and all lack the same.

    Most files consist of such blocks. Taking their rows apart and putting them together would take twice as long.

    :param endpoint: The job's endpoint.
    :param with_url: Whether all accepted rows must have ``method`` and ``url``; otherwise, those that have them keep
        them.
    :param defaults: Fields for bodies that lack them, as JSON.
    :param default_model: The model among them.
    :param default_agent: The agent among them.
    :param system: The message to put before those of a chat that has no system message, as JSON.
    :param partial: A field among the defaults of which bodies may have a part. Such bodies are not accepted.
    """

    def __init__(
        self,
        *,
        endpoint: str,
        with_url: bool,
        defaults: Mapping[str, bytes],
        default_model: str | None,
        default_agent: str | None = None,
        system: bytes | None = None,
        partial: str | None = None,
    ) -> None:
        self._url = endpoint.encode()
        self._with_url = with_url
        self._extras = b'"method":"POST","url":"' + self._url + b'",' if with_url else b""
        self._fields = b"".join([field + b"," for field in defaults.values()])
        self._default_model = default_model
        self._default_agent = default_agent
        self._system = system
        # Most blocks are like the one before: the shape that fitted last is tried first.
        self._shapes = [
            _Shape(
                msgspec.json.Decoder(
                    _row_type(
                        endpoint if has_url else None, defaults, has_fields, with_messages=system is not None
                    )
                ).decode,
                has_url,
                has_fields,
            )
            for has_url in (with_url, not with_url)
            for has_fields in ((False, True) if defaults else (True,))
            if all(map(_PLAIN_NAME.fullmatch, defaults))
            and not (has_fields and partial in defaults)
            and not (system is not None and "messages" in defaults)
        ]

    def accept(self, data: bytes, lines: list[bytes]) -> AcceptedRows | None:
        """
        Check rows, and add what they lack.

        :param data: The rows, joined by newlines.
        :param lines: The same rows, one by one.
        :return: None if the rows are not all of one shape: some may still be acceptable.
        """
        for shape in self._shapes:
            try:
                rows = list(map(shape.decode, lines))
            except UNREADABLE:
                continue
            self._shapes.remove(shape)
            self._shapes.insert(0, shape)
            agents = [row.body.agent_id or self._default_agent for row in rows]
            if self._default_model is not None and not shape.has_fields and any(agents):
                # A request of an agent gets no model.
                return None
            lacks_system = self._lacks_system(rows)
            if lacks_system is None:
                return None
            if lacks_system or (self._with_url and not shape.has_url) or not shape.has_fields:
                changed = self._changed(lines, shape, lacks_system=lacks_system)
                if changed is None:
                    return None
                data = b"\n".join(changed)
            models = [row.body.model or self._default_model for row in rows]
            return AcceptedRows([row.custom_id for row in rows], models, agents, data)
        return None

    def _lacks_system(self, rows: list[Any]) -> bool | None:
        """Tell whether all rows are to get a system message, or none is; ``None`` if only some are."""
        if self._system is None:
            return False
        lacks = {all(message.role != "system" for message in row.body.messages) for row in rows}
        return lacks.pop() if len(lacks) == 1 else None

    def _changed(self, lines: list[bytes], shape: _Shape, *, lacks_system: bool) -> list[bytes] | None:
        """
        Change what is between ``custom_id`` and the body's first value, in rows that are all written alike.

        Up to the seam, each row must have the name ``custom_id`` and the quote that opens its value, and no other
        quote: then the seam is the row's own, and not a part of its body that looks the same.
        """
        form = _FORM.match(lines[0])
        if form is None or (form[3] is not None) != shape.has_url:
            return None
        begin, comma, extras, body, messages = form.groups(b"")
        new_messages = messages
        if lacks_system:
            if not messages or self._system is None:
                return None
            bracket = messages.index(b"[") + 1
            new_messages = messages[:bracket] + self._system + b"," + messages[bracket:]
        seam = comma + extras + body + messages + b'"'
        fields = b"" if shape.has_fields else self._fields
        new_seam = comma + (extras or self._extras) + body + fields + new_messages + b'"'
        heads, seams, tails = zip(*[line.partition(seam) for line in lines], strict=True)
        alike = all(seams) and all(map(bytes.startswith, heads, repeat(begin)))
        if not alike or b"".join(heads).count(b'"') != len(heads) * begin.count(b'"'):
            return None
        # Of a field that a body has twice, the last counts.
        if lacks_system and any(b'"messages"' in tail for tail in tails):
            return None
        return [head + new_seam + tail for head, tail in zip(heads, tails, strict=True)]


def _row_type(
    url: str | None, defaults: Collection[str], has_fields: bool, *, with_messages: bool
) -> type[msgspec.Struct]:
    """
    Make the type of rows of one shape.

    :param url: The rows' ``url``; None if they have neither it nor ``method``.
    :param defaults: Fields of the body that the template has a value for.
    :param has_fields: Whether the rows have all of them, or none.
    :param with_messages: Whether to read the messages of a chat, of which there must be one at least.
    """
    fields: list[Any] = [
        (f"field_{number}", msgspec.Raw, msgspec.field(name=name))
        if has_fields
        else (f"field_{number}", _Never, msgspec.field(name=name, default=msgspec.UNSET))
        for number, name in enumerate(defaults)
        if name not in ("model", "agent_id")
    ]
    for name in ("model", "agent_id"):
        if name not in defaults:
            fields.append((name, str | None, None))
        else:
            fields.append((name, str) if has_fields else (name, _Never, None))
    if with_messages:
        fields.append(("messages", Annotated[list[Message], msgspec.Meta(min_length=1)]))
    body = msgspec.defstruct("Body", fields, gc=False, kw_only=True)
    extras: list[Any] = [] if url is None else [("method", Literal["POST"]), ("url", Literal[url])]
    return msgspec.defstruct(
        "Row", [("custom_id", _NonEmpty), *extras, ("body", body)], gc=False, forbid_unknown_fields=True
    )
