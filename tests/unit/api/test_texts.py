"""What is kept of the API's texts: one line, cut, and without the key in any of its forms."""

from __future__ import annotations

import html
import json
from collections.abc import Callable
from urllib.parse import quote

import msgspec
import pytest

from airflow_provider_mistral_batch.api import limits
from airflow_provider_mistral_batch.api.dialects import wire
from airflow_provider_mistral_batch.api.dialects.registry import DIALECTS
from airflow_provider_mistral_batch.api.texts import forms_of, kept, label, sentence, us_dollars

KEYS = ["k3y-of/nobody+==", "Abc123XYZ", "quo\"te\\back&<a>'"]

FORMS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "for a URL": lambda key: quote(key, safe=""),
    "for a path": quote,
    "for a URL, in lower case": lambda key: (
        quote(key, safe="").lower() if key.islower() else quote(key, safe="")
    ),
    "for a URL, twice": lambda key: quote(quote(key, safe=""), safe=""),
    "for a URL, each character": lambda key: "".join(f"%{ord(char):02x}" for char in key),
    "JSON": lambda key: json.dumps(key)[1:-1],
    "JSON within JSON": lambda key: json.dumps(json.dumps(key))[3:-3],
    "JSON with slashes escaped": lambda key: json.dumps(key)[1:-1].replace("/", "\\/"),
    "JSON, each character": lambda key: "".join(f"\\u{ord(char):04x}" for char in key),
    "JSON in capitals": lambda key: "".join(f"\\u{ord(char):04X}" for char in key),
    "HTML": html.escape,
    "HTML, each character": lambda key: "".join(f"&#{ord(char)};" for char in key),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("key", KEYS)
def test_a_key_is_found_in_each_form(key, form):
    assert forms_of(key).sub("***", f"Bearer {FORMS[form](key)}.") == "Bearer ***."


@pytest.mark.parametrize(
    "text", ["k3y-of", "k3y-of/nobody+=", "%2f", "\\u006b", "nothing", "K3Y-OF/NOBODY+=="]
)
def test_other_texts_stay(text):
    assert forms_of(KEYS[0]).sub("***", text) == text


def _without_key(text: str) -> str:
    return forms_of(KEYS[0]).sub("***", text)


@pytest.mark.parametrize("before", [*range(470, 501, 5), 5_980, 5_990, 6_000])
@pytest.mark.parametrize("filling", ["x", " "])
def test_no_cut_leaves_a_part_of_the_key(before, filling):
    shown = kept(filling * before + KEYS[0] + "y" * 10_000, _without_key)
    assert "k3y" not in shown
    assert len(shown) <= 501


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("short", "short"),
        ("a\nb\x1b[31mc\r\u2028d", "a b [31mc d"),
        ("x" * 500, "x" * 500),
        ("x" * 501, "x" * 500 + "…"),
        ("x" * 5_000_000, "x" * 500 + "…"),
    ],
)
def test_what_is_kept_of_a_text(text, shown):
    assert kept(text, str) == shown


@pytest.mark.parametrize(
    ("name", "shown"),
    [("two  spaces.jsonl", "two  spaces.jsonl"), ("a\nb", "a b"), ("a" * 9999, "a" * 1000 + "…")],
)
def test_what_is_kept_of_a_name(name, shown):
    assert label(name) == shown


FORGED = "a\n[2026-01-01] ERROR forged \x1b[2J"
JOB = {"id": "j", "status": "FAILED", "created_at": 1}


def _job(dialect: str, **fields: object):
    status = "FAILED" if dialect == "mistral" else "failed"
    content = json.dumps({**JOB, "status": status, **fields}).encode()
    return wire.kept_job(DIALECTS[dialect].decode_job(content), _without_key)


