"""How the answers of each endpoint become columns: texts, typed fields, vectors, pages, scores."""

from __future__ import annotations

import array
import datetime
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict

import msgspec
from msgspec.structs import astuple

from airflow_provider_mistral_batch.api.decoding import UNREADABLE
from airflow_provider_mistral_batch.jsonl.collection import no_collection
from airflow_provider_mistral_batch.jsonl.results.rows import body_of
from airflow_provider_mistral_batch.tables.columns import ANSWER, Column, schema_columns

if TYPE_CHECKING:
    import pyarrow

EmbeddingType = Literal["float32", "float16", "int8"]

#: The least and the largest number of an embedding's type; pyarrow makes an infinity of a larger one.
_BOUNDS = {"float32": (-3.4028235e38, 3.4028235e38), "float16": (-65504.0, 65504.0), "int8": (-128.0, 127.0)}

_decode = msgspec.json.Decoder().decode

# No value fits this type.
_Nothing = Annotated[int, msgspec.Meta(ge=1, le=0)]


class Shape(ABC):
    """The columns that answers become."""

    @abstractmethod
    def fields(self) -> list[pyarrow.Field]:
        """Give the columns' names and types, as far as they are known before the first answer."""

    @abstractmethod
    def read(self, rows: pyarrow.RecordBatch, unfit: dict[int, str]) -> list[pyarrow.Array]:
        """
        Read the columns of some answers.

        :param rows: Rows that succeeded, as :func:`read_row_columns` gives them.
        :return: Arrays of the types of :meth:`fields`, but for dictionaries: those are still their values.
        :param unfit: Takes the number of each row whose answer does not fit its columns, and the reason.
        """


def shape_of(endpoint: str, schema: Mapping[str, Any] | None, *, embedding: EmbeddingType) -> Shape:
    """
    Choose the columns of a batch's answers.

    :param endpoint: The job's endpoint.
    :param schema: The JSON schema that answers match, if there is one.
    :param embedding: The type of the numbers of an embedding.
    """
    if schema is not None and (columns := schema_columns(schema)) is not None:
        return FieldsShape(columns)
    if endpoint == "/v1/embeddings":
        return EmbeddingShape(embedding)
    if endpoint == "/v1/ocr":
        return PagesShape()
    if endpoint in ("/v1/moderations", "/v1/chat/moderations"):
        return ModerationShape()
    if endpoint in ("/v1/classifications", "/v1/chat/classifications"):
        return ClassificationShape()
    return TextShape()


class TextShape(Shape):
    """One text: chats, FIM, conversations, transcriptions."""

    def fields(self) -> list[pyarrow.Field]:
        """Give the column ``answer``."""
        import pyarrow

        return [pyarrow.field(ANSWER, pyarrow.string())]

    def read(self, rows: pyarrow.RecordBatch, unfit: dict[int, str]) -> list[pyarrow.Array]:
        """Read the texts."""
        return [rows.column("content")]


class FieldsShape(Shape):
    """
    One typed column for each field of the schema that answers match.

    :param columns: The columns.
    """

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = list(columns)
        self._of_json = [number for number, column in enumerate(columns) if column.holds_json]
        self._decode = _decoder(columns)

    def fields(self) -> list[pyarrow.Field]:
        """Give the schema's fields."""
        return [column.field() for column in self._columns]

    @no_collection()
    def read(self, rows: pyarrow.RecordBatch, unfit: dict[int, str]) -> list[pyarrow.Array]:
        """Read the answers: those whose values are as expected at once, and the others field by field."""
        texts = rows.column("content").fill_null("").to_pylist()
        arrays = self._arrays([self._answer(number, text, unfit) for number, text in enumerate(texts)])
        if all(map(_is_in_range, arrays)):
            return arrays
        return self._arrays([self._by_field(number, text, unfit) for number, text in enumerate(texts)])

    def _arrays(self, answers: Sequence[Sequence[Any]]) -> list[pyarrow.Array]:
        import pyarrow

        values = zip(*answers, strict=True) if answers else [()] * len(self._columns)
        return [
            pyarrow.array(some, _staged(column.type))
            for some, column in zip(values, self._columns, strict=True)
        ]

    def _answer(self, number: int, text: str, unfit: dict[int, str]) -> Sequence[Any]:
        try:
            answer = astuple(self._decode(text))
            return self._with_json(answer) if self._of_json else answer
        except UNREADABLE:
            return self._by_field(number, text, unfit)

    def _by_field(self, number: int, text: str, unfit: dict[int, str]) -> Sequence[Any]:
        try:
            fields = _decode(text)
            if not isinstance(fields, dict):
                raise ValueError(f"the answer is {type(fields).__name__}, and no object")
            return [_value(column, fields.get(column.name)) for column in self._columns]
        except (*UNREADABLE, ValueError, TypeError) as error:
            unfit[number] = f"the answer does not fit its columns: {error}"[:500]
            return [None] * len(self._columns)

    def _with_json(self, answer: Sequence[Any]) -> Sequence[Any]:
        values = list(answer)
        for number in self._of_json:
            values[number] = _value(self._columns[number], values[number])
        return values


