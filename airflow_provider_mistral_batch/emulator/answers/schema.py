"""JSON that satisfies a JSON schema. Its strings are made of the words of a text."""

from __future__ import annotations

import re
from typing import Any

from airflow_provider_mistral_batch.emulator.answers.errors import TooLarge

_WORD = re.compile(r"\w+")

#: At this depth, and after so many values, only what a schema requires is made: it may refer to itself.
_MAX_DEPTH = 12
_MANY = 1_000

#: Characters of a word that a pattern is tried on.
_LONGEST_WORD = 20

#: The depth of a value that would have no end; no value is that deep.
_ENDLESS = 1_000_000

#: Values, characters and looks at parts of a schema that one answer may take in all.
_MOST_WORK = 300_000

_FORMATS = {
    "date": "2025-01-31",
    "date-time": "2025-01-31T12:00:00Z",
    "time": "12:00:00Z",
    "duration": "P1D",
    "email": "someone@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "url": "https://example.com/",
    "uuid": "6f1c4c1e-0f0b-4f7e-8a55-3f2f9a4f9a11",
}


def instance(schema: dict[str, Any], text: str) -> Any:
    """
    Make a value that satisfies a JSON schema.

    :param schema: The schema. Supported are types, ``enum``, ``const``, ``$ref``, ``anyOf``, ``oneOf``, ``allOf``,
        bounds of numbers, strings and arrays, common formats, and patterns of literals, classes and repetitions.
    :param text: Where the value's strings come from.
    :raises TooLarge: If the schema needs a value, or work to find one, that is too large.
    """
    try:
        return _Maker(schema, _WORD.findall(text[:2_000]) or ["text"]).value(schema, 0)
    except (RecursionError, OverflowError):
        raise TooLarge from None


class _Maker:
    """Makes values for the parts of one schema."""

    def __init__(self, root: dict[str, Any], words: list[str]) -> None:
        self._root = root
        self._words = words
        self._next = 0
        self._made = 0
        self._left = _MOST_WORK

    def value(self, schema: Any, depth: int) -> Any:
        if schema is True or not isinstance(schema, dict):
            return self._string({})
        self._made += 1
        self._spend(1)
        must_end = depth >= _MAX_DEPTH or self._made > _MANY
        schema = self._resolved(schema, must_end)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return schema["enum"][self._take() % len(schema["enum"])]
        kind = self._kind(schema, must_end)
        if kind == "object":
            return self._object(schema, depth, must_end)
        if kind == "array":
            return self._array(schema, depth, must_end)
        if kind in ("integer", "number"):
            return self._number(schema, kind)
        if kind == "boolean":
            return self._take() % 2 == 0
        return None if kind == "null" else self._string(schema)

    def _spend(self, work: int) -> None:
        self._left -= work
        if self._left < 0:
            raise TooLarge

    def _take(self) -> int:
        self._next += 1
        return self._next - 1

    def _resolved(self, schema: dict[str, Any], must_end: bool) -> dict[str, Any]:
        """
        The schema with references followed, alternatives chosen and parts merged.

        :param must_end: Choose the alternatives whose values are the least deep, instead of the first ones.
        """
        for _ in range(_MAX_DEPTH):
            self._spend(1)
            if "$ref" in schema:
                schema = {**self._referred(schema["$ref"]), **_without(schema, "$ref")}
            elif schema.get("anyOf") or schema.get("oneOf"):
                name = "anyOf" if schema.get("anyOf") else "oneOf"
                chosen = min(schema[name], key=self._least_depth) if must_end else schema[name][0]
                schema = _merged(_without(schema, name), chosen)
            elif schema.get("allOf"):
                parts = schema["allOf"]
                schema = _without(schema, "allOf")
                for part in parts:
                    is_schema = isinstance(part, dict)
                    schema = _merged(schema, self._resolved(part, must_end) if is_schema else part)
            else:
                break
        return schema

    def _referred(self, reference: str) -> dict[str, Any]:
        found: Any = self._root
        for name in reference.lstrip("#/").split("/"):
            if name and isinstance(found, dict):
                found = found.get(name.replace("~1", "/").replace("~0", "~"), {})
        return found if isinstance(found, dict) else {}

    def _least_depth(self, schema: Any, referred: frozenset[str] = frozenset()) -> int:
        """
        The depth of the least deep value that satisfies a schema.

        :param referred: References that were followed to here: a value that needs one of them again has no end.
        """
        self._spend(1)
        if not isinstance(schema, dict) or "const" in schema or "enum" in schema:
            return 0
        depth = 0
        if "$ref" in schema:
            reference = schema["$ref"]
            if reference in referred:
                return _ENDLESS
            depth = self._least_depth(self._referred(reference), referred | {reference})
        for alternatives in (schema.get("anyOf"), schema.get("oneOf")):
            if alternatives:
                depth = max(depth, min(self._least_depth(part, referred) for part in alternatives))
        for part in schema.get("allOf", []):
            depth = max(depth, self._least_depth(part, referred))
        properties = schema.get("properties", {})
        needed = [
            properties.get(name, schema.get("additionalProperties")) for name in schema.get("required", [])
        ]
        needed += schema.get("prefixItems", [])
        if schema.get("minItems"):
            needed.append(schema.get("items"))
        kind = self._kind(schema, must_end=True)
        inside = needed if kind in ("object", "array") else []
        return max([depth, *(1 + self._least_depth(part, referred) for part in inside)])

    def _kind(self, schema: dict[str, Any], must_end: bool) -> str:
        kind = schema.get("type")
        if isinstance(kind, list):
            others = [one for one in kind if one != "null"]
            kind = "null" if not others or ("null" in kind and must_end) else others[0]
        if kind is None:
            if "properties" in schema:
                return "object"
            return "array" if "items" in schema else "string"
        return str(kind)

    def _object(self, schema: dict[str, Any], depth: int, must_end: bool) -> dict[str, Any]:
        properties: dict[str, Any] = schema.get("properties", {})
        required = schema.get("required", [])
        names = [name for name in properties if not must_end or name in required]
        made = {name: self.value(properties[name], depth + 1) for name in names}
        for name in required:
            if name not in made:
                made[name] = self.value(schema.get("additionalProperties", True), depth + 1)
        return made

    def _array(self, schema: dict[str, Any], depth: int, must_end: bool) -> list[Any]:
        first = [self.value(item, depth + 1) for item in schema.get("prefixItems", [])]
        items = schema.get("items", True)
        least = int(schema.get("minItems", 0))
        most = int(schema.get("maxItems", max(2, least)))
        wanted = min(max(0 if must_end or depth >= 4 else 2, least), most)
        made: list[Any] = list(first)
        for _ in range(50 + wanted):
            if len(made) >= wanted or items is False:
                break
            self._spend(len(made) if schema.get("uniqueItems") else 1)
            value = self.value(items, depth + 1)
            if not schema.get("uniqueItems") or value not in made:
                made.append(value)
        return made

    def _number(self, schema: dict[str, Any], kind: str) -> int | float:
        step = schema.get("multipleOf") or (1 if kind == "integer" else 0.5)
        low, high = schema.get("minimum"), schema.get("maximum")
        if schema.get("exclusiveMinimum") is not None:
            low = schema["exclusiveMinimum"] + step
        if schema.get("exclusiveMaximum") is not None:
            high = schema["exclusiveMaximum"] - step
        value: int | float = self._take() % 5 + 1
        if low is not None and value < low:
            value = low
        if high is not None and value > high:
            value = high
        stepped = round(value / step) * step
        if low is not None and stepped < low:
            stepped += step
        if high is not None and stepped > high:
            stepped -= step
        fits = (low is None or stepped >= low) and (high is None or stepped <= high)
        return (int(stepped) if kind == "integer" else stepped) if fits or schema.get("multipleOf") else value

    def _string(self, schema: dict[str, Any]) -> str:
        if schema.get("format") in _FORMATS:
            return _FORMATS[schema["format"]]
        if "pattern" in schema:
            self._spend(len(schema["pattern"]))
            return _matching(schema["pattern"], self._words[self._take() % len(self._words)])
        least = int(schema.get("minLength", 0))
        self._spend(least)
        most = int(schema.get("maxLength", max(60, least)))
        start = 4 * self._take() % len(self._words)
        made = self._words[start : start + 4]
        length = len(" ".join(made))
        while length < least:
            made.append(self._words[self._take() % len(self._words)])
            length += 1 + len(made[-1])
        return " ".join(made)[:most]


