"""Rows are counted, what they cost is summed, and their failures are grouped."""

from __future__ import annotations

from .result_rows import answer, lines, result


def test_usage_of_each_endpoint(split):
    summary = split(
        lines(
            answer("a"),
            result("b", body={"pages": [], "usage_info": {"pages_processed": 24, "doc_size_bytes": 5}}),
            result(
                "c",
                body={
                    "text": "x",
                    "usage": {"prompt_audio_seconds": 12, "prompt_tokens": 1, "total_tokens": 1},
                },
            ),
            result(
                "d",
                body={
                    "data": [],
                    "usage": {"prompt_tokens": 7, "completion_tokens": None, "total_tokens": 7},
                },
            ),
            result("e", 500, {"usage": {"prompt_tokens": 100, "completion_tokens": 0, "total_tokens": 100}}),
        )
    )
    assert summary.usage == {
        "prompt_tokens": 111,
        "completion_tokens": 2,
        "total_tokens": 113,
        "pages_processed": 24,
        "prompt_audio_seconds": 12,
    }
    assert summary.counts["by_status"] == {"200": 4, "500": 1}


def test_an_odd_amount_costs_no_other(split):
    usage = {"prompt_tokens": 7, "completion_tokens": None, "prompt_audio_seconds": 2.5, "total_tokens": "9"}
    summary = split(lines(result("a", body={"usage": usage})))
    assert summary.usage == {
        "prompt_tokens": 7,
        "completion_tokens": 0,
        "total_tokens": 0,
        "prompt_audio_seconds": 2.5,
    }


def test_the_digest_counts_kinds_of_failure(split):
    rows = [result(f"r{n}", 429, {"message": f"Limit of {n} tokens, request {n:032x}"}) for n in range(30)]
    rows += [result(f"s{n}", 422, {"message": "bad"}) for n in range(3)]
    summary = split(lines(*rows))
    assert [(kind["status_code"], kind["count"], kind["example"]) for kind in summary.errors] == [
        (429, 30, "r0"),
        (422, 3, "s0"),
    ]
    assert summary.errors[0]["message"].startswith("Limit of 0 tokens")
    assert summary.may_pass == 30


def test_the_digest_is_bounded(split):
    words = ["".join(chr(97 + digit) for digit in divmod(n, 26)) for n in range(600)]
    summary = split(lines(*(result(word, 500, {"message": word}) for word in words)))
    assert len(summary.errors) == 21
    assert sum(kind["count"] for kind in summary.errors) == 600
    assert summary.errors[-1]["message"] == "other errors"
