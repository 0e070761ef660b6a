"""Rows that the API takes nearly as they stand: checked and changed without taking them apart, block by block."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from itertools import repeat
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from airflow_provider_mistral_batch.api.decoding import UNREADABLE

# No value is both: a row whose body has a field of this type does not decode.
_Never = Annotated[int, msgspec.Meta(ge=1, le=0)] | msgspec.UnsetType

_NonEmpty = Annotated[str, msgspec.Meta(min_length=1)]

# Where rows that a program wrote differ first is the custom_id. Up to the body's first field all else is the same.
_FORM = re.compile(
    rb'(\{\s*"custom_id"\s*:\s*")[^"\\]*("\s*,\s*)'
    rb'("method"\s*:\s*"POST"\s*,\s*"url"\s*:\s*"[^"\\]*"\s*,\s*)?("body"\s*:\s*\{\s*)"'
)

# Names that msgspec takes for fields. Others, which no endpoint has, are left to whoever takes rows apart.
_PLAIN_NAME = re.compile(r'[^"\\\x00-\x1f]+')


class ReadyRows(NamedTuple):
    """
    Rows as the API takes them.

    :param ids: Their ids.
    :param models: The models that their bodies name.
    :param data: Their bytes, joined by newlines.
    """

    ids: list[str]
    models: list[str | None]
    data: bytes


class _Shape(NamedTuple):
    """
    What rows have.

    :param decode: Decodes rows that have it, and refuses all others.
    :param has_url: Whether they have ``method`` and ``url``.
    :param has_fields: Whether their bodies have all fields that the template has a value for, or none.
    """

    decode: Callable[[bytes], Any]
    has_url: bool
    has_fields: bool


class ReadyRowReader:
    """
    Reads blocks of rows that all have the same, and lack the same.

    Most files are so, and taking rows apart and putting them together takes twice as long.

    :param endpoint: The job's endpoint.
    :param with_url: Whether rows are to have ``method`` and ``url``.
    :param defaults: Fields for each body, as JSON.
    :param default_model: The model among them.
    """

    def __init__(
        self, *, endpoint: str, with_url: bool, defaults: Mapping[str, bytes], default_model: str | None
    ) -> None:
        self._url = endpoint.encode()
        self._with_url = with_url
        self._extras = b'"method":"POST","url":"' + self._url + b'",' if with_url else b""
        self._fields = b"".join([field + b"," for field in defaults.values()])
        self._default_model = default_model
        # Most blocks are like the one before: the shape that it had is tried first.
        self._shapes = [
            _Shape(
                msgspec.json.Decoder(_row_type(endpoint if has_url else None, defaults, has_fields)).decode,
                has_url,
                has_fields,
            )
            for has_url in (with_url, not with_url)
            for has_fields in ((False, True) if defaults else (True,))
            if all(map(_PLAIN_NAME.fullmatch, defaults))
        ]

    def read(self, data: bytes, lines: list[bytes]) -> ReadyRows | None:
        """
        Check rows, and give them what they lack.

        :param data: The rows, joined by newlines.
        :param lines: The rows.
        :return: None if any row is not acceptable, or is written otherwise.
        """
        for shape in self._shapes:
            try:
                rows = list(map(shape.decode, lines))
            except UNREADABLE:
                continue
            self._shapes.remove(shape)
            self._shapes.insert(0, shape)
            if shape.has_url != self._with_url or not shape.has_fields:
                changed = self._changed(lines, shape)
                if changed is None:
                    return None
                data = b"\n".join(changed)
            models = [row.body.model or self._default_model for row in rows]
            return ReadyRows([row.custom_id for row in rows], models, data)
        return None

    def _changed(self, lines: list[bytes], shape: _Shape) -> list[bytes] | None:
        """
        Change what is between ``custom_id`` and the body's first field, in rows that are all written alike.

        Before that place, each row must have the name ``custom_id`` and the quote that begins its value, and no other
        quote: so the place is the row's own, and no part of its body.
        """
        form = _FORM.match(lines[0])
        if form is None or (form[3] is not None) != shape.has_url:
            return None
        begin, comma, extras, body = form.groups(b"")
        seam = comma + extras + body + b'"'
        fields = b"" if shape.has_fields else self._fields
        new = comma + self._extras + body + fields + b'"'
        heads, seams, tails = zip(*[line.partition(seam) for line in lines], strict=True)
        alike = all(seams) and all(map(bytes.startswith, heads, repeat(begin)))
        if not alike or b"".join(heads).count(b'"') != len(heads) * begin.count(b'"'):
            return None
        return [head + new + tail for head, tail in zip(heads, tails, strict=True)]


def _row_type(url: str | None, defaults: Collection[str], has_fields: bool) -> type[msgspec.Struct]:
    """
    Give the type of rows of one shape.

    :param url: The rows' ``url``; None if they have neither it nor ``method``.
    :param defaults: Fields of the body that the template has a value for.
    :param has_fields: Whether the rows have all of them, or none.
    """
    fields: list[Any] = [
        (f"field_{number}", msgspec.Raw, msgspec.field(name=name))
        if has_fields
        else (f"field_{number}", _Never, msgspec.field(name=name, default=msgspec.UNSET))
        for number, name in enumerate(defaults)
        if name != "model"
    ]
    if "model" not in defaults:
        fields.append(("model", str | None, None))
    else:
        fields.append(("model", str | None) if has_fields else ("model", _Never, None))
    body = msgspec.defstruct("Body", fields, gc=False, kw_only=True)
    extras: list[Any] = [] if url is None else [("method", Literal["POST"]), ("url", Literal[url])]
    return msgspec.defstruct(
        "Row", [("custom_id", _NonEmpty), *extras, ("body", body)], gc=False, forbid_unknown_fields=True
    )
