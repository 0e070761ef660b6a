"""What the tests of results share: rows as the API writes them."""

from __future__ import annotations

import json


def answer(custom_id, content="Hello", **body):
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    choices = [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}]
    return result(custom_id, body={"model": "m", "usage": usage, "choices": choices, **body})


def result(custom_id, status_code=200, body=None, error=None):
    response = {"status_code": status_code, "body": body}
    return {"id": f"batch-{custom_id}", "custom_id": custom_id, "response": response, "error": error}


def lines(*rows):
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def row_line(custom_id, body, status_code=200, error=None):
    return json.dumps(result(custom_id, status_code, body, error)).encode()


def counts(**changes):
    zero = dict.fromkeys(("total", "succeeded", "failed", "missing", "unknown", "duplicates"), 0)
    return {**zero, "by_status": {}, **changes}
