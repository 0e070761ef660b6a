"""Tools that the API itself runs: web search, document libraries, image generation, code, connectors."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import Field
from typing_extensions import NotRequired, TypedDict


class BuiltInTool(TypedDict):
    """A tool that needs no more than its name."""

    type: Literal["web_search", "web_search_premium", "image_generation", "code_interpreter"]


class DocumentLibrary(TypedDict):
    """Libraries to search in."""

    type: Literal["document_library"]
    library_ids: list[str]


class Connector(TypedDict):
    """A connector, by its name or id."""

    type: Literal["connector"]
    connector_id: str
    authorization: NotRequired[dict[str, Any] | None]


ServerTool = Annotated[BuiltInTool | DocumentLibrary | Connector, Field(discriminator="type")]

SERVER_TOOLS = frozenset(
    {
        "web_search",
        "web_search_premium",
        "image_generation",
        "code_interpreter",
        "document_library",
        "connector",
    }
)


def server_tool(tools: Any) -> Any:
    """The first of the tools that the API runs; ``None`` if it runs none of them."""
    return next((tool for tool in tools or () if tool.get("type") in SERVER_TOOLS), None)


def messages_with(tool: Any, prompt: str, answer: dict[str, Any], call_id: str) -> list[dict[str, Any]]:
    """
    The messages of a choice for which the API ran a tool: the call, its result, and the answer.

    :param tool: The tool, from the request's body.
    :param prompt: What the user asked.
    :param answer: The last message, which answers it.
    :param call_id: Id of the call.
    """
    kind = tool["type"]
    name = tool["connector_id"] if kind == "connector" else kind
    function = {"name": name, "arguments": json.dumps({"query": prompt[:100]}, ensure_ascii=False)}
    result = f"The emulator has not run {name}. This stands for its result."
    content: list[dict[str, Any]] = [{"type": "text", "text": answer["content"]}]
    if kind == "image_generation":
        content.append(
            {
                "type": "tool_file",
                "tool": name,
                "file_id": call_id,
                "file_name": "image_generated_0",
                "file_type": "png",
            }
        )
    elif kind != "code_interpreter":
        url = "https://example.com/" if kind.startswith("web_search") else None
        content.append({"type": "tool_reference", "tool": name, "title": "An example", "url": url})
    return [
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": call_id, "type": "function", "function": function, "index": 0}],
            "index": 0,
        },
        {"role": "tool", "content": result, "tool_call_id": call_id, "index": 1},
        {**answer, "content": content, "index": 2},
    ]
