"""Questions about custom ids have the answers that sets would give, with ids in several windows and runs."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_mistral_batch.jsonl import custom_ids
from airflow_provider_mistral_batch.jsonl.custom_ids import CertainIds, CustomIds

ids_in_batches = st.lists(st.lists(st.integers(0, 60).map("row-{}".format), max_size=9), max_size=12)
windows = st.sampled_from([1, 3, 16, 1000])
digests = st.sampled_from([hash, lambda id_: hash(id_) & 7, lambda id_: -1, lambda id_: 1 << 62 | len(id_)])


def filled(batches, window, digest):
    collection = CustomIds(window=window, digest=digest)
    for batch in batches:
        collection.extend(batch)
    return collection


@given(batches=ids_in_batches, window=windows, digest=digests)
def test_repeated_flags_all_but_the_first(batches, window, digest):
    with filled(batches, window, digest) as ids:
        keys = [ids.key(id_) for batch in batches for id_ in batch]
        assert list(ids.repeated()) == [key in keys[:row] for row, key in enumerate(keys)]
        assert len(ids) == len(keys)


@given(batches=ids_in_batches, window=windows, digest=digests, data=st.data())
def test_repeated_with_rows_that_go_last(batches, window, digest, data):
    with filled(batches, window, digest) as ids:
        keys = [ids.key(id_) for batch in batches for id_ in batch]
        later = data.draw(st.lists(st.integers(0, 1), min_size=len(keys), max_size=len(keys)).map(bytes))
        order = sorted(range(len(keys)), key=lambda row: (later[row], row))
        expected = [
            keys[row] in [keys[before] for before in order[: order.index(row)]] for row in range(len(keys))
        ]
        assert list(ids.repeated(later)) == expected


@given(some=ids_in_batches, others=ids_in_batches, window=windows, other_window=windows, digest=digests)
def test_unshared_flags_what_only_one_side_has(some, others, window, other_window, digest):
    with filled(some, window, digest) as here, filled(others, other_window, digest) as there:
        keys = [here.key(id_) for batch in some for id_ in batch]
        other_keys = [there.key(id_) for batch in others for id_ in batch]
        flags, other_flags = here.unshared(there)
        assert list(flags) == [key not in other_keys for key in keys]
        assert list(other_flags) == [key not in keys for key in other_keys]


@given(some=ids_in_batches, others=ids_in_batches, window=windows, other_window=windows, digest=digests)
def test_shared_flags_what_both_sides_have(some, others, window, other_window, digest):
    with filled(some, window, digest) as here, filled(others, other_window, digest) as there:
        other_keys = [here.key(id_) for batch in others for id_ in batch]
        assert list(here.shared(there)) == [here.key(id_) in other_keys for batch in some for id_ in batch]


def test_ids_can_be_added_after_a_question():
    with filled([["a", "b"]], 2, hash) as ids, filled([["c"]], 2, hash) as more:
        assert list(more.shared(ids)) == [0]
        ids.extend(["c"])
        assert list(more.shared(ids)) == [1]


def test_keys_at_stops_at_its_limit():
    with filled([["a", "b", "a", "c", "b"]], 2, hash) as ids:
        assert ids.keys_at(bytearray([0, 1, 0, 0, 1]), 9) == {ids.key("b")}
        assert len(ids.keys_at(bytearray([1] * 5), 2)) == 2


@pytest.mark.parametrize("seed", ["0", "1", "random"])
def test_no_id_has_the_same_key_in_another_process(monkeypatch, seed):
    ask = (
        "from airflow_provider_mistral_batch.jsonl.custom_ids import CustomIds\n"
        "with CustomIds() as ids: print(ids.key('a'))"
    )
    monkeypatch.setenv("PYTHONHASHSEED", seed)
    keys = {subprocess.run([sys.executable, "-c", ask], check=True, capture_output=True).stdout for _ in "ab"}
    assert len(keys) == 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ab", "\u6261"),  # Python's hash is one of bytes, and these two have the same bytes in memory
        ("\x01\x01", "\u0101"),
        ("\x00\xd80\x00", "\ud8000"),
        ("\U00010041", "A\x00\x01\x00"),
        ("", "\x00"),
        ("\u00000", "\ud8000"),
    ],
)
def test_ids_that_are_the_same_bytes_in_memory_have_different_keys(one, other):
    with filled([[one]], 2, hash) as ids, filled([[other]], 2, hash) as others:
        assert ids.key(one) != others.key(other)
        assert [list(flags) for flags in ids.unshared(others)] == [[1], [1]]


def first_is_weak(text):
    return -1 if text.startswith(custom_ids._SECRETS[0]) else hash(text)


def second_is_weak(text):
    return len(text) & 1 if text.startswith(custom_ids._SECRETS[1]) else hash(text)


@given(
    some=ids_in_batches,
    others=ids_in_batches,
    window=windows,
    digest=st.sampled_from([hash, first_is_weak, second_is_weak]),
    data=st.data(),
)
def test_certain_ids_differ_if_one_of_their_two_keys_does(some, others, window, digest, data):
    with CertainIds(window=window, digest=digest) as here, CertainIds(window=7, digest=digest) as there:
        ids, other_ids = ([id_ for batch in batches for id_ in batch] for batches in (some, others))
        if data.draw(st.booleans()):
            other_ids = data.draw(st.permutations(ids))
        here.extend(ids)
        there.extend(other_ids)
        flags, other_flags = here.unshared(there)
        assert list(flags) == [id_ not in other_ids for id_ in ids]
        assert list(other_flags) == [id_ not in ids for id_ in other_ids]
        assert list(here.repeated()) == [id_ in ids[:row] for row, id_ in enumerate(ids)]
        assert len(here) == len(ids)
