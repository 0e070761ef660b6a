"""JSON responses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.responses import Response

_encode = msgspec.json.Encoder().encode


def json_response(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """
    Make a response with a JSON body.

    :param body: What msgspec can encode.
    :param status: HTTP status code.
    :param headers: Further headers.
    """
    # Answers with these statuses have no body.
    return Response(b"" if status in (204, 304) else _encode(body), status, headers, "application/json")
