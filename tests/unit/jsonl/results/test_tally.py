"""Rows are counted, what they cost is summed, and their failures are grouped."""

from __future__ import annotations

import pytest

from airflow_provider_mistral_batch.api.transport import Transport
from airflow_provider_mistral_batch.jsonl.results.digest import describe_errors
from airflow_provider_mistral_batch.jsonl.results.manifest import write_manifest

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
    usage = {
        "prompt_tokens": 7.0,
        "completion_tokens": None,
        "prompt_audio_seconds": 2.5,
        "total_tokens": "9",
    }
    summary = split(lines(result("a", body={"usage": usage})))
    assert summary.usage == {
        "prompt_tokens": 7,
        "completion_tokens": 0,
        "total_tokens": 9,
        "prompt_audio_seconds": 2.5,
    }


@pytest.mark.parametrize(
    "odd", [-1, 10**20, -1.5, 1e300, float("nan"), float("inf"), 10.5, True, "many", [1], {}]
)
@pytest.mark.parametrize(
    "place", ["prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details"]
)
def test_an_amount_that_cannot_be_read_is_unknown_and_stops_nothing(split, place, odd):
    if place == "prompt_tokens_details":
        odd = {"cached_tokens": odd}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5, place: odd}
    summary = split(lines(answer("a"), answer("b", usage=usage), answer("c")))
    expected = {"prompt_tokens": 9, "completion_tokens": 6, "total_tokens": 15}
    if place in expected:
        expected[place] = expected[place] // 3 * 2
    assert summary.usage == {**expected, "rows_not_measured": 1}
    assert summary.counts["succeeded"] == 3
    write_manifest(summary.as_dict(), split.folder.parent / "manifest.json")


@pytest.mark.parametrize("usage", [None, {}, "free", [1], {"prompt_tokens": None}])
def test_an_answer_without_amounts_is_not_free(split, usage):
    summary = split(lines(answer("a"), answer("b", usage=usage)))
    assert summary.usage["prompt_tokens"] == 3
    assert summary.usage["rows_not_measured"] == 1


def test_cached_tokens_and_pages_with_annotations_are_counted(split):
    cached = {"prompt_tokens": 3, "prompt_tokens_details": {"cached_tokens": 2}}
    infos = [
        {"pages_processed": 8, "pages_processed_annotation": 8},
        {"pages_processed": 0, "pages_processed_annotation": 3},
        {"pages_processed": 5},
        {"pages_processed": "4", "pages_processed_annotation": 1.0},
    ]
    rows = [result(str(number), body={"usage_info": info}) for number, info in enumerate(infos)]
    summary = split(lines(answer("a", usage=cached), *rows))
    assert summary.usage == {
        "prompt_tokens": 3,
        "completion_tokens": 0,
        "total_tokens": 0,
        "cached_tokens": 2,
        "pages_processed": 20,
        "pages_processed_annotation": 12,
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


@pytest.mark.parametrize(
    ("odd", "annotated"),
    [
        ({"document_annotation": "{}"}, 24),
        ({"pages": [{"images": []}, {"images": [{"id": "i", "image_annotation": "{}"}]}]}, 24),
        ({"pages": [{"images": [{"image_annotation": None}]}, {"images": None}, {}]}, 0),
        ({"pages": [7, {"images": [7, {"image_annotation": "{}"}]}]}, 24),
        ({"document_annotation": None, "pages": 7}, 0),
    ],
)
def test_pages_with_annotations_that_the_api_counts_like_others(split, odd, annotated):
    # So does the API's own example of annotations: usage_info has pages_processed only.
    body = {"usage_info": {"pages_processed": 24, "doc_size_bytes": 5}, **odd}
    usage = split(
        lines(result("a", body=body), result("b", body={"usage_info": {"pages_processed": 1}}))
    ).usage
    assert (usage["pages_processed"], usage.get("pages_processed_annotation", 0)) == (25, annotated)


KEY = "s3cr3t/key+of-the-api=="
HIDING = [
    KEY,
    "s3cr3t%2Fkey%2Bof-the-api%3D%3D",
    r"s3cr3t\/key\u002bof-the-api==",
    " ".join(["long"] * 58) + " " + KEY,
    "a" * 290 + KEY,
]


@pytest.mark.parametrize("text", HIDING)
@pytest.mark.parametrize("place", ["error", "body", "code", "custom_id", "missing", "reason"])
def test_a_digest_has_no_secrets_and_no_control_characters(split, text, place):
    without_secrets = Transport(KEY, "https://host").without_secrets
    said = f"\x1b[31m{text}\nINFO forged"
    rows = {
        "error": result("a", 400, None, {"message": said}),
        "body": result("a", 400, {"message": {"detail": [{"loc": ["body"], "msg": said}]}}),
        "code": result("a", 400, None, {"code": said, "message": "no"}),
        "custom_id": result(said, 400),
        "missing": answer("a"),
        "reason": answer("a"),
    }
    summary = split(
        lines(rows[place]),
        asked=["a", said] if place == "missing" else None,
        check=(lambda row: said) if place == "reason" else None,
        without_secrets=without_secrets,
    )
    (kind,) = summary.errors
    for shown in (kind["message"], kind["code"] or "", kind["example"], describe_errors(summary.errors)):
        assert "s3cr3t" not in shown
        assert shown.isprintable()
        assert len(shown) < 600
    landed = split.errors.read_text()
    assert "forged" in landed
    if text == KEY:
        # Rows are as the API wrote them.
        assert KEY in landed


def test_what_a_replaced_row_costs_is_not_known(split):
    assert split(b"<html>\n" + lines(answer("a"))).usage["rows_not_measured"] == 1
