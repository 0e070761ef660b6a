"""Rows of data frames, as they come through Arrow's stream interface."""

from __future__ import annotations

import pyarrow as pa
import pytest

from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.tables.sources.memory import rows_of


@pytest.mark.skipif(not hasattr(pa, "string_view"), reason="pyarrow 15 has no views")
def test_texts_of_polars_become_plain_ones():
    texts = pa.array(["a", "b"], pa.string_view())
    frame = pa.table({"id": [1, 2], "text": texts, "kind": pa.DictionaryArray.from_arrays([1, 0], texts)})
    [batch] = rows_of(frame).read(["text", "kind"])
    assert batch.schema.types == [pa.string(), pa.dictionary(pa.int64(), pa.string())]
    assert batch.to_pylist() == [{"text": "a", "kind": "b"}, {"text": "b", "kind": "a"}]


def test_a_frame_with_values_of_several_types_is_named():
    class Frame:
        def __arrow_c_stream__(self, requested_schema=None):
            # What pandas asks pyarrow for, too.
            return pa.array([1, "x"])

    with pytest.raises(
        InvalidInputError, match=r"source: the Frame cannot be read: .*give each column one type"
    ):
        rows_of(Frame())


def test_a_frame_that_does_not_speak_arrow_is_named():
    class DataFrame(list):
        """Iterating over such a frame of pandas gives the names of its columns."""

    with pytest.raises(
        InvalidInputError, match=r"source is a DataFrame of .*: install pandas 2\.2 or newer, polars"
    ):
        rows_of(DataFrame(["id", "body"]))
