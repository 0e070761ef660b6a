"""The most frequent row errors in one sentence, for messages that people read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from airflow_provider_mistral_batch.jsonl.lines import line_blocks
from airflow_provider_mistral_batch.jsonl.results.outcomes import failure
from airflow_provider_mistral_batch.jsonl.results.tally import Tally

_KINDS_SHOWN = 3


def describe_errors(errors: Sequence[Mapping[str, Any]]) -> str:
    """
    Describe the most frequent errors, such as ``2 x 429 Rate limit exceeded (e.g. row-7)``.

    :param errors: The digest of a
        :class:`~airflow_provider_mistral_batch.jsonl.results.split.ResultsSummary` or a manifest.
    :return: A sentence without its stop; empty when there are no errors.
    """
    if not errors:
        return ""
    shown = "; ".join(_describe(error) for error in errors[:_KINDS_SHOWN])
    more = len(errors) - _KINDS_SHOWN
    return f"Most frequent row errors: {shown}" + (f"; and {more} other kinds" if more > 0 else "")


def describe_error_rows(chunks: Iterable[bytes], *, max_bytes: int) -> str:
    """
    Describe the most frequent errors at the beginning of an error file.

    :param chunks: The file's content, as it is downloaded; no more of it is read than needed.
    :param max_bytes: Bytes to look at, about.
    """
    tally = Tally()
    rows = [
        line for block in line_blocks(_beginning(chunks, max_bytes)) for line in block.lines if line.strip()
    ]
    for line in rows:
        tally.add_failed(None, failure(line))
    return describe_errors(tally.digest)


def _beginning(chunks: Iterable[bytes], max_bytes: int) -> Iterator[bytes]:
    """Whole lines from the beginning of a file, ``max_bytes`` of them or a little less."""
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
