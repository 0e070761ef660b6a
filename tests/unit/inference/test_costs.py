"""Estimates: what is counted, what bounds them, and when there is none."""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from packaging.version import Version

from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.api.texts import us_dollars
from airflow_provider_mistral_batch.inference.budget import can_afford, estimated_cost
from airflow_provider_mistral_batch.inference.costs import estimate, price_usd
from airflow_provider_mistral_batch.inference.estimate import estimate_cost
from airflow_provider_mistral_batch.inference.prices import check_prices
from airflow_provider_mistral_batch.jsonl.lines import MAX_ROW_BYTES

pytest.importorskip("genai_prices")
pytest.importorskip("mistral_common")

#: The last one for Python 3.10 does not have them.
CACHED_TOKENS = pytest.mark.skipif(
    Version(version("genai-prices")) < Version("0.2"),
    reason="genai-prices has prices of cached tokens since 0.2",
)

CHAT = "/v1/chat/completions"
MODEL = "mistral-small-latest"


def file_of(tmp_path: Path, *bodies: dict[str, Any]) -> Path:
    path = tmp_path / "requests.jsonl"
    path.write_text("".join(json.dumps({"custom_id": "a", "body": body}) + "\n" for body in bodies))
    return path


def chat(content: Any, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}], "max_tokens": 10, **fields}


CONVERSATIONS = "/v1/conversations"


def talk(**fields: Any) -> dict[str, Any]:
    return {"inputs": "one", "completion_args": {"max_tokens": 10}, **fields}


#: Body, and bounds of its prompt's tokens by a tokenizer that makes one of each short English word.
BODIES = [
    (CHAT, chat("one two three four"), 4, 10),
    (CHAT, chat([{"type": "text", "text": "one two three four"}]), 4, 16),
    (CHAT, chat([{"text": "one two three four " * 50}]), 200, 250),
    (CHAT, chat([{"image_url": "https://example.com/a.png"}]), 1_000, 5_000),
    ("/v1/chat/moderations", {"input": {"messages": [{"role": "user", "content": "one " * 50}]}}, 50, 80),
    (CONVERSATIONS, talk(completion_args={"max_tokens": 10, "response_format": {"x": "one " * 50}}), 50, 80),
    (CONVERSATIONS, talk(completion_args={"max_tokens": 10, "prediction": {"content": "one " * 50}}), 50, 80),
    (CHAT, chat("one", tools=[{"type": "function", "function": {"name": "f"}}]), 12, 40),
    (CHAT, chat([{"type": "image_url", "image_url": "https://example.com/a.png"}]), 1_000, 5_000),
    ("/v1/fim/completions", {"prompt": "one two", "suffix": "three", "max_tokens": 10}, 3, 8),
    ("/v1/embeddings", {"input": ["one two", "three four"]}, 4, 8),
    ("/v1/conversations", {"inputs": "one two", "completion_args": {"max_tokens": 10}}, 2, 6),
]


@pytest.mark.parametrize(("endpoint", "body", "least", "most"), BODIES)
def test_prompt_tokens(endpoint: str, body: dict[str, Any], least: int, most: int, tmp_path: Path) -> None:
    path = file_of(tmp_path, body, body)
    cost = estimate([path], endpoint=endpoint, model="mistral-embed" if "embed" in endpoint else MODEL)
    assert 2 * least <= cost.prompt_tokens <= 2 * most
    assert cost.completion_tokens == (0 if "max_tokens" not in str(body) else 20)
    assert cost.usd > 0


def test_several_answers_to_one_prompt_cost_as_many(tmp_path: Path) -> None:
    cost = estimate([file_of(tmp_path, chat("x", n=3))], endpoint=CHAT, model=MODEL)
    assert cost.completion_tokens == 30


