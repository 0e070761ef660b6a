"""Request bodies of the ten endpoints, with the fields and types that the API requires.

Fields that the emulator does not know are let through, as the API gains them faster than we do. ``model`` is
required by the API, but in a batch the job may have it instead.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, StrictFloat, StrictInt, with_config
from typing_extensions import NotRequired, TypedDict

Temperature = Annotated[float, Field(ge=0, le=1.5)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Number = StrictInt | StrictFloat
Chunks = list[dict[str, Any]]

_Definitions = TypedDict(
    "_Definitions",
    {"$ref": str, "$defs": "dict[str, Schema | bool]", "definitions": "dict[str, Schema | bool]"},
    total=False,
)


# What the emulator makes no use of is let through here, too: that is most of JSON Schema.
@with_config(ConfigDict(extra="allow"))
class Schema(_Definitions, total=False):
    """The part of a JSON schema from which answers are made."""

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
    minItems: Count
    maxItems: Count
    minimum: Number | None
    maximum: Number | None
    exclusiveMinimum: Number | None
    exclusiveMaximum: Number | None
    multipleOf: Annotated[Number, Field(gt=0)] | None
    format: str | None
    pattern: str
    minLength: Count
    maxLength: Count


class JsonSchema(TypedDict):
    """A named schema of ``response_format``."""

    name: str
    schema: Schema
    description: NotRequired[str | None]
    strict: NotRequired[bool | None]


class ResponseFormat(TypedDict):
    """What form an answer must have."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: NotRequired[JsonSchema | None]


class FunctionDefinition(TypedDict):
    """A function that the model may call."""

    name: str
    parameters: NotRequired[Schema | str]


class Tool(TypedDict):
    """A tool that the model may call."""

    type: NotRequired[str]
    function: FunctionDefinition


class FunctionName(TypedDict):
    """Which function."""

    name: str


class ToolChoice(TypedDict):
    """The tool that the model must call."""

    type: NotRequired[str]
    function: FunctionName


class Bounds(TypedDict):
    """How free an answer is, and how far it goes."""

    temperature: NotRequired[Temperature | None]
    top_p: NotRequired[Share | None]
    max_tokens: NotRequired[Count | None]
    stop: NotRequired[str | list[str] | None]


class InputMessage(TypedDict):
    """What a chat is told, or asked."""

    role: Literal["system", "user", "tool"]
    content: str | Chunks


class AssistantMessage(TypedDict):
    """What the model said in a chat, or which tools it called."""

    role: Literal["assistant"]
    content: NotRequired[str | Chunks | None]
    tool_calls: NotRequired[list[dict[str, Any]] | None]


Message = Annotated[InputMessage | AssistantMessage, Field(discriminator="role")]
Messages = Annotated[list[Message], Field(min_length=1)]


class Chat(Bounds):
    """Body of ``/v1/chat/completions``."""

    model: NotRequired[str | None]
    agent_id: NotRequired[str | None]
    messages: Messages
    stream: NotRequired[Literal[False] | None]
    random_seed: NotRequired[Count | None]
    response_format: NotRequired[ResponseFormat | None]
    tools: NotRequired[list[Tool] | None]
    tool_choice: NotRequired[Literal["auto", "none", "any", "required"] | ToolChoice | None]
    n: NotRequired[Annotated[int, Field(ge=1)] | None]


class Fim(Bounds):
    """Body of ``/v1/fim/completions``."""

    model: NotRequired[str | None]
    prompt: str
    suffix: NotRequired[str | None]
    stream: NotRequired[Literal[False] | None]


class Embeddings(TypedDict):
    """Body of ``/v1/embeddings``."""

    model: NotRequired[str | None]
    input: str | list[str]
    output_dimension: NotRequired[Annotated[int, Field(ge=1)] | None]
    output_dtype: NotRequired[Literal["float", "int8", "uint8", "binary", "ubinary"] | None]
    encoding_format: NotRequired[Literal["float", "base64"] | None]


class Texts(TypedDict):
    """Body of ``/v1/moderations`` and ``/v1/classifications``."""

    model: NotRequired[str | None]
    input: str | list[str]


class ChatModeration(TypedDict):
    """Body of ``/v1/chat/moderations``: one chat or several."""

    model: NotRequired[str | None]
    input: Annotated[list[Message], Field(min_length=1)] | Annotated[list[Messages], Field(min_length=1)]


class Instructions(TypedDict):
    """A chat to classify."""

    messages: Messages


class ChatClassification(TypedDict):
    """Body of ``/v1/chat/classifications``."""

    model: NotRequired[str | None]
    input: Instructions | Annotated[list[Instructions], Field(min_length=1)]


class ImageUrl(TypedDict):
    """An image's URL with its detail."""

    url: str


class Document(TypedDict, total=False):
    """What to read: a document or image by its URL, or an uploaded file."""

    type: str
    document_url: str
    document_name: str | None
    image_url: str | ImageUrl
    file_id: str


def _one_source(document: Document) -> Document:
    if not any(name in document for name in ("document_url", "image_url", "file_id")):
        raise ValueError("one of document_url, image_url and file_id is required")
    return document


class Ocr(TypedDict):
    """Body of ``/v1/ocr``."""

    model: NotRequired[str | None]
    document: Annotated[Document, AfterValidator(_one_source)]
    pages: NotRequired[list[Count] | str | None]
    include_image_base64: NotRequired[bool | None]
    image_limit: NotRequired[Count | None]
    bbox_annotation_format: NotRequired[ResponseFormat | None]
    document_annotation_format: NotRequired[ResponseFormat | None]


class Entry(TypedDict):
    """What was said, called or found in a conversation."""

    content: NotRequired[str | Chunks | None]


class CompletionArgs(Bounds):
    """How a conversation is answered."""

    random_seed: NotRequired[Count | None]
    response_format: NotRequired[ResponseFormat | None]


class Conversation(TypedDict):
    """Body of ``/v1/conversations``."""

    model: NotRequired[str | None]
    agent_id: NotRequired[str | None]
    inputs: str | Annotated[list[Entry], Field(min_length=1)]
    instructions: NotRequired[str | None]
    stream: NotRequired[Literal[False] | None]
    completion_args: NotRequired[CompletionArgs | None]


class _Transcription(TypedDict):
    """Body of ``/v1/audio/transcriptions``."""

    model: NotRequired[str | None]
    file_url: NotRequired[str | None]
    file_id: NotRequired[str | None]
    language: NotRequired[str | None]
    timestamp_granularities: NotRequired[list[Literal["segment", "word"]] | None]


def _one_recording(transcription: _Transcription) -> _Transcription:
    if not transcription.get("file_url") and not transcription.get("file_id"):
        raise ValueError("one of file_url and file_id is required")
    return transcription


Transcription = Annotated[_Transcription, AfterValidator(_one_recording)]
