"""A table becomes requests: one for each row, named by the row's key."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_mistral_batch.api.checks import check_choice, check_exactly_one
from airflow_provider_mistral_batch.api.errors import EmptyPartError, InvalidInputError
from airflow_provider_mistral_batch.api.regular_files import NotAFileError
from airflow_provider_mistral_batch.jsonl.lines import LineBlock
from airflow_provider_mistral_batch.jsonl.requests.template import RowTemplate
from airflow_provider_mistral_batch.storage.paths import storage_path
from airflow_provider_mistral_batch.storage.reading import reading
from airflow_provider_mistral_batch.tables.bodies import (
    Bodies,
    bodies_of_files,
    bodies_of_messages,
    bodies_of_prompt,
    check_messages,
)
from airflow_provider_mistral_batch.tables.key import custom_ids, key_columns
from airflow_provider_mistral_batch.tables.prompt import Prompt, PromptFile, check_columns, check_no_jinja
from airflow_provider_mistral_batch.tables.rows_beside import RowsWriter
from airflow_provider_mistral_batch.tables.sources.documents import FILE_ID
from airflow_provider_mistral_batch.tables.sources.memory import rows_of

if TYPE_CHECKING:
    import pyarrow


log = logging.getLogger(__name__)

ON_NULL = ("fail", "skip", "empty")

_KEYS_SHOWN = 5

# A piece, its texts and its lines fit into the processor's cache: larger and smaller ones take a tenth longer.
_BYTES_IN_PIECE = 1 << 18


@dataclass(frozen=True, kw_only=True)
class TableQuestion:
    """
    What is asked of each row. Each field has the name of a parameter of ``MistralBatchInferenceOperator``.

    :raises InvalidInputError: When a field is wrong, or two contradict each other.
    """

    key: str | Sequence[str] | None
    prompt: str | None
    prompt_file: Any
    messages: Sequence[Mapping[str, Any]] | None
    keep: Sequence[str]
    on_null: str
    endpoint: str
    #: Whether each request is an uploaded file, without a prompt.
    documents: bool = False

    def __post_init__(self) -> None:
        check_choice("on_null", self.on_null, ON_NULL)
        if not self.documents:
            check_exactly_one(prompt=self.prompt, prompt_file=self.prompt_file, messages=self.messages)
        if self.documents:
            bodies_of_files(RowTemplate(), self.endpoint)
        elif self.messages is not None:
            check_messages(self.messages, self.endpoint)
        elif not self._text.columns:
            given = "prompt" if self.prompt_file is None else "prompt_file"
            raise InvalidInputError(
                f"{given}={str(getattr(self, given))!r:.80} names no column, so all rows would ask the same: write "
                "columns into braces, such as {body}"
                + ("" if given == "prompt" else " in Jinja's double ones")
            )
        if isinstance(self.keep, str) or not all(isinstance(name, str) for name in self.keep):
            raise InvalidInputError(f"keep={self.keep!r:.80} is no list of columns")
        _ = self.key_columns

    @cached_property
    def key_columns(self) -> tuple[str, ...]:
        """The columns of the key."""
        return key_columns(self.key)

    @cached_property
    def kept_columns(self) -> tuple[str, ...]:
        """The key's columns and then those to keep, each once."""
        return tuple(dict.fromkeys([*self.key_columns, *self.keep]))

    @property
    def work(self) -> dict[str, Any]:
        """All that makes another question other work."""
        return {
            "key": self.key_columns,
            "keep": list(self.keep),
            "on_null": self.on_null,
            "prompt": "" if self.documents else self.messages or self._text.template,
        }

    def check_asks_about_documents(self) -> None:
        """
        Check that the requests name the files of :class:`~airflow_provider_mistral_batch.tables.Documents`.

        :raises InvalidInputError: When they do not.
        """
        if self.documents:
            return
        texts = self.bodies(RowTemplate()).texts
        if self.messages is None or not any(FILE_ID in text.columns for text in texts):
            raise InvalidInputError(
                f"source=Documents: no request names the file. Leave prompt out for endpoints that read files alone; "
                f"for {self.endpoint} pass messages that have {{file_id}} in a content of type 'file'"
            )

    @cached_property
    def _text(self) -> Prompt | PromptFile:
        if self.prompt_file is None:
            return Prompt(self.prompt or "")
        path = storage_path(self.prompt_file, field="prompt_file")
        try:
            with reading(path, field="prompt_file") as file:
                return PromptFile(file.read().decode(), name=str(path))
        except (FileNotFoundError, NotAFileError):
            raise InvalidInputError(
                f"prompt_file={str(path)!r:.200}: there is no such file; check the path"
            ) from None
        except UnicodeDecodeError:
            raise InvalidInputError(
                f"prompt_file={str(path)!r:.200} is not UTF-8: write it in UTF-8"
            ) from None

    def bodies(self, template: RowTemplate) -> Bodies:
        """
        Make the bodies' pattern.

        :param template: What all bodies have in common.
        """
        if self.documents:
            return bodies_of_files(template, self.endpoint)
        if self.messages is not None:
            return bodies_of_messages(self.messages, template)
        return bodies_of_prompt(self._text, template, self.endpoint)