@pytest.mark.parametrize(
    ("endpoint", "model", "body", "named"),
    [
        ("/v1/ocr", "mistral-ocr-latest", {}, "/v1/ocr"),
        (CHAT, None, chat("x"), "pass model"),
        (CHAT, "my-own", chat("x"), "'my-own'"),
        (CHAT, MODEL, {"messages": []}, "row 'a' has no max_tokens"),
        (CHAT, MODEL, chat("x", max_tokens=-1), "row 'a' has no max_tokens of 0 or more"),
        (CHAT, MODEL, chat([{"type": "document_url", "document_url": "u"}]), "'document_url'"),
        (CHAT, MODEL, chat([{"document_url": "u"}]), "'document_url'"),
        (CHAT, MODEL, chat([{"input_audio": "u"}]), "'input_audio'"),
        (CHAT, MODEL, chat("x", tools=[{"type": "web_search"}]), "'web_search'"),
        (CHAT, MODEL, chat("x", tools=["connector"]), "'connector'"),
        (CHAT, MODEL, chat("x", agent_id="a"), "agent_id"),
        (CHAT, MODEL, chat("x", tools=[{"type": "x" * 10_000}]), "leave max_cost_usd out"),
        *(
            (CONVERSATIONS, MODEL, talk(tools=[{"type": "function"}, {"type": kind}]), repr(kind))
            for kind in ("web_search_premium", "code_interpreter", "image_generation", "document_library")
        ),
        (CONVERSATIONS, MODEL, talk(conversation_id="c"), "conversation_id"),
    ],
)
def test_no_bound(endpoint: str, model: str | None, body: dict[str, Any], named: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="max_cost_usd") as raised:
        estimate([file_of(tmp_path, body)], endpoint=endpoint, model=model)
    assert named in str(raised.value)


@pytest.mark.parametrize(
    ("n", "tokens"), [(None, 10), (0, 10), (3, 30), (3.0, 30), ("3", None), (True, None), (1.5, None)]
)
def test_how_many_answers(n: Any, tokens: int | None, tmp_path: Path) -> None:
    path = file_of(tmp_path, chat("one", n=n))
    if tokens is None:
        with pytest.raises(InvalidInputError, match="n="):
            estimate([path], endpoint=CHAT, model=MODEL)
    else:
        assert estimate([path], endpoint=CHAT, model=MODEL).completion_tokens == tokens


@pytest.mark.parametrize("number", ["1e400", "9" * 5_000])
def test_a_row_that_cannot_be_counted_is_named(number: str, tmp_path: Path) -> None:
    path = file_of(tmp_path, chat("fine"))
    path.write_text(path.read_text() + f'{{"custom_id":"b","body":{{"max_tokens":{number}}}}}\n')
    with pytest.raises(InvalidInputError, match=r"row 'b' cannot be counted \(.*out of range.*\)"):
        estimate([path], endpoint=CHAT, model=MODEL)


def test_rows_of_any_length_are_counted(tmp_path: Path) -> None:
    long = chat("x", metadata="x" * MAX_ROW_BYTES)
    assert estimate([file_of(tmp_path, long)], endpoint=CHAT, model=MODEL).completion_tokens == 10


def test_batches_cost_half(tmp_path: Path) -> None:
    import genai_prices

    usage = genai_prices.Usage(input_tokens=1_000_000, output_tokens=1_000_000)
    full = float(genai_prices.calc_price(usage, model_ref=MODEL, provider_id="mistral").total_price)
    million = {"prompt_tokens": 1_000_000, "completion_tokens": 1_000_000, "total_tokens": 2_000_000}
    assert price_usd(MODEL, million) == pytest.approx(full / 2)


def test_pages_and_hours_have_prices() -> None:
    assert (price_usd("mistral-ocr-latest", {"prompt_tokens": 0, "pages_processed": 1_000}) or 0) > 0.1
    assert (price_usd("voxtral-mini-latest", {"prompt_audio_seconds": 3_600.0}) or 0) > 0.01


@pytest.mark.parametrize(
    ("model", "usage", "price"),
    [
        ("my-own", {"prompt_tokens": 5}, None),
        # Sold by the page: tokens alone say nothing of its price.
        ("mistral-ocr-latest", {"prompt_tokens": 5}, None),
        ("mistral-ocr-2503", {"pages_processed": 5, "pages_processed_annotation": 5}, None),
        ("mistral-ocr-latest", {"pages_processed_annotation": 5}, None),
        (MODEL, {"prompt_tokens": 5, "pages_processed": 5}, None),
        (MODEL, {"prompt_tokens": 5, "prompt_audio_seconds": 5}, None),
        (MODEL, {"prompt_tokens": 5, "rows_not_measured": 1}, None),
        (MODEL, {"prompt_tokens": -1}, None),
        (MODEL, {"prompt_tokens": float("nan")}, None),
        (MODEL, {"prompt_tokens": float("inf")}, None),
        pytest.param(MODEL, {"prompt_tokens": 1, "cached_tokens": 2}, None, marks=CACHED_TOKENS),
        (MODEL, {}, 0.0),
    ],
)
def test_prices_that_are_not_known(model: str, usage: dict[str, float], price: float | None) -> None:
    assert price_usd(model, usage) == price


