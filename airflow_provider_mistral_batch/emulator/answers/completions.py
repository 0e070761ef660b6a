"""``/v1/chat/completions`` and ``/v1/fim/completions``: texts that continue a prompt."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt
from typing_extensions import NotRequired, TypedDict

from airflow_provider_mistral_batch.emulator.answers.context import Context
from airflow_provider_mistral_batch.emulator.answers.gist import reply
from airflow_provider_mistral_batch.emulator.answers.messages import Messages, last_user_text, message_tokens
from airflow_provider_mistral_batch.emulator.answers.response_format import (
    ResponseFormat,
    Schema,
    json_by_schema,
)
from airflow_provider_mistral_batch.emulator.answers.schema import instance
from airflow_provider_mistral_batch.emulator.answers.server_tools import (
    SERVER_TOOLS,
    ServerTool,
    messages_with,
    server_tool,
)
from airflow_provider_mistral_batch.emulator.answers.tokens import count_tokens, cut_stop, cut_tokens, usage

#: Choices that a body may ask for.
_MOST_CHOICES = 128

_ARGUMENTS = re.compile(r"\(([^()]*)\)[^()]*$")


class FunctionDefinition(TypedDict):
    """A function that the model may call."""

    name: str
    parameters: NotRequired[Schema | str]


class Tool(TypedDict):
    """A tool that the model may call."""

    type: NotRequired[Literal["function"]]
    function: FunctionDefinition


class FunctionName(TypedDict):
    """A function by its name."""

    name: str


class ToolChoice(TypedDict):
    """The tool that the model must call."""

    type: NotRequired[str]
    function: FunctionName


class Bounds(TypedDict):
    """The fields of a body that say how a text is sampled and where it ends."""

    temperature: NotRequired[Annotated[float, Field(ge=0, le=1.5)] | None]
    top_p: NotRequired[Annotated[float, Field(ge=0, le=1)] | None]
    max_tokens: NotRequired[NonNegativeInt | None]
    stop: NotRequired[str | list[str] | None]


class Chat(Bounds):
    """Body of ``/v1/chat/completions``."""

    model: NotRequired[str | None]
    agent_id: NotRequired[str | None]
    messages: Messages
    stream: NotRequired[Literal[False] | None]
    random_seed: NotRequired[NonNegativeInt | None]
    response_format: NotRequired[ResponseFormat | None]
    tools: NotRequired[list[ServerTool | Tool] | None]
    tool_choice: NotRequired[Literal["auto", "none", "any", "required"] | ToolChoice | None]
    n: NotRequired[Annotated[int, Field(ge=1, le=_MOST_CHOICES)] | None]


class Fim(Bounds):
    """Body of ``/v1/fim/completions``."""

    model: NotRequired[str | None]
    prompt: str
    suffix: NotRequired[str | None]
    stream: NotRequired[Literal[False] | None]


def answer_chat(body: Any, context: Context) -> dict[str, Any]:
    """Answer a body of ``/v1/chat/completions``."""
    messages = body["messages"]
    tool_call = _tool_call(body, context)
    if tool_call is not None:
        message: dict[str, Any] = {"role": "assistant", "content": "", "tool_calls": [tool_call]}
        tokens, finish = count_tokens(tool_call["function"]["arguments"]), "tool_calls"
    else:
        text, finish = completion(body, last_user_text(messages))
        message = {"role": "assistant", "content": text, "tool_calls": None}
        tokens = count_tokens(text)
    count = body.get("n") or 1
    answer = _response([message] * count, finish, message_tokens(messages), tokens * count, context)
    tool = server_tool(body.get("tools"))
    if tool is not None and tool_call is None and body.get("tool_choice") != "none":
        for choice in answer["choices"]:
            called = messages_with(tool, last_user_text(messages), choice.pop("message"), context.id[:9])
            choice["messages"] = called
    return answer


def answer_fim(body: Any, context: Context) -> dict[str, Any]:
    """Answer a body of ``/v1/fim/completions``."""
    prompt, suffix = body["prompt"], body.get("suffix") or ""
    text, finish = _bounded(_code(prompt), body)
    message = {"role": "assistant", "content": text, "tool_calls": None}
    return _response(
        [message], finish, count_tokens(prompt) + count_tokens(suffix), count_tokens(text), context
    )


def completion(body: Any, prompt: str) -> tuple[str, str]:
    """
    Answer a prompt with a text.

    :param body: A body with :class:`Bounds`, and perhaps ``response_format``.
    :return: The text and its ``finish_reason``.
    """
    text = reply(prompt)
    response_format = body.get("response_format") or {}
    if response_format.get("type") == "json_schema":
        text = json_by_schema(response_format, text) or text
    elif response_format.get("type") == "json_object":
        text = json.dumps({"answer": text}, ensure_ascii=False)
    return _bounded(text, body)


def _bounded(text: str, body: Any) -> tuple[str, str]:
    text, was_cut = cut_tokens(cut_stop(text, body.get("stop")), body.get("max_tokens"))
    return text, "length" if was_cut else "stop"


def _response(
    messages: list[dict[str, Any]], finish: str, prompt_tokens: int, completion_tokens: int, context: Context
) -> dict[str, Any]:
    return {
        "id": context.id,
        "object": "chat.completion",
        "model": context.model,
        "usage": usage(prompt_tokens, completion_tokens),
        "created": context.created,
        "choices": [
            {"index": index, "finish_reason": finish, "message": message}
            for index, message in enumerate(messages)
        ],
    }


def _tool_call(body: Any, context: Context) -> dict[str, Any] | None:
    """The call of a tool, if the body demands one."""
    tools = [tool for tool in body.get("tools") or () if tool.get("type") not in SERVER_TOOLS]
    choice = body.get("tool_choice")
    if not tools or choice in (None, "auto", "none"):
        return None
    function = tools[0]["function"]
    if isinstance(choice, dict):
        name = choice.get("function", {}).get("name")
        function = next((tool["function"] for tool in tools if tool["function"]["name"] == name), function)
    parameters = function.get("parameters") or {}
    arguments = instance(parameters, last_user_text(body["messages"])) if isinstance(parameters, dict) else {}
    return {
        "id": context.id[:9],
        "type": "function",
        "function": {"name": function["name"], "arguments": json.dumps(arguments)},
        "index": 0,
    }


def _code(prompt: str) -> str:
    """A statement that continues the prompt's code: it returns the first of the arguments that were named last."""
    found = _ARGUMENTS.search(prompt[-500:])
    names = re.findall(r"[A-Za-z_]\w*", found.group(1)) if found else []
    indent = "\n    " if prompt.rstrip().endswith(":") else ""
    return f"{indent}return {names[0] if names else 'None'}"