def _value(column: Column, value: Any) -> Any:
    if value is None:
        return value
    try:
        return column.read(value)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{column.name}: {error}") from None


def _decoder(columns: Sequence[Column]) -> Callable[[str], Any]:
    """Make a decoder of answers whose values are as expected."""
    fields = [
        (
            f"field_{number}",
            Any if column.holds_json else _json_type(column.type),
            msgspec.field(name=column.name, default=None),
        )
        for number, column in enumerate(columns)
    ]
    try:
        return msgspec.json.Decoder(msgspec.defstruct("Answer", fields, gc=False)).decode
    except ValueError:
        # Names that msgspec does not take, such as those with a quote: all answers are read field by field.
        return msgspec.json.Decoder(_Nothing).decode


def _json_type(kind: Any) -> Any:
    """Give the type of JSON values that become a column of a type as they are; null is one of them."""
    from pyarrow import types

    known: Any = str
    if types.is_list(kind):
        known = list[_json_type(kind.value_type)]  # type: ignore[misc]
    elif types.is_struct(kind):
        fields = {field.name: _json_type(field.type) for field in kind}
        known = TypedDict("_Fields", fields, total=False)  # type: ignore[misc, no-redef]
    elif types.is_integer(kind):
        known = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
    elif types.is_floating(kind):
        known = float
    elif types.is_boolean(kind):
        known = bool
    elif types.is_date(kind):
        known = datetime.date
    elif types.is_timestamp(kind):
        known = Annotated[datetime.datetime, msgspec.Meta(tz=True)]
    return known | None


class EmbeddingShape(Shape):
    """
    One vector, as a list of fixed size. The first answer tells the size.

    :param kind: The type of its numbers; ``int8`` is what a model with that output type gives.
    """

    def __init__(self, kind: EmbeddingType) -> None:
        self._kind = kind
        self._size = 0

    def fields(self) -> list[pyarrow.Field]:
        """Give the column ``embedding``."""
        import pyarrow

        return [pyarrow.field("embedding", pyarrow.list_(self._number(), self._size or -1))]

    def read(self, rows: pyarrow.RecordBatch, unfit: dict[int, str]) -> list[pyarrow.Array]:
        """Read the vectors."""
        import pyarrow

        vectors = []
        for number, line in enumerate(rows.column("raw").to_pylist()):
            vector = _vector(line)
            if vector is not None and not self._size:
                self._size = len(vector)
            if vector is None or len(vector) != self._size:
                found = (
                    "no vector"
                    if vector is None
                    else f"{len(vector)} numbers, and the first has {self._size}"
                )
                unfit[number] = f"the answer does not fit its column: it has {found}"
                vector = None
            vectors.append(vector)
        values = self._numbers(vectors)
        if values is None:
            for number, vector in enumerate(vectors):
                if vector is not None and self._numbers([vector]) is None:
                    vectors[number] = None
                    unfit[number] = self._no_room(vector)
            values = self._numbers(vectors)
        mask = pyarrow.array([vector is None for vector in vectors])
        return [pyarrow.FixedSizeListArray.from_arrays(values, self._size or 1, mask=mask)]

    def _numbers(self, vectors: Sequence[array.array[float] | None]) -> pyarrow.Array | None:
        """Give the numbers of some vectors their type; None if it has no room for one of them."""
        import pyarrow
        from pyarrow import compute

        whole = b"".join(
            bytes(4 * self._size) if vector is None else memoryview(vector).cast("B") for vector in vectors
        )
        values = pyarrow.Array.from_buffers(
            pyarrow.float32(), len(vectors) * self._size, [None, pyarrow.py_buffer(whole)]
        )
        found, (least, largest) = compute.min_max(values).as_py(), _BOUNDS[self._kind]
        if len(values) and not least <= found["min"] <= found["max"] <= largest:
            return None
        try:
            return values.cast(self._number())
        except pyarrow.ArrowInvalid:
            return None

    def _no_room(self, vector: array.array[float]) -> str:
        least, largest = _BOUNDS[self._kind]
        number = next(
            one
            for one in vector
            if not least <= one <= largest or (self._kind == "int8" and not one.is_integer())
        )
        reason = (
            f"the answer does not fit its column: {self._kind} has no room for numbers such as {number:.6g}"
        )
        if self._kind == "int8":
            return (
                f"{reason}; ask for them with parameters={{'output_dtype': 'int8'}}, or choose another type"
            )
        return f"{reason}; choose another type with columns=AnswerColumns(embedding=...)"

    def _number(self) -> Any:
        import pyarrow

        return {"float32": pyarrow.float32(), "float16": pyarrow.float16(), "int8": pyarrow.int8()}[
            self._kind
        ]


class _Vector(msgspec.Struct, gc=False):
    embedding: list[float]


class _Vectors(msgspec.Struct, gc=False):
    data: list[_Vector]


