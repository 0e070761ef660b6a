"""Where requests come from: one or several files, a glob, or rows and prompts from Python."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, NamedTuple, Protocol, runtime_checkable

from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.jsonl.lines import (
    CHUNK_BYTES,
    LineBlock,
    file_chunks,
    line_blocks,
)
from airflow_provider_mistral_batch.jsonl.requests.encoding import encoded
from airflow_provider_mistral_batch.jsonl.requests.problems import Problem, shortened
from airflow_provider_mistral_batch.jsonl.requests.template import RowTemplate
from airflow_provider_mistral_batch.storage.ahead import read_ahead
from airflow_provider_mistral_batch.storage.folders import matching_files
from airflow_provider_mistral_batch.storage.paths import StoragePath, as_path, is_path, storage_path

_REQUEST_FILE_SUFFIXES = (".jsonl", ".json", ".jsonl.gz", ".jsonl.zst", ".json.gz", ".json.zst")

# Not None, which a source may hold, though wrongly.
_NOTHING = object()


class AlikeRequests(NamedTuple):
    """
    Some requests that differ in nothing but texts: what is right of one is right of all.

    :param data: Their lines, joined by newlines.
    :param ids: Their ids.
    :param first_line: Number of the first, from 1.
    """

    data: bytes
    ids: list[str]
    first_line: int

    @property
    def last_line(self) -> int:
        """Number of the last one."""
        return self.first_line + len(self.ids) - 1

    @property
    def block(self) -> LineBlock:
        """The requests as lines of which nothing is known."""
        return LineBlock(self.data, self.data.split(b"\n"), self.first_line, ends_cut=False)


class Source(NamedTuple):
    """
    One sequence of request lines.

    :param name: The file's path; None for rows from Python.
    :param blocks: Its lines.
    """

    name: str | None
    blocks: Iterator[LineBlock] | Iterator[AlikeRequests]


@runtime_checkable
class RequestBlocks(Protocol):
    """A source that writes request lines itself, such as a table."""

    def request_blocks(self, template: RowTemplate) -> Iterator[AlikeRequests]:
        """Give the lines, with all that the template has."""
        ...


def open_sources(
    source: Any,
    *,
    template: RowTemplate,
    max_row_bytes: int,
    refuse: Callable[[int, Problem], None],
) -> Iterator[Source]:
    """
    Open what the source stands for: one sequence of lines for each file, or one for all rows from Python.

    :param source: See :func:`~airflow_provider_mistral_batch.jsonl.requests.prepare.prepare_requests`.
    :param template: What all bodies have in common, for sources that write them.
    :param max_row_bytes: Longer rows are cut after this many bytes and one.
    :param refuse: Takes the number of a row from Python that cannot become a line, and the problem.
    """
    items: Iterable[Any]
    if isinstance(source, RequestBlocks):
        yield Source(None, source.request_blocks(template))
        return
    if isinstance(source, str) or is_path(source):
        items = [as_path(source)]
    elif isinstance(source, Mapping):
        raise InvalidInputError("requests: expected a path or several rows, got one dict; put it into a list")
    else:
        items = source
    rest = iter(items)
    first = next(rest, _NOTHING)
    if first is _NOTHING:
        return
    if is_path(first):
        for file in read_ahead(_files(chain([first], rest))):
            yield Source(
                str(file), line_blocks(file_chunks(file, field="path"), max_line_bytes=max_row_bytes)
            )
    else:
        yield Source(None, _item_blocks(chain([first], rest), refuse))


def _files(paths: Iterable[Any]) -> Iterator[StoragePath]:
    for number, path in enumerate(paths, 1):
        if not is_path(path):
            raise InvalidInputError(
                f"requests: the first item is a path object, but item {number} is {shortened(path)}: make all of "
                "them path objects"
            )
        yield from matching_files(storage_path(path, field="path"))


def _item_blocks(items: Iterable[Any], refuse: Callable[[int, Problem], None]) -> Iterator[LineBlock]:
    lines: list[bytes] = []
    size = 0
    number = 0
    for number, item in enumerate(items, 1):
        line = _item_line(item)
        if isinstance(line, Problem):
            refuse(number, line)
            line = b""
        lines.append(line)
        size += len(line)
        if size >= CHUNK_BYTES:
            yield LineBlock(b"\n".join(lines), lines, number - len(lines) + 1, ends_cut=False)
            lines, size = [], 0
    if lines:
        yield LineBlock(b"\n".join(lines), lines, number - len(lines) + 1, ends_cut=False)


def _item_line(item: Any) -> bytes | Problem:
    if isinstance(item, str):
        if item.endswith(_REQUEST_FILE_SUFFIXES) and not any(character.isspace() for character in item):
            return Problem(
                "strings in a list are prompts, and this one is a file name",
                "Pass several files as path objects, or one glob",
                value=shortened(item),
            )
        item = {"prompt": item}
    elif isinstance(item, Mapping):
        item = item if isinstance(item, dict) else dict(item)
    else:
        return Problem(
            f"expected a row (dict) or a prompt (str), got {type(item).__name__}", value=shortened(item)
        )
    return encoded(item)