def _without(schema: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key != name}


def _merged(one: dict[str, Any], other: dict[str, Any] | bool) -> dict[str, Any]:
    if isinstance(other, bool):
        return one
    merged = {**one, **other}
    if "properties" in one and "properties" in other:
        merged["properties"] = {**one["properties"], **other["properties"]}
    if "required" in one and "required" in other:
        merged["required"] = list(dict.fromkeys([*one["required"], *other["required"]]))
    return merged


def _matching(pattern: str, word: str) -> str:
    """A string that a regular expression matches; the word itself if the expression is not supported."""
    try:
        # A pattern that repeats what it repeats may take for ever, and the longer the word, the longer.
        if re.search(pattern, word[:_LONGEST_WORD]):
            return word[:_LONGEST_WORD]
        made = _from_parsed(_parse(pattern))
    except (re.error, NotImplementedError, RecursionError, OverflowError):
        return word
    return made


def _parse(pattern: str) -> Any:
    # The standard library's own parser; Python 3.11 moved it.
    try:
        from re import _parser as parser  # type: ignore[attr-defined]
    except ImportError:
        import sre_parse as parser
    return parser.parse(pattern)


def _from_parsed(parsed: Any) -> str:
    return "".join(_from_part(str(operation), argument) for operation, argument in parsed)


def _from_part(operation: str, argument: Any) -> str:
    if operation == "LITERAL":
        return _character(argument)
    if operation == "ANY":
        return "a"
    if operation == "AT":
        return ""
    if operation == "IN":
        return _from_class(argument)
    if operation in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
        least, most, part = argument
        made, times = _from_parsed(part), max(int(least), min(1, int(most)))
        if len(made) * times > _MOST_WORK:
            raise TooLarge
        return made * times
    if operation == "SUBPATTERN":
        return _from_parsed(argument[-1])
    if operation == "BRANCH":
        return _from_parsed(argument[1][0])
    if operation == "CATEGORY":
        return _from_class([(operation, argument)])
    raise NotImplementedError(operation)


def _character(code: int) -> str:
    if 0xD800 <= code <= 0xDFFF:
        # Half a character, which JSON has no form for.
        raise NotImplementedError("surrogate")
    return chr(code)


def _from_class(members: Any) -> str:
    operation, argument = str(members[0][0]), members[0][1]
    if operation == "LITERAL":
        return _character(argument)
    if operation == "RANGE":
        return _character(argument[0])
    if operation == "CATEGORY":
        return {"CATEGORY_DIGIT": "1", "CATEGORY_SPACE": " ", "CATEGORY_WORD": "a"}.get(str(argument), "-")
    raise NotImplementedError(operation)
