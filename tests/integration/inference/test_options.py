"""Sources, formats, costs, cleanup, other servers; and bad input, of which nothing is sent."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from pydantic import BaseModel

from airflow_provider_mistral_batch.inference.batch import Batch
from airflow_provider_mistral_batch.results import read_results


class Form(BaseModel):
    name: str


BAD_OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "no requests at all": ({"requests": None}, "requests and path are both missing"),
    "requests and path": ({"requests": ["a"], "path": "x"}, "requests and path are both given"),
    "empty requests": ({"requests": []}, "requests"),
    "a text": ({"requests": "row"}, "requests='row' is not a list"),
    "a row without body": ({"requests": [{"custom_id": "a"}]}, "body"),
    "one id twice": ({"requests": [{"custom_id": "a", "body": {}}] * 2}, "custom_id"),
    "another endpoint's row": ({"requests": [{"url": "/v1/ocr", "body": {}}]}, "url"),
    "no such file": ({"path": "/no/such/file.jsonl"}, "/no/such/file.jsonl"),
    "empty path": ({"path": " "}, "path"),
    "endpoint": ({"endpoint": "/v1/chat"}, "endpoint='/v1/chat'"),
    "window": ({"completion_window": "1w"}, "completion_window='1w'"),
    "window twice": ({"completion_window": "1d", "timeout_hours": 24}, "timeout_hours=24"),
    "hours": ({"timeout_hours": 200}, "timeout_hours=200"),
    "metadata value": ({"metadata": {"a": ""}}, "metadata['a']"),
    "metadata of ours": ({"metadata": {"airflow_key": "x"}}, "airflow_key"),
    "model and agent": ({"agent_id": "ag"}, "agent_id='ag'"),
    "another model in the rows": (
        {"requests": [{"body": {"model": "mistral-large-latest", "messages": []}}]},
        "the requests name 'mistral-large-latest'",
    ),
    "no tokens": ({"max_tokens": -5}, "max_tokens=-5 is not a whole number of 0 or more"),
    "half a token": ({"max_tokens": 0.5}, "max_tokens=0.5"),
    "a template for tokens": ({"max_tokens": "{{ n }}"}, "max_tokens='{{ n }}'"),
    "temperature": ({"temperature": 9}, "temperature=9 is not a number between 0 and 1.5"),
    "temperature of a text": ({"temperature": "hot"}, "temperature='hot'"),
    "a parameter": ({"parameters": {"top_p": 2}}, "parameters['top_p']=2"),
    "a parameter of text": ({"parameters": {"random_seed": "x"}}, "parameters['random_seed']='x'"),
    "a parameter that is no switch": ({"parameters": {"safe_prompt": "maybe"}}, "['safe_prompt']='maybe'"),
    "within completion_args": (
        {"endpoint": "/v1/conversations", "parameters": {"completion_args": {"max_tokens": -1}}},
        "parameters['completion_args']['max_tokens']=-1",
    ),
    "a parameter's name": ({"parameters": {"{{ x }}": 1}}, "'{{ x }}'"),
    "parameters": ({"parameters": "top_p"}, "parameters='top_p' is not a dict"),
    "response_format": ({"response_format": "json"}, "response_format='json' is not a dict"),
    "its type": ({"response_format": {"type": "json"}}, "response_format['type']='json'"),
    "a switch": ({"cancel_on_timeout": "no"}, "cancel_on_timeout='no' is not a bool"),
    "relative destination": ({"destination": "out/today"}, "destination='out/today' is a relative path"),
    "a home": ({"destination": "~/out"}, "destination='~/out' is a relative path"),
    "relative path object": ({"destination": Path("out")}, "destination='out' is a relative path"),
    "relative path": ({"path": "in.jsonl"}, "path='in.jsonl' is a relative path"),
    "ratio": ({"max_failed_ratio": 2}, "max_failed_ratio=2"),
    "row_retries": ({"row_retries": -1}, "row_retries=-1"),
    "output_format": ({"output_format": "csv"}, "output_format='csv'"),
    "if_exists": ({"if_exists": "append"}, "if_exists='append'"),
    "delete_files": ({"delete_files": "always"}, "delete_files='always'"),
    "poll_interval": ({"poll_interval": 0}, "poll_interval=0"),
    "timeout": ({"timeout": -1}, "timeout=-1"),
    "max_pending_requests": ({"max_pending_requests": 0}, "max_pending_requests=0"),
    "max_cost_usd": ({"max_cost_usd": 0}, "max_cost_usd=0"),
    "form": ({"response_model": "Book"}, "response_model='Book'"),
    "no schema": ({"response_model": {"type": "thing"}}, "response_model"),
    "form of embeddings": ({"response_model": Form, "endpoint": "/v1/embeddings"}, "response_model"),
    "form twice": ({"response_model": Form, "response_format": {"type": "json_object"}}, "response_format"),
    "reask without form": ({"reask_invalid": True}, "reask_invalid"),
    "system for embeddings": ({"system": "Hi", "endpoint": "/v1/embeddings"}, "system"),
    "price unknown": ({"max_cost_usd": 1, "model": "my-own"}, "model 'my-own'"),
    "no bound": ({"max_cost_usd": 1, "max_tokens": None}, "max_tokens"),
    "no estimate": ({"max_cost_usd": 1, "endpoint": "/v1/ocr", "max_tokens": None}, "/v1/ocr"),
    "too expensive": ({"max_cost_usd": 0.000001}, "Nothing was sent"),
}


@pytest.mark.parametrize(("options", "named"), BAD_OPTIONS.values(), ids=BAD_OPTIONS)
def test_bad_input_names_the_field_and_sends_nothing(
    options: dict[str, Any], named: str, airflow: Any, batch: Any, sent: Any, out: Path
) -> None:
    outcome = airflow.run(batch(**options))
    assert outcome.state == "failed"
    assert named in outcome.message
    assert sent() == 0
    assert not out.exists() or list(out.iterdir()) == []


def test_files_compressed_or_not_by_glob(
    airflow: Any, batch: Any, tmp_path: Path, rows_of: Any, way: dict[str, Any]
) -> None:
    def row(id_: str) -> bytes:
        body = {"messages": [{"role": "user", "content": id_}]}
        return json.dumps({"custom_id": id_, "body": body}).encode() + b"\n"

    (tmp_path / "in-1.jsonl").write_bytes(row("a") + row("b"))
    (tmp_path / "in-2.jsonl.gz").write_bytes(gzip.compress(row("c")))
    outcome = airflow.run(batch(path=f"{tmp_path}/in-*", **way))
    assert outcome.state == "success", outcome.message
    assert set(rows_of(outcome.value["results_path"])) == {"a", "b", "c"}


def test_a_source_that_is_gone_after_the_deferral_is_not_missed(
    airflow: Any, batch: Any, tmp_path: Path, control: Any, jobs: Any, rows_of: Any, at_deferral: Any
) -> None:
    control.plan_jobs(missing_rows=1)
    source = tmp_path / "in.jsonl"
    source.write_text('{"custom_id": "a", "body": {"messages": [{"role": "user", "content": "x"}]}}\n')
    at_deferral(lambda: source.unlink(missing_ok=True))
    outcome = airflow.run(batch(path=str(source), deferrable=True))
    assert outcome.state == "success", outcome.message
    assert len(jobs()) == 2
    assert set(rows_of(outcome.value["results_path"])) == {"a"}


@pytest.mark.parametrize("failed_rows", [0, 2])
def test_parquet(failed_rows: int, airflow: Any, batch: Any, out: Path, control: Any) -> None:
    pytest.importorskip("pyarrow")
    control.plan_jobs(failed_rows=failed_rows)
    outcome = airflow.run(batch(output_format="parquet"))
    assert outcome.state == "success", outcome.message
    rows = list(read_results(outcome.value))
    assert sorted(row.custom_id or "" for row in rows) == [f"row-{number}" for number in range(1, 6)]
    assert all(row.content for row in rows)
    assert sorted(path.name for path in out.iterdir()) == [
        "errors.parquet",
        "manifest.json",
        "results.parquet",
    ]


def test_costs_are_in_the_manifest(airflow: Any, batch: Any) -> None:
    outcome = airflow.run(batch(max_cost_usd=1))
    usage = outcome.value["usage"]
    # Half of the list price of 0.15 and 0.6 dollars a million tokens, which may change with genai-prices.
    assert 0 < outcome.value["estimated_cost_usd"] < usage["total_tokens"] / 1e6 * 10


def test_without_the_extra_there_is_no_price_but_all_else(
    airflow: Any, batch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    outcome = airflow.run(batch())
    assert outcome.state == "success", outcome.message
    assert outcome.value["estimated_cost_usd"] is None


@pytest.mark.parametrize("package", ["genai_prices", "mistral_common.tokens.tokenizers.mistral"])
def test_without_the_extra_a_limit_is_refused(
    package: str, airflow: Any, batch: Any, sent: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    outcome = airflow.run(batch(max_cost_usd=1))
    assert outcome.state == "failed"
    assert "airflow-provider-mistral-batch[costs]" in outcome.message
    assert sent() == 0


def files_left(hook: Any) -> int:
    return len(hook.list_files().data)


def test_files_are_kept_by_default(airflow: Any, batch: Any, hook: Any) -> None:
    airflow.run(batch())
    assert files_left(hook) == 2


def test_files_are_deleted_once_all_is_landed(
    airflow: Any, new_ti: Any, batch: Any, hook: Any, control: Any, sent: Any, way: dict[str, Any]
) -> None:
    control.plan_jobs(failed_rows=2)
    ti = new_ti()
    outcome = airflow.run(batch(delete_files="on_success", **way), ti)
    assert outcome.state == "success", outcome.message
    assert files_left(hook) == 0
    # And still a clear gives the same.
    before = sent()
    again = airflow.run(batch(delete_files="on_success", **way), ti.next_try())
    assert again.value == outcome.value
    assert sent() == before


def test_files_are_kept_when_the_task_fails(airflow: Any, batch: Any, hook: Any, control: Any) -> None:
    control.plan_jobs(failed_rows="all", failed_statuses=[400])
    outcome = airflow.run(batch(delete_files="on_success"))
    assert outcome.state == "failed"
    assert files_left(hook) == 2


def test_files_that_cannot_be_deleted_do_not_fail_the_task(
    airflow: Any, batch: Any, hook: Any, control: Any
) -> None:
    control.fault("status", "DELETE", "/v1/files/*", status=403, times=None)
    outcome = airflow.run(batch(delete_files="on_success"))
    assert outcome.state == "success"


def test_through_a_gateway_that_speaks_the_openai_dialect(
    airflow: Any,
    batch: Any,
    connect: Any,
    hook: Any,
    control: Any,
    jobs: Any,
    rows_of: Any,
    way: dict[str, Any],
) -> None:
    connect(dialect="openai", default_model="mistral-small-latest")
    control.plan_jobs(failed_rows=2)
    outcome = airflow.run(batch(model=None, **way))
    assert outcome.state == "success", outcome.message
    assert len(rows_of(outcome.value["results_path"])) == 5
    assert outcome.value["estimated_cost_usd"] > 0
    first = json.loads(hook.download_file(jobs()[0]["input_files"][0]).splitlines()[0])
    assert first["url"] == "/v1/chat/completions"
    assert first["body"]["model"] == "mistral-small-latest"


@pytest.mark.parametrize(
    ("endpoint", "model", "rows"),
    [
        ("/v1/embeddings", "mistral-embed", [{"body": {"input": ["a", "b"]}}, "c"]),
        ("/v1/ocr", "mistral-ocr-latest", ["https://example.com/a.pdf"]),
        ("/v1/moderations", "mistral-moderation-latest", ["Is this all right?"]),
    ],
)
def test_other_endpoints(endpoint: str, model: str, rows: list[Any], airflow: Any, batch: Any) -> None:
    outcome = airflow.run(batch(endpoint=endpoint, model=model, requests=rows, max_tokens=None))
    assert outcome.state == "success", outcome.message
    assert outcome.value["counts"]["succeeded"] == len(rows)


def test_files_that_a_dead_try_has_left_are_deleted_by_the_next(
    airflow: Any, new_ti: Any, batch: Any, hook: Any
) -> None:
    ti = new_ti()
    with mock.patch.object(Batch, "clean_up", return_value=None):
        assert airflow.run(batch(delete_files="on_success"), ti).state == "success"
    assert files_left(hook) == 2
    assert airflow.run(batch(delete_files="on_success"), ti.next_try()).state == "success"
    assert files_left(hook) == 0


def test_a_file_that_is_gone_does_not_keep_the_others(airflow: Any, batch: Any, hook: Any) -> None:
    clean_up = Batch.clean_up

    def one_is_gone(at_work: Batch, batch_ids: Any) -> None:
        hook.delete_file(hook.get(batch_ids[0]).input_file_id)
        clean_up(at_work, batch_ids)

    with mock.patch.object(Batch, "clean_up", one_is_gone):
        assert airflow.run(batch(delete_files="on_success")).state == "success"
    assert files_left(hook) == 0


def test_results_that_were_deleted_from_the_account_say_what_to_do(
    airflow: Any, new_ti: Any, batch: Any, out: Path
) -> None:
    ti = new_ti()
    assert airflow.run(batch(delete_files="on_success"), ti).state == "success"
    shutil.rmtree(out)
    outcome = airflow.run(batch(delete_files="on_success"), ti.next_try())
    assert outcome.state == "failed"
    assert "force_new=True" in outcome.message


def test_a_limit_bounds_all_rounds_together(
    airflow: Any, batch: Any, jobs: Any, logged: Any, new_ti: Any, tmp_path: Path
) -> None:
    # No answer has this form, so each is asked again.
    form = {
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "not": {"required": ["n"]},
        "required": ["n"],
    }
    options = {"response_model": form, "reask_invalid": True, "row_retries": 2, "max_tokens": 5}
    refused = airflow.run(batch(max_cost_usd=1e-9, **options))
    estimate = float(re.search(r"about \$([0-9.e-]+)", refused.message)[1])  # type: ignore[index]
    for index, (limit, rounds) in enumerate([(1, 3), (1.05 * estimate, 1)]):
        before = len(jobs())
        airflow.run(
            batch(max_cost_usd=limit, destination=tmp_path / str(index), **options), new_ti(map_index=index)
        )
        assert len(jobs()) - before == rounds
    assert any("no request is asked again" in line for line in logged())


def test_paths_from_a_mapped_task(airflow: Any, batch: Any, tmp_path: Path) -> None:
    class Lazy(Sequence[str]):
        """What Airflow gives for the output of a mapped task."""

        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: Any) -> Any:
            return [str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")][index]

    for name in "ab":
        body = {"messages": [{"role": "user", "content": name}]}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"custom_id": name, "body": body}) + "\n")
    outcome = airflow.run(batch(path=Lazy()))
    assert outcome.value["counts"]["succeeded"] == 2
