"""A table becomes requests: one for each row, named by the row's key."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_mistral_batch.api.checks import check_choice, check_exactly_one
from airflow_provider_mistral_batch.api.errors import EmptyPartError, InvalidInputError
from airflow_provider_mistral_batch.api.regular_files import NotAFileError
from airflow_provider_mistral_batch.jsonl.custom_ids import CustomIds
from airflow_provider_mistral_batch.jsonl.requests.sources import AlikeRequests
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
from airflow_provider_mistral_batch.tables.json_texts import joined
from airflow_provider_mistral_batch.tables.key import custom_ids, key_columns
from airflow_provider_mistral_batch.tables.prompt import Prompt, PromptFile, check_columns, check_no_jinja
from airflow_provider_mistral_batch.tables.python_values import check_texts, row_shown
from airflow_provider_mistral_batch.tables.rows_beside import RowsWriter, read_rows_beside
from airflow_provider_mistral_batch.tables.sources.documents import FILE_ID
from airflow_provider_mistral_batch.tables.sources.memory import rows_of

if TYPE_CHECKING:
    import pyarrow


log = logging.getLogger(__name__)

ON_NULL = ("fail", "skip", "empty")

_KEYS_SHOWN = 5

# Keys whose hashes repeat, and of which one is looked for whose text repeats, too. It is nearly always the first.
_MOST_SUSPECTS = 1_000

# Lines that are made at once. Smaller pieces take longer, and so do larger ones, which the processor cannot cache.
_BYTES_IN_PIECE = 1 << 20


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
            raise InvalidInputError(
                f"keep={self.keep!r:.80} is not a list of columns: pass one such as ['title']"
            )
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
        self._directory = directory
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

    def request_blocks(self, template: RowTemplate) -> Iterator[AlikeRequests]:
        """
        Read the source once, and give its requests as lines.

        :param template: What all bodies have in common.
        :raises InvalidInputError: When a column is missing, or a value may not be sent.
        """
        from pyarrow import compute

        bodies = self.question.bodies(template)
        self._common = bodies.common
        asked = list(dict.fromkeys(name for text in bodies.texts for name in text.columns))
        self._check_columns(asked)
        wanted = list(dict.fromkeys([*self.question.kept_columns, *asked]))
        first_line = 1
        with self.rows as rows:
            for batch in _pieces(self.source.read(wanted), len(bodies.common)):
                with self._placed():
                    check_texts(batch, self.question.key_columns)
                    texts, sent = self._texts(batch, bodies, asked)
                    rows.add(batch.select(list(self.question.kept_columns)), compute.invert(sent))
                    ids = custom_ids(batch, self.question.key_columns)
                if not compute.all(sent).as_py():
                    self._note_skipped(ids.filter(compute.invert(sent)))
                    ids = ids.filter(sent)
                if len(ids):
                    yield AlikeRequests(bodies.lines(ids, texts), ids.to_pylist(), first_line)
                first_line += len(ids)
        if first_line == 1:
            raise self._empty()
        if self.skipped:
            self._refuse_repeated_keys()
            more = "" if self.skipped == len(self.skipped_keys) else ", …"
            log.warning(
                "Skipped %d of the source's rows, since a column of the prompt is null or the prompt is empty "
                "(on_null='skip'): %s%s.",
                self.skipped,
                ", ".join(map(repr, self.skipped_keys)),
                more,
            )

    @contextmanager
    def _placed(self) -> Iterator[None]:
        """Let errors name the file of the rows."""
        try:
            yield
        except InvalidInputError as error:
            if self.source.place is None:
                raise
            raise InvalidInputError(f"{self.source.place}: {error}") from None

    def _check_columns(self, asked: Sequence[str]) -> None:
        there = self.source.columns()
        if not there:
            raise self._empty()
        check_columns(self.question.key_columns, there, field="key")
        given = ("prompt", "prompt_file", "messages")
        field = next((name for name in given if getattr(self.question, name) is not None), "source")
        check_columns(asked, there, field=field)
        check_columns(self.question.keep, there, field="keep")

    def _texts(
        self, batch: pyarrow.RecordBatch, bodies: Bodies, asked: Sequence[str]
    ) -> tuple[list[list[str | pyarrow.StringArray]], pyarrow.BooleanArray]:
        """
        Fill the templates of some rows.

        :return: The texts of the rows that are sent; and for each row, whether it is.
        """
        import pyarrow
        from pyarrow import compute

        on_null = self.question.on_null
        sent = pyarrow.repeat(pyarrow.scalar(value=True), batch.num_rows)
        for name in asked:
            if on_null != "empty" and batch.column(name).null_count:
                there = batch.column(name).is_valid()
                if on_null == "fail":
                    raise self._unfit(batch, there, f"column {name!r} is null")
                sent = compute.and_(sent, there)
        rows = batch if compute.all(sent).as_py() else batch.filter(sent)
        texts = [text.parts(rows) for text in bodies.texts]
        if on_null != "empty" and not compute.all(filled := _are_filled(texts, rows.num_rows)).as_py():
            if on_null == "fail":
                raise self._unfit(batch, filled, "its text is empty")
            texts = [
                [part if isinstance(part, str) else part.filter(filled) for part in text] for text in texts
            ]
            sent = compute.replace_with_mask(sent, sent, filled)
        return texts, sent

    def _empty(self) -> InvalidInputError:
        reason = f"each of its {self.skipped:,} rows was skipped" if self.skipped else "it has no rows"
        message = f"source={self.source!r:.200}: {reason}, so there is nothing to ask"
        return (EmptyPartError if self.source.partition else InvalidInputError)(
            f"{message}; a batch needs at least one request"
        )

    def _unfit(self, batch: pyarrow.RecordBatch, fit: pyarrow.BooleanArray, reason: str) -> InvalidInputError:
        """Name the first row that does not fit."""
        index = fit.index(value=False).as_py()
        key = row_shown(batch, index, self.question.key_columns)
        return InvalidInputError(
            f"the row with {key} cannot be asked about: {reason}. Leave such rows out of the source, or pass "
            "on_null='skip' to skip them, or on_null='empty' to send an empty text"
        )

    def _refuse_repeated_keys(self) -> None:
        """
        Refuse rows with the same key if some rows were skipped: ids of requests show only those that are sent.

        :raises InvalidInputError: Names the first two of them.
        """
        with CustomIds(self._directory) as ids:
            for some in self._ids_of_all():
                ids.extend(some)
            if 1 not in (repeated := ids.repeated()):
                return
            suspects = ids.keys_at(repeated, _MOST_SUSPECTS)
            first: dict[str, int] = {}
            for number, id_ in enumerate(chain.from_iterable(self._ids_of_all()), 1):
                if ids.key(id_) in suspects and first.setdefault(id_, number) != number:
                    raise InvalidInputError(
                        f"key: rows {first[id_]:,} and {number:,} of the source have the same key, {id_!r:.80} (rows "
                        f"that repeat one: {repeated.count(1):,}). Rows that on_null='skip' leaves out count, too: "
                        "give each row a key of its own"
                    )

    def _ids_of_all(self) -> Iterator[list[str]]:
        """Give the ids of all rows, also of those that were skipped."""
        key = self.question.key_columns
        for batch in read_rows_beside(self.rows.paths, key):
            yield custom_ids(batch, key).to_pylist()

    def _note_skipped(self, ids: pyarrow.StringArray) -> None:
        self.skipped += len(ids)
        self.skipped_keys += ids[: _KEYS_SHOWN - len(self.skipped_keys)].to_pylist()


def _are_filled(texts: Sequence[list[str | pyarrow.StringArray]], rows: int) -> pyarrow.BooleanArray:
    """Tell for each row whether each of its texts has more than spaces."""
    import pyarrow
    from pyarrow import compute

    filled = pyarrow.repeat(pyarrow.scalar(value=True), rows)
    for text in texts:
        if not any(isinstance(part, str) and part.strip() for part in text):
            rest = compute.utf8_ltrim_whitespace(joined(text))
            filled = compute.and_(filled, compute.greater(compute.binary_length(rest), 0))
    return filled


def _pieces(batches: Iterable[pyarrow.RecordBatch], common: int) -> Iterator[pyarrow.RecordBatch]:
    """
    Cut rows into pieces of bounded size.

    :param common: Bytes that each row's request has beside the row's own.
    """
    for batch in batches:
        row_size = 1 + common + batch.nbytes // (1 + batch.num_rows)
        step = max(1, _BYTES_IN_PIECE // row_size)
        for start in range(0, batch.num_rows, step):
            yield batch.slice(start, step)
