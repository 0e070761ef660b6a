"""Which columns an answer becomes, and of which types: from the endpoint, or from the JSON schema of its answers."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_provider_mistral_batch.api.errors import InvalidInputError

if TYPE_CHECKING:
    import pyarrow

#: Columns that stand after the answer, whatever it is, and Arrow's names of their types.
ABOUT_ANSWER = {
    "model": "string",
    "finish_reason": "string",
    "prompt_tokens": "int64",
    "completion_tokens": "int64",
    "status": "string",
    "error": "string",
}

#: The answer's text, for endpoints and models without fields of their own.
ANSWER = "answer"

#: In the metadata of a field whose texts are JSON, since its values have no one type.
IS_JSON = b"is_json"

_DEEPEST = 20

_encode = msgspec.json.Encoder().encode


class Column(msgspec.Struct, frozen=True):
    """
    One column of an answer with fields.

    :param name: The field.
    :param type: Its Arrow type.
    :param read: Makes a value of this type of what JSON has; raises ValueError if it does not fit.
    :param holds_json: Whether it is a text with the field's JSON, whose values have no one type.
    """

    name: str
    type: Any
    read: Callable[[Any], Any]
    holds_json: bool = False

    def field(self) -> pyarrow.Field:
        """Give the field of a schema."""
        import pyarrow

        return pyarrow.field(self.name, self.type, metadata={IS_JSON: b"1"} if self.holds_json else None)


def schema_columns(schema: Mapping[str, Any]) -> list[Column] | None:
    """
    Choose the columns of answers that match a JSON schema: one for each field of the outermost object.

    Objects become structs, arrays lists, texts with the format ``date`` or ``date-time`` dates and times, and enums of
    texts dictionaries. A field whose values have no one type, such as a union of a text and an object, becomes a text
    with its JSON.

    :param schema: The schema.
    :return: The columns; None if the answers are no objects with named fields.
    """
    root = _resolved(schema, schema)
    properties = root.get("properties")
    if not isinstance(properties, Mapping) or not properties:
        return None
    return [_column(name, one, schema) for name, one in properties.items()]


def check_names(key_and_kept: Sequence[str], fields: Sequence[str], about: Sequence[str]) -> None:
    """
    Check that no column is there twice, in the results or in the errors.

    :param key_and_kept: The columns of the key and those to keep.
    :param fields: The columns of the answer.
    :param about: The columns that stand after the answer.
    :raises InvalidInputError: When a field of the answer has the name of another column.
    """
    for name in fields:
        if name in about:
            raise InvalidInputError(
                f"response_model: the field {name!r} has the name of a column that each table of answers has: rename "
                "the field"
            )
    for name in key_and_kept:
        # The errors have the text of an answer, whatever columns it becomes.
        if name in (*fields, *about, ANSWER):
            raise InvalidInputError(
                f"key or keep: the column {name!r} has the name of a column of the answers: rename it in the source, "
                f"for example with 'select {name} as source_{name}'"
            )


def _column(name: str, node: Any, root: Mapping[str, Any]) -> Column:
    import pyarrow

    found = _type(node, root, _DEEPEST)
    return Column(name, *found) if found else Column(name, pyarrow.string(), _as_json, holds_json=True)


def _type(node: Any, root: Mapping[str, Any], depth: int) -> tuple[Any, Callable[[Any], Any]] | None:
    """Choose the Arrow type of a part of a schema, and how its values are read; None if they have no one type."""
    import pyarrow

    node = _resolved(node, root)
    kind = node.get("type")
    if isinstance(kind, list):
        kinds = [one for one in kind if one != "null"]
        kind = kinds[0] if len(kinds) == 1 else None
    if (union := node.get("anyOf") or node.get("oneOf")) is not None:
        rest = [one for one in union if _resolved(one, root).get("type") != "null"]
        return _type(rest[0], root, depth) if len(rest) == 1 and depth else None
    values = node.get("enum", [node["const"]] if "const" in node else None)
    if values and all(isinstance(value, str) or value is None for value in values):
        # Dictionaries in lists and structs are more than most readers of Parquet know.
        top = pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
        return (top if depth == _DEEPEST else pyarrow.string()), _text
    if kind == "array" and isinstance(node.get("items"), Mapping) and depth:
        item = _type(node["items"], root, depth - 1)
        return None if item is None else (pyarrow.list_(item[0]), _list_reader(item[1]))
    if kind == "object" and node.get("properties") and depth:
        fields = {name: _type(one, root, depth - 1) for name, one in node["properties"].items()}
        known = {name: one for name, one in fields.items() if one is not None}
        if len(known) < len(fields):
            return None
        struct = pyarrow.struct([(name, one) for name, (one, _) in known.items()])
        return struct, _struct_reader({name: read for name, (_, read) in known.items()})
    if kind == "string" and node.get("format") == "date":
        return pyarrow.date32(), datetime.date.fromisoformat
    if kind == "string" and node.get("format") == "date-time":
        return pyarrow.timestamp("us", tz="UTC"), _time
    plain = {
        "string": (pyarrow.string(), _text),
        "integer": (pyarrow.int64(), _whole),
        "number": (pyarrow.float64(), _number),
        "boolean": (pyarrow.bool_(), _boolean),
    }
    return plain.get(str(kind))


def _resolved(node: Any, root: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follow references within the schema; what leads nowhere, or in a circle, says nothing."""
    for _ in range(_DEEPEST):
        if not isinstance(node, Mapping):
            return {}
        parts = node.get("allOf")
        if isinstance(parts, Sequence) and len(parts) == 1:
            node = {**node, **_resolved(parts[0], root)}
            return {name: value for name, value in node.items() if name != "allOf"}
        reference = node.get("$ref")
        if not isinstance(reference, str) or not reference.startswith("#"):
            return node
        target: Any = root
        for step in reference.removeprefix("#").strip("/").split("/"):
            name = step.replace("~1", "/").replace("~0", "~")
            target = target.get(name) if isinstance(target, Mapping) and name else target
        node = target
    return {}


