"""What the first rows of an uploaded request file name: their model, or their agent."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from airflow_provider_mistral_batch.api.decoding import UNREADABLE
from airflow_provider_mistral_batch.jsonl.requests.validation import BodyHead

_ENOUGH_BYTES = 1 << 20


class _Row(msgspec.Struct, gc=False):
    body: BodyHead


_decode = msgspec.json.Decoder(_Row).decode


def first_named(chunks: Iterable[bytes]) -> tuple[str | None, str | None]:
    """
    Find the first model and the first agent that the first rows name.

    :param chunks: A request file, of which one MiB is read, and one row at least. A row that cannot be read, such as
        one that is cut, names nothing.
    """
    data = bytearray()
    for chunk in chunks:
        data += chunk
        if len(data) >= _ENOUGH_BYTES and b"\n" in data:
            break
    model = agent = None
    for line in bytes(data).split(b"\n"):
        try:
            head = _decode(line).body
        except UNREADABLE:
            continue
        model, agent = model or head.model, agent or head.agent_id
    return model, agent