@CACHED_TOKENS
def test_cached_tokens_have_prices_of_their_own() -> None:
    plain = price_usd(MODEL, {"prompt_tokens": 1_000_000}) or 0
    cached = price_usd(MODEL, {"prompt_tokens": 1_000_000, "cached_tokens": 1_000_000}) or 0
    assert 0 < cached < plain / 2


def test_annotated_pages_have_prices_of_their_own() -> None:
    pages = {"pages_processed": 1_000}
    annotated = price_usd("mistral-ocr-latest", {**pages, "pages_processed_annotation": 1_000}) or 0
    assert annotated > (price_usd("mistral-ocr-latest", pages) or 0) > 0


def options(**changes: Any) -> Any:
    return SimpleNamespace(**{"max_cost_usd": 1.0, "endpoint": CHAT, "prices": None, **changes})


def test_nothing_about_prices_raises_once_answers_are_paid(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = file_of(tmp_path, chat("x"))
    usage = {"prompt_tokens": 5, "completion_tokens": 5}
    assert can_afford([path], options(), MODEL, [usage])
    assert not can_afford([path], options(), MODEL, [usage, {"rows_not_measured": 1}])
    assert "not known" in caplog.text
    assert not can_afford([file_of(tmp_path, {"messages": []})], options(), MODEL, [usage])
    assert "has no max_tokens" in caplog.text

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a price list of tomorrow")

    monkeypatch.setattr("genai_prices.calc_price", broken)
    assert estimated_cost(MODEL, usage) is None
    assert not can_afford([path], options(), MODEL, [usage])
    assert "a price list of tomorrow" in caplog.text


OWN = {"input": 1, "output": 4.0, "cached": 0.5, "page": 0.002, "annotated_page": 0.004, "audio_minute": 0.6}


@pytest.mark.parametrize(
    ("prices", "usage", "usd"),
    [
        (OWN, {"prompt_tokens": 1_000_000, "completion_tokens": 500_000}, 3),
        (OWN, {"prompt_tokens": 1_000_000, "cached_tokens": 400_000}, 0.8),
        ({"input": 1}, {"prompt_tokens": 1_000_000, "cached_tokens": 400_000}, 1),
        (OWN, {"prompt_tokens": 7, "pages_processed": 10, "pages_processed_annotation": 4}, 0.028),
        (OWN, {"prompt_tokens": 7, "prompt_audio_seconds": 30.0}, 0.3),
        ({"input": 0}, {"prompt_tokens": 7}, 0),
        (OWN, {}, 0),
        ({"input": 1}, {"prompt_tokens": 7, "completion_tokens": 1}, None),
        ({"page": 1}, {"pages_processed": 2, "pages_processed_annotation": 2}, None),
        ({"input": 1}, {"pages_processed": 2}, None),
        (OWN, {"prompt_tokens": 7, "rows_not_measured": 1}, None),
        (OWN, {"prompt_tokens": 1, "cached_tokens": 2}, None),
        (OWN, {"prompt_tokens": float("nan")}, None),
    ],
)
def test_prices_of_the_user(prices: dict[str, float], usage: dict[str, float], usd: float | None) -> None:
    for model in ("my-own", MODEL):
        price = estimated_cost(model, usage, {model: prices})
        assert price == (None if usd is None else pytest.approx(usd / 2))


def test_prices_of_the_user_need_no_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    usage = {"prompt_tokens": 1_000_000}
    assert estimated_cost("my-own", usage, {"my-own": {"input": 1}}) == 0.5
    assert estimated_cost("other", usage, {"my-own": {"input": 1}}) is None


def test_a_limit_obeys_the_prices_of_the_user(tmp_path: Path) -> None:
    path = file_of(tmp_path, chat("one two", max_tokens=1_000_000))
    cost = estimate([path], endpoint=CHAT, model="my-own", prices={"my-own": {"input": 0, "output": 4}})
    assert cost.usd == pytest.approx(2)
    dear = options(prices={MODEL: {"input": 1, "output": 4}})
    assert not can_afford([path], dear, MODEL, [{"prompt_tokens": 5}])
    with pytest.raises(InvalidInputError, match=r"prices\['my-own'\] has no price for all tokens"):
        estimate([path], endpoint=CHAT, model="my-own", prices={"my-own": {"input": 1}})


@pytest.mark.parametrize(
    ("prices", "named"),
    [
        ([], "prices=[]"),
        ({"": {"input": 1}}, "not the name of a model"),
        ({1: {"input": 1}}, "not the name of a model"),
        ({"m": {}}, "prices['m']={} has no prices"),
        ({"m": 1}, "prices['m']=1 has no prices"),
        ({"m": {"inputs": 1}}, "'inputs' is not known: use one of input, output, cached"),
        ({"m": {"input": -1}}, "prices['m']['input']=-1"),
        ({"m": {"input": True}}, "prices['m']['input']=True"),
        ({"m": {"input": "1"}}, "prices['m']['input']='1'"),
        ({"m": {"input": float("nan")}}, "=nan"),
        ({"m": {"input": float("inf")}}, "=inf"),
    ],
)
def test_bad_prices_are_named(prices: Any, named: str) -> None:
    with pytest.raises(InvalidInputError) as raised:
        check_prices(prices)
    assert named in str(raised.value)


@pytest.mark.parametrize("prices", [None, {}, {"m": OWN}])
def test_good_prices(prices: Any) -> None:
    check_prices(prices)


SYSTEM = "Answer in one word."
REVIEWS = [{"id": 1, "body": "The zip broke."}, {"id": 2, "body": "Great colour."}]
#: What `estimate_cost` is asked, and the rows that a batch would send.
ASKED: list[tuple[dict[str, Any], list[dict[str, Any]]]] = [
    ({"requests": ["one", "two"], "max_tokens": 10}, [chat("one"), chat("two")]),
    ({"requests": [{"custom_id": "a", "body": chat("one")}]}, [chat("one")]),
    (
        {"requests": ["one"], "system": SYSTEM, "max_tokens": 10},
        [chat("one") | {"messages": [{"role": "system", "content": SYSTEM}, *chat("one")["messages"]]}],
    ),
    (
        {"source": REVIEWS, "key": "id", "prompt": "Mood? {body}", "max_tokens": 10},
        [chat(f"Mood? {review['body']}") for review in REVIEWS],
    ),
    (
        {"requests": ["one"], "max_tokens": 10, "response_model": {"type": "object", "title": "Word"}},
        [
            chat(
                "one",
                response_format={
                    "type": "json_schema",
                    "json_schema": {
                        "name": "Word",
                        "schema": {"type": "object", "title": "Word"},
                        "strict": True,
                    },
                },
            )
        ],
    ),
]


@pytest.mark.parametrize(("asked", "bodies"), ASKED)
def test_a_user_gets_the_estimate_that_the_limit_is_compared_with(
    asked: dict[str, Any], bodies: list[dict[str, Any]], tmp_path: Path
) -> None:
    cost = estimate_cost(**asked, model=MODEL)
    assert cost == estimate([file_of(tmp_path, *bodies)], endpoint=CHAT, model=MODEL)
    assert cost.requests == len(bodies)


def test_a_user_estimates_request_files(tmp_path: Path) -> None:
    path = file_of(tmp_path, chat("one", model=MODEL))
    cost = estimate_cost(path=str(path))
    assert cost == estimate([path], endpoint=CHAT, model=MODEL)
    assert estimate_cost(path=f"file://{path}") == estimate_cost(path=[f"file://{path}"]) == cost
    assert (
        str(cost)
        == f"about {us_dollars(cost.usd)}, for {cost.prompt_tokens} prompt tokens and at most 10 completion tokens"
    )


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (
            {"requests": ["one"]},
            "the cost cannot be estimated: prices depend on the model, and none is named: pass model",
        ),
        ({"requests": ["one"], "model": MODEL}, "so its cost has no upper bound: set max_tokens"),
        (
            {"requests": ["https://a.b/c.pdf"], "model": "mistral-ocr-latest", "endpoint": "/v1/ocr"},
            "the cost cannot be estimated: the cost of /v1/ocr depends on documents",
        ),
        ({"requests": ["one"], "path": "x", "model": MODEL}, "requests and path are both given"),
        ({"source": REVIEWS, "model": MODEL}, "belongs to a table"),
        ({"requests": ["one"], "prices": 1}, "prices=1 is not a dict"),
    ],
)
def test_a_user_is_told_why_there_is_no_estimate(asked: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidInputError) as raised:
        estimate_cost(**asked)
    assert says in str(raised.value)
    assert "max_cost_usd" not in str(raised.value)