def _text(value: Any) -> Any:
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{value!r:.60} is not a string")
    return value


def _whole(value: Any) -> Any:
    if value is None or (
        isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63
    ):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    raise ValueError(f"{value!r:.60} is not a whole number of 64 bits")


def _number(value: Any) -> Any:
    if value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)):
        try:
            return None if value is None else float(value)
        except OverflowError:
            pass
    raise ValueError(f"{value!r:.60} is not a number of 64 bits")


def _boolean(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    raise ValueError(f"{value!r:.60} is neither true nor false")


def _time(value: Any) -> Any:
    text = _text(value).upper()
    try:
        # Python 3.10 does not read a Z.
        moment = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        # Nor fractions of one digit.
        moment = _moment(text)
    try:
        # Near the first and the last year, UTC may have no such moment.
        return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.timezone.utc)).astimezone(
            datetime.timezone.utc
        )
    except OverflowError:
        raise ValueError(f"{value!r:.60} is out of range in UTC") from None


def _moment(text: str) -> datetime.datetime:
    try:
        return msgspec.convert(text, datetime.datetime)
    except msgspec.ValidationError:
        # No ValueError in older versions of msgspec.
        raise ValueError(f"{text!r:.60} is not a time") from None


def _as_json(value: Any) -> Any:
    return _encode(value).decode()


def _list_reader(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def as_list(value: Any) -> Any:
        if not isinstance(value, list):
            raise ValueError(f"{value!r:.60} is not a list")
        return [None if one is None else read(one) for one in value]

    return as_list


def _struct_reader(fields: Mapping[str, Callable[[Any], Any]]) -> Callable[[Any], Any]:
    def as_struct(value: Any) -> Any:
        if not isinstance(value, dict):
            raise ValueError(f"{value!r:.60} is not an object")
        return {
            name: None if (one := value.get(name)) is None else read(one) for name, read in fields.items()
        }

    return as_struct
