"""What the body of an error says, whichever form the API or a gateway gave it."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from airflow_provider_mistral_batch.api.decoding import UNREADABLE, decoded

#: Objects that are looked into for a message, one within the other.
_MAX_LAYERS = 5

#: Items of a list that become part of a message: a body may list one problem for each field.
_MAX_ITEMS = 5

#: Where a message may be. `detail` comes first, since a `message` beside it only sums it up.
_MESSAGE_FIELDS = ("detail", "message", "msg", "error")

_decode = msgspec.json.Decoder().decode


class ErrorBody(NamedTuple):
    """
    What the body of an error says.

    :param message: The message at its full length; empty if there is none.
    :param code: The API's code of the error.
    :param type: The API's type of the error.
    :param param: The field that the error is about.
    """

    message: str = ""
    code: str | None = None
    type: str | None = None
    param: str | None = None


def decode_error(content: bytes) -> ErrorBody:
    """
    Read the body of an error from its bytes. If they are not JSON, they are the message.

    :param content: The body.
    """
    try:
        value = decoded(_decode, content)
    except UNREADABLE:
        return ErrorBody(content.decode("utf-8", "replace"))
    return read_error(value)


def read_error(value: Any) -> ErrorBody:
    """
    Read the body of an error from its decoded JSON.

    Known forms are the API's ``{"message", "type", "param", "code"}``, its ``{"detail": [{"loc", "msg"}]}``, also
    within ``message``, and the ``{"error": {...}}`` of OpenAI-compatible gateways. An object of another form is its
    own message, unless it has a code.

    :param value: The body.
    """
    if not isinstance(value, dict):
        return ErrorBody(_text(value))
    layers = _layers(value)
    code = _field(layers, "code")
    message = ""
    for layer in layers:
        if message := _message(layer):
            break
    if not message and code is None and layers[0]:
        message = _as_json(layers[0])
    return ErrorBody(message, code, _field(layers, "type"), _field(layers, "param"))


def _layers(value: dict[str, Any]) -> list[dict[str, Any]]:
    """An error and what it wraps, the innermost first: that is the API's own word."""
    layers = [value]
    while len(layers) < _MAX_LAYERS:
        for name in _MESSAGE_FIELDS:
            if isinstance(inner := layers[0].get(name), dict):
                layers.insert(0, inner)
                break
        else:
            break
    return layers


def _field(layers: list[dict[str, Any]], name: str) -> str | None:
    for layer in layers:
        if (value := layer.get(name)) not in (None, ""):
            return _text(value)
    return None


def _message(layer: dict[str, Any]) -> str:
    for name in _MESSAGE_FIELDS:
        if (value := layer.get(name)) and not isinstance(value, dict):
            return _text(value)
    return ""


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        more = len(value) - _MAX_ITEMS
        return "; ".join([*map(_item, value[:_MAX_ITEMS]), *([f"and {more} more"] if more > 0 else [])])
    return _as_json(value)


def _item(value: Any) -> str:
    """One problem of a list."""
    if isinstance(value, str):
        return value
    message = _message(value) if isinstance(value, dict) else ""
    if not message:
        return _as_json(value)
    location = value.get("loc")
    where = ".".join(map(str, location)) if isinstance(location, list) else ""
    return f"{where}: {message}" if where else message


def _as_json(value: Any) -> str:
    try:
        return msgspec.json.encode(value).decode()
    except RecursionError:
        return "a value that is nested too deeply to be shown"
    except OverflowError:
        # It has a number of more than 64 bits.
        return str(value)
