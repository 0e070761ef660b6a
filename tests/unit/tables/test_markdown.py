"""Names of Markdown files are safe on any storage, and no two are alike."""

from __future__ import annotations

import pytest

from airflow_provider_mistral_batch.tables.markdown import FileNames


@pytest.mark.parametrize(
    ("key", "name"),
    [
        (["s3://aws_default@bucket/2026/lease.pdf"], "lease.md"),
        (["/in/call.MP3"], "call.md"),
        (["v1.2"], "v1.2.md"),
        ([7], "7.md"),
        (["2026-01-31", 7], "2026-01-31-7.md"),
        (["a/../..", "x"], "a_.._..-x.md"),
        ([".."], "document.md"),
        (["/in/..."], "document.md"),
        (["a\nb\x00c\\d:e"], "a_b_c_d_e.md"),
        (["ü" * 300], "ü" * 60 + ".md"),
        (["/"], "document.md"),
    ],
)
def test_a_name_is_made_of_the_key(key, name):
    assert FileNames().name(key) == name


def test_no_two_names_are_alike_where_case_does_not_count():
    names = FileNames()
    keys = ["/a/x.pdf", "/b/x.pdf", "/b/X.png", "/b/x.jpg", "..", "..."]
    given = [names.name([key]) for key in keys]
    assert given[0] == "x.md"
    assert len({name.casefold() for name in given}) == len(keys)
    again = FileNames()
    assert [again.name([key]) for key in keys] == given
