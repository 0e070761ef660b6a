"""Lines come out of streams as they are, wherever the stream is cut and whatever it is compressed with."""

from __future__ import annotations

import gzip

import pytest
import zstandard
from airflow.sdk import ObjectStoragePath
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.jsonl.lines import (
    CHUNK_BYTES,
    DamagedFileError,
    file_chunks,
    line_blocks,
)


def lines_of(chunks, **options):
    return [line for block in line_blocks(chunks, **options) for line in block.lines]


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted(min(place, len(data)) for place in places)
    return [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]


@given(
    lines=st.lists(st.binary(max_size=20).map(lambda line: line.replace(b"\n", b"").replace(b"\r", b""))),
    end=st.sampled_from([b"\n", b"\r\n"]),
    mark=st.booleans(),
    last=st.booleans(),
    places=st.lists(st.integers(0, 400), max_size=12),
)
def test_lines_are_the_same_wherever_the_stream_is_cut(lines, end, mark, last, places):
    lines = [line for line in lines if not line.startswith(b"\xef")]
    data = end.join(lines) + (end if last and lines else b"")
    expected = lines if last else lines[:-1] if lines and not lines[-1] else lines
    chunks = cut((b"\xef\xbb\xbf" if mark else b"") + data, places)
    blocks = list(line_blocks(chunks))
    assert [line for block in blocks for line in block.lines] == expected
    assert [block.data for block in blocks] == [b"\n".join(block.lines) for block in blocks]
    numbers = [
        number for block in blocks for number in range(block.first_line, block.first_line + len(block.lines))
    ]
    assert numbers == list(range(1, len(expected) + 1))
    assert any(block.ends_cut for block in blocks) == bool(expected and not last and lines[-1])


@pytest.mark.parametrize("size", [1, 7, 100])
def test_a_line_that_is_too_long_is_not_held(size):
    data = b"short\n" + b"x" * 1000 + b"\nafter\n"
    chunks = [data[start : start + size] for start in range(0, len(data), size)]
    found = lines_of(chunks, max_line_bytes=50)
    assert found[0] == b"short"
    assert found[2] == b"after"
    assert 50 < len(found[1]) <= max(51, size)


def test_a_too_long_last_line_is_not_held():
    assert len(lines_of([b"x" * 40, b"x" * 40, b"x" * 40], max_line_bytes=50)[0]) == 51


CONTENT = b"".join(b'{"custom_id": "%d", "body": {}}\n' % number for number in range(20_000))
SKIPPED = b"\x5f\x2a\x4d\x18\x04\x00\x00\x00size"
COMPRESSIONS = {
    "a.jsonl": lambda data: data,
    "a.jsonl.gz": gzip.compress,
    "several-members.jsonl.gz": lambda data: gzip.compress(data[:1000]) + gzip.compress(data[1000:]),
    "a.jsonl.zst": zstandard.compress,
    "several-frames.jsonl.zst": lambda data: (
        zstandard.compress(data[:1000]) + zstandard.compress(data[1000:])
    ),
    "with-frames-to-skip.jsonl.zst": lambda data: (
        SKIPPED + zstandard.compress(data[:1000]) + SKIPPED + SKIPPED + zstandard.compress(data[1000:])
    ),
    "misnamed.jsonl": gzip.compress,
}


@pytest.mark.parametrize("name", COMPRESSIONS)
@pytest.mark.parametrize("kind", ["str", "Path", "file://", "memory://"])
def test_files_of_every_kind_read_the_same(name, kind, tmp_path, bucket):
    data = COMPRESSIONS[name](CONTENT)
    path = tmp_path / name
    path.write_bytes(data)
    source = {"str": str(path), "Path": path, "file://": ObjectStoragePath(f"file://{path}")}.get(kind)
    if source is None:
        source = bucket / name
        source.write_bytes(data)
    chunks = list(file_chunks(source))
    assert b"".join(chunks) == CONTENT
    assert max(map(len, chunks)) <= 4 * CHUNK_BYTES


@pytest.mark.parametrize(
    "name", ["a.jsonl.gz", "a.jsonl.zst", "several-members.jsonl.gz", "several-frames.jsonl.zst"]
)
@pytest.mark.parametrize("kept", [0, 1, 3, 0.5, 0.999])
def test_a_cut_compressed_file_is_an_error(name, kept, tmp_path):
    data = COMPRESSIONS[name](CONTENT)
    path = tmp_path / name
    path.write_bytes(data[: kept if isinstance(kept, int) else int(len(data) * kept)])
    with pytest.raises(DamagedFileError, match=f"{name}.* (cut|is empty)"):
        list(file_chunks(path))


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst"])
def test_a_damaged_compressed_file_is_an_error(name, tmp_path):
    data = bytearray(COMPRESSIONS[name](CONTENT))
    data[len(data) // 2] ^= 0xFF
    data[len(data) // 2 + 1] ^= 0xFF
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(DamagedFileError, match=name):
        list(file_chunks(path))


def test_a_zstandard_file_that_takes_too_much_memory_is_not_called_damaged(tmp_path):
    long = zstandard.ZstdCompressionParameters.from_level(3, window_log=28, enable_ldm=True)
    compressor = zstandard.ZstdCompressor(compression_params=long).compressobj()
    path = tmp_path / "long.jsonl.zst"
    path.write_bytes(compressor.compress(CONTENT) + compressor.flush())
    with pytest.raises(
        DamagedFileError, match=r"long\.jsonl\.zst takes more than 128 MB.* --long=27 or less"
    ):
        list(file_chunks(path))


def test_a_name_that_promises_compression_must_keep_it(tmp_path):
    path = tmp_path / "plain.jsonl.gz"
    path.write_bytes(CONTENT)
    with pytest.raises(DamagedFileError, match="not start like a gzip file"):
        list(file_chunks(path))


def test_a_url_in_a_string_is_refused():
    with pytest.raises(InvalidInputError, match="ObjectStoragePath"):
        list(file_chunks("s3://bucket/key"))
