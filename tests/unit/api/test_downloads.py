"""Which bytes of a broken download are asked for next, and which answers fit those that were given."""

from __future__ import annotations

import pytest

from airflow_provider_mistral_batch.api import limits
from airflow_provider_mistral_batch.api.downloads import Download
from airflow_provider_mistral_batch.api.errors import MistralConnectionError, MistralResponseError


def _begun(given: int = 0, **headers: str) -> Download:
    """A download that began with an answer and broke after some bytes."""
    download = Download("GET /f")
    download.begin(200, {name.replace("_", "-"): value for name, value in headers.items()})
    download.given = given
    return download


@pytest.mark.parametrize(
    ("download", "headers"),
    [
        (Download("GET /f"), {}),
        (_begun(0, ETag='"1"'), {}),
        (_begun(5), {"Range": "bytes=5-"}),
        (_begun(5, ETag='"1"'), {"Range": "bytes=5-", "If-Range": '"1"'}),
        (_begun(5, ETag='W/"1"'), {"Range": "bytes=5-"}),
        # Ranges are counted in the bytes of an encoding that may differ next time.
        (_begun(5, Content_Encoding="gzip"), {}),
    ],
)
def test_what_is_asked_for(download, headers):
    assert download.request_headers() == {"Accept-Encoding": "identity", **headers}


@pytest.mark.parametrize(
    ("download", "status_code", "headers", "skip"),
    [
        (Download("GET /f"), 200, {}, 0),
        (Download("GET /f"), 206, {"Content-Range": "bytes 0-9/10"}, 0),
        (_begun(5), 206, {"Content-Range": "bytes 5-9/10"}, 0),
        (_begun(5), 206, {"Content-Range": "bytes 5-9/*"}, 0),
        (_begun(5, Content_Length="10"), 206, {"Content-Range": "bytes 5-6/10", "Content-Length": "2"}, 0),
        (
            _begun(5, ETag='"1"', Content_Length="10"),
            206,
            {"Content-Range": "bytes 5-9/10", "ETag": '"1"'},
            0,
        ),
        # The server does not know ranges.
        (_begun(5, Content_Length="10"), 200, {"Content-Length": "10"}, 5),
        (_begun(5, Content_Length="10"), 200, {"Content-Encoding": "gzip", "Content-Length": "3"}, 5),
        (_begun(5, ETag='"1"'), 200, {}, 5),
        (_begun(5), 200, {"ETag": '"1"'}, 5),
        # Nothing was given yet: any version will do.
        (_begun(0, ETag='"1"', Content_Length="10"), 200, {"ETag": '"2"', "Content-Length": "20"}, 0),
    ],
)
def test_answers_that_fit(download, status_code, headers, skip):
    assert download.begin(status_code, headers) == skip


@pytest.mark.parametrize(
    ("headers", "status_code", "then"),
    [
        ({"ETag": '"1"'}, 200, {"ETag": '"2"'}),
        ({"ETag": '"1"'}, 206, {"ETag": '"2"', "Content-Range": "bytes 5-9/10"}),
        ({"Content_Length": "10"}, 200, {"Content-Length": "11"}),
        ({"Content_Length": "10"}, 206, {"Content-Range": "bytes 5-10/11"}),
    ],
)
def test_bytes_of_two_versions_are_never_mixed(headers, status_code, then):
    with pytest.raises(MistralResponseError, match=r"the file changed .* after 5 bytes") as caught:
        _begun(5, **headers).begin(status_code, then)
    assert caught.value.transient is False


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Range": "bytes 4-9/10"},
        {"Content-Range": "bytes 50-99/100"},
        {"Content-Range": "bytes */10"},
        {"Content-Range": "lines 5-9/10"},
        {},
        {"Content-Range": "bytes 5-9/10", "Content-Encoding": "gzip"},
    ],
)
def test_wrong_range_is_followed_by_an_attempt_without(headers):
    download = _begun(5)
    with pytest.raises(MistralResponseError, match="asked for the bytes from 5 on") as caught:
        download.begin(206, headers)
    assert caught.value.transient
    assert "Range" not in download.request_headers()


@pytest.mark.parametrize(
    ("status_code", "headers"),
    [(204, {}), (202, {}), (200, {"Content-Type": "text/html; charset=utf-8"})],
)
def test_what_is_no_file(status_code, headers):
    with pytest.raises(MistralResponseError, match="instead of a file"):
        Download("GET /f").begin(status_code, headers)


@pytest.mark.parametrize(
    ("given", "length", "to_skip", "error"),
    [
        (10, "10", 0, None),
        (10, None, 0, None),
        (9, "10", 0, MistralConnectionError),
        (11, "10", 0, MistralResponseError),
        (10, None, 3, MistralResponseError),
    ],
)
def test_where_a_body_ends(given, length, to_skip, error):
    download = _begun(given, **({"Content_Length": length} if length else {}))
    if error is None:
        download.end(to_skip)
    else:
        with pytest.raises(error):
            download.end(to_skip)


LITTLE, MUCH = (1 << 16) - 1, 1 << 16


@pytest.mark.parametrize(
    ("brought", "numbers"),
    [
        ([MUCH] * 100, [1] * 100),
        ([LITTLE] * 4, [1, 2, 3, 4]),
        ([LITTLE] * 5, [1, 2, 3, 4, None]),
        ([0, 0, 0, 0, 0], [1, 2, 3, 4, None]),
        ([LITTLE, LITTLE, MUCH, LITTLE, LITTLE, LITTLE, LITTLE], [1, 2, 1, 1, 2, 3, 4]),
    ],
)
def test_breaks_are_bounded_where_they_bring_little(brought, numbers):
    download = _begun()
    for count, number in zip(brought, numbers, strict=True):
        download.took(count)
        if number is None:
            with pytest.raises(MistralConnectionError, match="broke off 5 times in a row"):
                download.broke()
        else:
            assert download.broke() == number


@pytest.mark.parametrize(
    ("length", "count", "words"),
    [
        ("10", 10, None),
        ("10", 11, "the file changed"),
        (None, limits.MAX_DOWNLOAD_BYTES, None),
        (None, limits.MAX_DOWNLOAD_BYTES + 1, "has no end"),
    ],
)
def test_no_file_is_larger_than_it_says_or_than_any_is(length, count, words):
    download = _begun(0, **({"Content_Length": length} if length else {}))
    if words is None:
        download.took(count)
    else:
        with pytest.raises(MistralResponseError, match=words) as caught:
            download.took(count)
        assert caught.value.transient is False