class _VectorResponse(msgspec.Struct, gc=False):
    body: _Vectors


class _VectorRow(msgspec.Struct, gc=False):
    response: _VectorResponse


_decode_vector = msgspec.json.Decoder(_VectorRow).decode


def _vector(line: bytes) -> array.array[float] | None:
    try:
        vectors = _decode_vector(line).response.body.data
    except UNREADABLE:
        return None
    return array.array("f", vectors[0].embedding) if vectors and vectors[0].embedding else None


class PagesShape(Shape):
    """A document's Markdown, whole and by page."""

    def fields(self) -> list[pyarrow.Field]:
        """Give the columns ``markdown`` and ``pages``."""
        import pyarrow

        page = pyarrow.struct([("index", pyarrow.int64()), ("markdown", pyarrow.string())])
        return [pyarrow.field("markdown", pyarrow.string()), pyarrow.field("pages", pyarrow.list_(page))]

    def read(self, rows: pyarrow.RecordBatch, unfit: dict[int, str]) -> list[pyarrow.Array]:
        """Read the pages."""
        import pyarrow

        pages = [_pages(body_of(line)) for line in rows.column("raw").to_pylist()]
        _, lists = self.fields()
        return [
            rows.column("content"),
            pyarrow.array(pages, lists.type),
        ]


def _pages(body: Any) -> list[dict[str, Any]] | None:
    pages = body.get("pages") if isinstance(body, dict) else None
    if not isinstance(pages, list):
        return None
    return [
        {"index": _int(page.get("index")), "markdown": _str(page.get("markdown"))}
        for page in pages
        if isinstance(page, dict)
    ]


class ModerationShape(Shape):
    """The score of each category, and the categories that apply."""

    def fields(self) -> list[pyarrow.Field]:
        """Give the columns ``scores`` and ``flagged``."""
        import pyarrow

        return [
            pyarrow.field("scores", pyarrow.map_(pyarrow.string(), pyarrow.float64())),
            pyarrow.field("flagged", pyarrow.list_(pyarrow.string())),
        ]

    def read(self, rows: pyarrow.RecordBatch, unfit: dict[int, str]) -> list[pyarrow.Array]:
        """Read the first result of each answer."""
        import pyarrow

        results = [_first_result(body_of(line)) for line in rows.column("raw").to_pylist()]
        scores = [_scores(result.get("category_scores")) for result in results]
        flagged = [
            [name for name, value in categories.items() if value is True]
            if isinstance(categories := result.get("categories"), dict)
            else None
            for result in results
        ]
        return [
            pyarrow.array(values, field.type)
            for values, field in zip((scores, flagged), self.fields(), strict=True)
        ]


class ClassificationShape(Shape):
    """For each target of the classifier its best label, and the score of each label."""

    def fields(self) -> list[pyarrow.Field]:
        """Give the columns ``labels`` and ``scores``."""
        import pyarrow

        scores = pyarrow.map_(pyarrow.string(), pyarrow.float64())
        return [
            pyarrow.field("labels", pyarrow.map_(pyarrow.string(), pyarrow.string())),
            pyarrow.field("scores", pyarrow.map_(pyarrow.string(), scores)),
        ]

    def read(self, rows: pyarrow.RecordBatch, unfit: dict[int, str]) -> list[pyarrow.Array]:
        """Read the first result of each answer."""
        import pyarrow

        scores = [
            {
                target: _scores(one.get("scores")) or []
                for target, one in _first_result(body_of(line)).items()
                if isinstance(one, dict)
            }
            for line in rows.column("raw").to_pylist()
        ]
        labels = [
            [(target, max(one, key=lambda pair: pair[1])[0]) for target, one in row.items() if one]
            for row in scores
        ]
        return [
            pyarrow.array(values, field.type)
            for values, field in zip(
                (labels, [list(row.items()) for row in scores]), self.fields(), strict=True
            )
        ]


def _first_result(body: Any) -> dict[str, Any]:
    results = body.get("results") if isinstance(body, dict) else None
    first = results[0] if isinstance(results, list) and results else None
    return first if isinstance(first, dict) else {}


def _scores(value: Any) -> list[tuple[str, float]] | None:
    if not isinstance(value, dict):
        return None
    return [
        (name, float(score))
        for name, score in value.items()
        if isinstance(score, (int, float)) and not isinstance(score, bool) and abs(score) < 2**63
    ]


def _int(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63 else None


def _str(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _is_in_range(array: pyarrow.Array) -> bool:
    """Tell whether Python has a moment for each of Arrow's: near the first and the last year, UTC may have none."""
    from pyarrow import compute, types

    if types.is_list(array.type) or types.is_struct(array.type):
        within = array.flatten()
        return all(map(_is_in_range, [within] if types.is_list(array.type) else within))
    if types.is_timestamp(array.type):
        try:
            compute.min_max(array).as_py()
        except (OverflowError, ValueError):
            return False
    return True


def _staged(kind: Any) -> Any:
    from pyarrow import types

    return kind.value_type if types.is_dictionary(kind) else kind
