"""A job's input: JSONL files, read request by request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec


class Row(msgspec.Struct):
    """One request. ``method`` and ``url`` belong to the OpenAI-compatible dialect, and are allowed in every job."""

    body: msgspec.Raw
    custom_id: str | None = None
    method: str | None = None
    url: str | None = None


decode_row = msgspec.json.Decoder(Row).decode


class Reader:
    """
    Reads a job's input from a given place on.

    :param paths: The job's files.
    :param index: Which of them has the next line, from 0.
    :param offset: Where in that file the line begins, in bytes.
    """

    def __init__(self, paths: Sequence[Path], index: int, offset: int) -> None:
        self._paths = paths
        self.index = index
        self.offset = offset

    def lines(self, count: int) -> Iterator[bytes]:
        """
        Read lines that are not blank. Once all are read, ``index`` and ``offset`` say where the next one is.

        :param count: How many at most.
        """
        while count > 0 and self.index < len(self._paths):
            with self._paths[self.index].open("rb") as file:
                file.seek(self.offset)
                while count > 0:
                    line = file.readline()
                    if not line:
                        break
                    self.offset += len(line)
                    if not line.isspace():
                        count -= 1
                        yield line
            if count > 0:
                self.index += 1
                self.offset = 0