class TableRequests:
    """
    The requests of a table: a source for
    :func:`~airflow_provider_mistral_batch.jsonl.requests.prepare.prepare_requests`.

    Reading it writes the rows that were asked about beside the requests: :attr:`rows`.

    :param source: The rows: a source, a data frame, or dicts.
    :raises InvalidInputError: When it is no table.
    :param question: What is asked of each.
    :param directory: Local directory for the rows.
    """

    def __init__(self, source: Any, question: TableQuestion, *, directory: Path) -> None:
        self.source = rows_of(source)
        for name in self.source.template_fields:
            # Such as a query that a function returned: the database would compare with the braces.
            if isinstance(text := getattr(self.source, name), str):
                remedy = (
                    "write it into the Dag, or make it with the function's arguments, such as def rows(ds)"
                )
                check_no_jinja(text, field=f"source: {name}", remedy=remedy)
        self.question = question
        self.rows = RowsWriter(directory)
        #: How many rows were skipped, and the keys of the first.
        self.skipped = 0
        self.skipped_keys: list[str] = []
        self._common = b""

    @property
    def content(self) -> str | None:
        """
        What the requests ask, as a hash, once they were read; ``None`` if their files' hash says it.

        The same documents, uploaded again, have other ids, and are the same work.
        """
        read = self.source.fingerprint()
        return None if read is None else hashlib.sha256(self._common + read.encode()).hexdigest()

    def request_blocks(self, template: RowTemplate) -> Iterator[LineBlock]:
        """
        Read the source once, and give its requests as lines.

        :param template: What all bodies have in common.
        :raises InvalidInputError: When a column is missing, or a value may not be sent.
        """
        bodies = self.question.bodies(template)
        self._common = bodies.common
        asked = list(dict.fromkeys(name for text in bodies.texts for name in text.columns))
        self._check_columns(asked)
        wanted = list(dict.fromkeys([*self.question.kept_columns, *asked]))
        first_line = 1
        with self.rows as rows:
            for batch in _pieces(self.source.read(wanted)):
                texts, sent = self._texts(batch, bodies, asked)
                rows.add(batch.select(list(self.question.kept_columns)), _skipped(batch.num_rows, sent))
                ids = custom_ids(batch, self.question.key_columns)
                if sent is not None:
                    self._note_skipped(ids, sent)
                    ids = [ids[index] for index in sent]
                if lines := bodies.lines(ids, texts):
                    yield LineBlock(b"\n".join(lines), lines, first_line, ends_cut=False, ids=ids)
                first_line += len(lines)
        if first_line == 1:
            raise self._empty()
        if self.skipped:
            more = "" if self.skipped == len(self.skipped_keys) else ", …"
            log.warning(
                "%d rows were skipped, since a column of the prompt is null or the prompt is empty (on_null='skip'): "
                "%s%s.",
                self.skipped,
                ", ".join(map(repr, self.skipped_keys)),
                more,
            )

    def _check_columns(self, asked: Sequence[str]) -> None:
        there = self.source.columns()
        check_columns(self.question.key_columns, there, field="key")
        given = ("prompt", "prompt_file", "messages")
        field = next((name for name in given if getattr(self.question, name) is not None), "source")
        check_columns(asked, there, field=field)
        check_columns(self.question.keep, there, field="keep")

    def _texts(
        self, batch: pyarrow.RecordBatch, bodies: Bodies, asked: Sequence[str]
    ) -> tuple[list[list[str]], list[int] | None]:
        """
        Fill the templates of some rows.

        :return: The texts, and which rows are sent; None if all are.
        """
        columns = {name: batch.column(name).to_pylist() for name in asked}
        on_null = self.question.on_null
        unfit: set[int] = set()
        for name in asked:
            if batch.column(name).null_count:
                nulls = [index for index, value in enumerate(columns[name]) if value is None]
                if on_null == "fail":
                    raise self._unfit(batch, nulls[0], f"column {name!r} is null")
                unfit.update(nulls)
                columns[name] = ["" if value is None else value for value in columns[name]]
        if unfit and on_null == "skip":
            rows = [index for index in range(batch.num_rows) if index not in unfit]
            columns = {name: [values[index] for index in rows] for name, values in columns.items()}
        else:
            rows = list(range(batch.num_rows)) if on_null == "skip" else []
        texts = [text.fill([columns[name] for name in text.columns]) for text in bodies.texts]
        if on_null != "empty" and not all(all(map(str.strip, column)) for column in texts):
            blank = {
                index for column in texts for index, text in enumerate(column) if not text or text.isspace()
            }
            if on_null == "fail":
                raise self._unfit(batch, min(blank), "its text is empty")
            texts = [[text for index, text in enumerate(column) if index not in blank] for column in texts]
            rows = [row for index, row in enumerate(rows) if index not in blank]
        return texts, rows if on_null == "skip" and len(rows) < batch.num_rows else None

    def _empty(self) -> InvalidInputError:
        reason = f"all its {self.skipped:,} rows were skipped" if self.skipped else "it has no rows"
        message = f"source={self.source!r:.200}: {reason}, so there is nothing to ask"
        return (EmptyPartError if self.source.partition else InvalidInputError)(
            f"{message}; a batch needs at least one request"
        )

    def _unfit(self, batch: pyarrow.RecordBatch, index: int, reason: str) -> InvalidInputError:
        key = ", ".join(
            f"{name}={batch.column(name)[index].as_py()!r:.60}" for name in self.question.key_columns
        )
        return InvalidInputError(
            f"the row with {key} cannot be asked about: {reason}. Leave such rows out of the source, or pass "
            "on_null='skip' to skip them, or on_null='empty' to send an empty text"
        )

    def _note_skipped(self, ids: Sequence[str], sent: Sequence[int]) -> None:
        self.skipped += len(ids) - len(sent)
        if len(self.skipped_keys) < _KEYS_SHOWN:
            is_sent = set(sent)
            self.skipped_keys += [id_ for index, id_ in enumerate(ids) if index not in is_sent]
            del self.skipped_keys[_KEYS_SHOWN:]


def _skipped(count: int, sent: Sequence[int] | None) -> Any:
    import pyarrow

    if sent is None:
        return pyarrow.repeat(pyarrow.scalar(value=False), count)
    flags = [True] * count
    for index in sent:
        flags[index] = False
    return pyarrow.array(flags)


def _pieces(batches: Iterable[pyarrow.RecordBatch]) -> Iterator[pyarrow.RecordBatch]:
    """Cut rows into pieces of bounded size."""
    for batch in batches:
        row_size = 1 + batch.nbytes // (1 + batch.num_rows)
        step = max(1, _BYTES_IN_PIECE // row_size)
        for start in range(0, batch.num_rows, step):
            yield batch.slice(start, step)
