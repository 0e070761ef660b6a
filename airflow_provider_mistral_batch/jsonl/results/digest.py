"""The most frequent errors of rows in one sentence, for log and error messages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from airflow_provider_mistral_batch.jsonl.lines import line_blocks
from airflow_provider_mistral_batch.jsonl.results.tally import Tally

_KINDS_SHOWN = 3


def describe_errors(errors: Sequence[Mapping[str, Any]]) -> str:
    """
    Describe the most frequent errors, such as ``2 x 429 Rate limit exceeded (e.g. row-7)``.

    :param errors: The digest of a
        :class:`~airflow_provider_mistral_batch.jsonl.results.split.ResultsSummary` or a manifest.
    :return: A sentence without its full stop; empty if there are no errors.
    """
    if not errors:
        return ""
    shown = "; ".join(_describe(error) for error in errors[:_KINDS_SHOWN])
    more = len(errors) - _KINDS_SHOWN
    return f"Most frequent row errors: {shown}" + (f"; and {more} other kinds" if more > 0 else "")


def describe_error_rows(
    chunks: Iterable[bytes], *, max_bytes: int, without_secrets: Callable[[str], str] = str
) -> str:
    """
    Describe the most frequent errors in the first rows of an errors file.

    :param chunks: The file's content as it is downloaded. Reading stops after about ``max_bytes``.
    :param max_bytes: How much of the file to look at, in bytes.
    :param without_secrets: Removes secrets from a text.
    """
    tally = Tally(without_secrets)
    rows = [
        line for block in line_blocks(_beginning(chunks, max_bytes)) for line in block.lines if line.strip()
    ]
    for line in rows:
        tally.add_failed(None, line)
    return describe_errors(tally.digest)


def _beginning(chunks: Iterable[bytes], max_bytes: int) -> Iterator[bytes]:
    """Give the whole lines within the first ``max_bytes`` of a file."""
    beginning = b""
    for chunk in chunks:
        beginning += chunk
        if len(beginning) >= max_bytes:
            beginning = beginning[: beginning.rfind(b"\n", 0, max_bytes) + 1]
            break
    yield beginning


def _describe(error: Mapping[str, Any]) -> str:
    what = " ".join(
        str(error[name]) for name in ("status_code", "code", "message") if error.get(name) is not None
    )
    example = f" (e.g. {error['example']})" if error.get("example") else ""
    return f"{error['count']} x {what}{example}"
