"""Structured output: ``response_format`` in a request's body, and answers that satisfy it."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, NonNegativeInt, StrictFloat, StrictInt, with_config
from typing_extensions import NotRequired, TypedDict

from airflow_provider_mistral_batch.emulator.answers.schema import instance

_Number = StrictInt | StrictFloat

_Definitions = TypedDict(
    "_Definitions",
    {"$ref": str, "$defs": "dict[str, Schema | bool]", "definitions": "dict[str, Schema | bool]"},
    total=False,
)


# Other keywords of JSON Schema are allowed and ignored.
@with_config(ConfigDict(extra="allow"))
class Schema(_Definitions, total=False):
    """The part of a JSON schema that answers are made from."""

    type: str | list[str]
    enum: Annotated[list[Any], Field(min_length=1)]
    anyOf: list[Schema | bool]
    oneOf: list[Schema | bool]
    allOf: list[Schema | bool]
    properties: dict[str, Schema | bool]
    required: list[str]
    additionalProperties: Schema | bool
    items: Schema | bool | list[Schema | bool]
    prefixItems: list[Schema | bool]
    minItems: NonNegativeInt
    maxItems: NonNegativeInt
    minimum: _Number | None
    maximum: _Number | None
    exclusiveMinimum: _Number | None
    exclusiveMaximum: _Number | None
    multipleOf: Annotated[_Number, Field(gt=0)] | None
    format: str | None
    pattern: str
    minLength: NonNegativeInt
    maxLength: NonNegativeInt


class JsonSchema(TypedDict):
    """A JSON schema with its name."""

    name: str
    schema: Schema
    description: NotRequired[str | None]
    strict: NotRequired[bool | None]


class ResponseFormat(TypedDict):
    """The form that an answer must have."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: NotRequired[JsonSchema | None]


def json_by_schema(response_format: Any, text: str) -> str | None:
    """
    Make JSON that satisfies the schema of a ``response_format``.

    :param response_format: The :class:`ResponseFormat`.
    :param text: Where the JSON's strings come from.
    :return: The JSON; ``None`` if there is no schema.
    """
    if not response_format or not response_format.get("json_schema"):
        return None
    return json.dumps(instance(response_format["json_schema"]["schema"], text), ensure_ascii=False)