def _texts(value: object) -> list[str]:
    builtins = msgspec.to_builtins(value)
    if isinstance(builtins, dict):
        return [text for item in builtins.values() for text in _texts(item)]
    if isinstance(builtins, list):
        return [text for item in builtins for text in _texts(item)]
    return [builtins] if isinstance(builtins, str) else []


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    "fields",
    [
        {"errors": [{"code": FORGED, "message": FORGED, "param": FORGED}]},
        {"errors": [{"code": "c" * 9999, "message": "m" * 9999, "param": ["p" * 9999]}]},
        {"errors": [FORGED, {"message": {"a": FORGED}}]},
        {"status": FORGED},
        {"status": "s" * 9999},
        {
            "model": FORGED,
            "endpoint": FORGED,
            "object": FORGED,
            "agent_id": FORGED,
            "completion_window": FORGED,
        },
    ],
)
def test_texts_of_a_job_are_cut_and_cannot_forge_log_lines(dialect, fields):
    texts = _texts(_job(dialect, **fields))
    assert all(text.isprintable() for text in texts)
    assert max(map(len, texts)) <= 501


@pytest.mark.parametrize("dialect", DIALECTS)
def test_of_a_jobs_errors_a_bounded_number_is_kept_and_said(dialect):
    errors = _job(dialect, errors=[{"code": "c" * 1000, "message": "m"}] * 1234).errors
    assert len(errors) == limits.MAX_JOB_ERRORS + 1
    assert str(errors[-1]) == "and 1,134 more errors"
    assert sum(map(len, _texts(errors))) < 100_000


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("number", ["9" * 4000, "-" + "9" * 4000, "true", "1.5", '"7"'])
def test_only_a_number_counts_as_one(dialect, number):
    content = b'{"id": "j", "status": "failed", "errors": [{"line": %s, "count": %s}]}'
    error = DIALECTS[dialect].decode_job(content % ((number.encode(),) * 2)).errors[0]
    assert (error.line, error.count) == (None, 1)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("form", FORMS)
def test_a_jobs_errors_hide_the_key(dialect, form):
    text = f"Bearer {FORMS[form](KEYS[0])}"
    job = _job(dialect, errors=[{"code": text, "message": text, "param": text}, text], status=text)
    shown = [text for error in job.errors for text in _texts(error)]
    assert shown == ["Bearer ***"] * 4
    assert (job.status, job.raw_status) == ("Bearer ***", "Bearer ***")


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("bad", ["a\nb", "a\x1b[2J", "a\x7f", "a\u2028b", "a\u202eb", "a\n", "a" * 3000])
@pytest.mark.parametrize("field", ["id", "output_file", "input_files"])
def test_an_id_is_exact_or_none(dialect, bad, field):
    names = {"output_file": "output_file_id", "input_files": "input_file_id"} if dialect == "openai" else {}
    value = [bad] if field == "input_files" and dialect == "mistral" else bad
    with pytest.raises(msgspec.ValidationError):
        _job(dialect, **{names.get(field, field): value})
    with pytest.raises(msgspec.ValidationError):
        wire.decode_file(json.dumps({"id": bad}).encode())


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("good", ["a", " a  b ", "a/b+c==", "\N{GRINNING FACE}é", "a" * 2000])
def test_other_ids_stay_as_they_are(dialect, good):
    assert _job(dialect, id=good).id == good
    assert wire.decode_file(json.dumps({"id": good}).encode()).id == good


@pytest.mark.parametrize(
    ("message", "said"), [("no", "no."), ("no.", "no."), ("Why?", "Why?"), ("cut…", "cut…"), ("", ".")]
)
def test_another_sentence_can_follow_an_error(message: str, said: str) -> None:
    assert sentence(ValueError(message)) == sentence(message) == said


@pytest.mark.parametrize(
    ("amount", "written"),
    [
        (0, "$0.00"),
        (1e-12, "$0.00"),
        (1.03e-5, "$0.0000103"),
        (0.0999, "$0.0999"),
        (0.1, "$0.10"),
        (1234.5, "$1,234.50"),
    ],
)
def test_dollars_are_written_out(amount: float, written: str) -> None:
    assert us_dollars(amount) == written
